"""Keeps table `latest` a fraction of a second behind the commits, under full load some seconds.

One process at a time does it.
"""

from __future__ import annotations

import asyncio
import time

from telemetry.store import latest
from telemetry.store.pool import Pool
from telemetry.waiting import pause

from .repeat import Trouble

REST_SECONDS = (0.2, 5.0)  # least and most between two steps; the most at some 10,000 frames a second
SHARE = 0.04  # of the time, at most, when commits are many
AFTER_TROUBLE_SECONDS = 2.0


async def keep_latest(pool: Pool, drained: asyncio.Event) -> None:
    """Follow the lanes until `drained` is set, and then once more while the database answers."""
    answers, rest = True, 0.0
    trouble = Trouble("latest", AFTER_TROUBLE_SECONDS)
    while not drained.is_set():
        await pause(rest, until=drained)
        if answers or not drained.is_set():
            answers, rest = await _step(pool, trouble)


async def _step(pool: Pool, trouble: Trouble) -> tuple[bool, float]:
    """One step; whether the database answered, and the seconds to rest."""
    started = time.perf_counter()
    try:
        async with pool.connection() as connection:
            await latest.step(connection)
    except Exception as error:
        return False, trouble.rest_after(error)
    trouble.over()
    least, most = REST_SECONDS
    return True, min(max((time.perf_counter() - started) / SHARE, least), most)
