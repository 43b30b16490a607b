"""Work that comes back: a worker of the process, run in a thread again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from telemetry.waiting import pause

_log = structlog.get_logger()
RETRY_SECONDS = 3.0


async def repeat(
    name: str,
    work: Callable[[], object],
    seconds: float,
    stop: asyncio.Event,
    due: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    """Run `work` every so many `seconds` until `stop` is set; what goes wrong is told and tried again.

    `due`, if given, looks first whether there is any: `work` may need a connection of its own.
    """
    while not stop.is_set():
        rest = seconds
        try:
            if due is None or await due():
                await asyncio.to_thread(work)
        except (psycopg.Error, PoolTimeout) as error:
            rest = min(seconds, RETRY_SECONDS)
            _log.debug("work_waits", work=name, error=" ".join(str(error).split()))
        except Exception:
            rest = max(seconds, RETRY_SECONDS)
            _log.exception("work_failed", work=name)
        await pause(rest, until=stop)
