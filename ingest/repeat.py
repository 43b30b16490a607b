"""Work that comes back: a worker of the process, run in a thread again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import psycopg
import structlog

from telemetry.waiting import pause

_log = structlog.get_logger()
RETRY_SECONDS = 3.0
_MOST_REST_SECONDS = 30.0
# The database is away, busy or not migrated yet. Anything else it objects to is a fault of ours, to be seen.
_AWAITED = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.UndefinedTable)


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
        except Exception as error:
            rest = _rest_after(error, name, seconds)
        await pause(rest, until=stop)


async def step_by_step(
    name: str, step: Callable[[], Awaitable[bool]], stop: asyncio.Event, *, share: float, idle: float
) -> None:
    """Run `step` again and again until `stop` is set, at most for this `share` of the time.

    It says whether there may be more to do; else it is asked again after `idle` seconds. What goes wrong is
    told and tried again.
    """
    while not stop.is_set():
        started = time.perf_counter()
        rest = idle
        try:
            if await step():
                rest = min((time.perf_counter() - started) * (1 / share - 1), _MOST_REST_SECONDS)
        except Exception as error:
            rest = _rest_after(error, name, idle)
        await pause(rest, until=stop)


def _rest_after(error: Exception, name: str, seconds: float) -> float:
    """Tell what went wrong; how long to wait until it is tried again, where it is `seconds` as a rule."""
    if isinstance(error, _AWAITED):
        _log.debug("work_waits", work=name, error=" ".join(str(error).split()))
        return RETRY_SECONDS
    _log.error("work_failed", work=name, exc_info=error)
    return max(seconds, RETRY_SECONDS)
