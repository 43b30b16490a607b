"""Keeps table `latest` a fraction of a second behind the commits, under full load some seconds.

One process at a time does it.
"""

from __future__ import annotations

import asyncio
import time

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from telemetry.store import latest
from telemetry.store.pool import Pool
from telemetry.waiting import pause

_log = structlog.get_logger()
REST_SECONDS = (0.2, 2.0)  # least and most between two steps
SHARE = 0.04  # of the time, at most, when commits are many
RETRY_SECONDS = 2.0


async def keep_latest(pool: Pool, drained: asyncio.Event) -> None:
    """Follow the lanes until `drained` is set, and then once more while the database answers."""
    answers, rest = True, 0.0
    while not drained.is_set():
        await pause(rest, until=drained)
        if answers or not drained.is_set():
            answers, rest = await _step(pool)


async def _step(pool: Pool) -> tuple[bool, float]:
    """One step; whether the database answered, and the seconds to rest."""
    started = time.perf_counter()
    try:
        async with pool.connection() as connection:
            await latest.step(connection)
    except (psycopg.OperationalError, PoolTimeout) as error:
        _log.debug("latest_waits", error=" ".join(str(error).split()))
        return False, RETRY_SECONDS
    except Exception:
        _log.exception("latest_failed")
        return False, RETRY_SECONDS
    least, most = REST_SECONDS
    return True, min(max((time.perf_counter() - started) / SHARE, least), most)
