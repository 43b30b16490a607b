"""Work that comes back: a worker of the process, run in a thread again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import psycopg
import structlog

from telemetry.waiting import pause

from .faults import is_away

_log = structlog.get_logger()
RETRY_SECONDS = 3.0
MOST_RETRY_SECONDS = 60.0
_MOST_REST_SECONDS = 30.0


class Trouble:
    """What keeps one piece of work, that is done every so many `seconds`, from going on."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._least = max(seconds, RETRY_SECONDS)
        self._next = self._least

    def over(self) -> None:
        """The work went well."""
        self._next = self._least

    def rest_after(self, error: Exception) -> float:
        """Tell what went wrong; the seconds until it is tried again, more each time unless nobody answers."""
        text = " ".join(str(error).split())
        if is_away(error):
            _log.debug("work_waits", work=self._name, error=text)
            return RETRY_SECONDS
        rest, self._next = self._next, max(self._least, min(2 * self._next, MOST_RETRY_SECONDS))
        if isinstance(error, psycopg.OperationalError):
            _log.warning("work_held_up", work=self._name, error=text, retry_in=rest)
        else:
            _log.error("work_failed", work=self._name, exc_info=error)
        return rest


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
    trouble = Trouble(name, seconds)
    while not stop.is_set():
        rest = seconds
        try:
            if due is None or await due():
                await asyncio.to_thread(work)
            trouble.over()
        except Exception as error:
            rest = trouble.rest_after(error)
        await pause(rest, until=stop)


async def step_by_step(
    name: str, step: Callable[[], Awaitable[bool]], stop: asyncio.Event, *, share: float, idle: float
) -> None:
    """Run `step` again and again until `stop` is set, at most for this `share` of the time.

    It says whether there may be more to do; else it is asked again after `idle` seconds. What goes wrong is
    told and tried again.
    """
    trouble = Trouble(name, idle)
    while not stop.is_set():
        started = time.perf_counter()
        rest = idle
        try:
            if await step():
                rest = min((time.perf_counter() - started) * (1 / share - 1), _MOST_REST_SECONDS)
            trouble.over()
        except Exception as error:
            rest = trouble.rest_after(error)
        await pause(rest, until=stop)
