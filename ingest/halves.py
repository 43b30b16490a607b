"""Work on many spans of readings in one transaction, of which one that cannot be used costs only itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import psycopg
import structlog

from .faults import blames_content

_log = structlog.get_logger()


class OfDevice(Protocol):
    """A span of readings of one device."""

    @property
    def device_id(self) -> int: ...


S = TypeVar("S", bound=OfDevice)


async def by_halves(
    connection: psycopg.AsyncConnection[Any],
    spans: Sequence[S],
    work: Callable[[Sequence[S]], Awaitable[object]],
    skipped: str,
) -> None:
    """Do `work`; where the content of some span stops it, without that one, which the event `skipped` tells.

    Raises:
        psycopg.Error: the database is away or busy; what was done so far is the caller's to undo.
    """
    try:
        async with connection.transaction():
            await work(spans)
    except Exception as error:
        if not blames_content(error):
            raise
        if len(spans) == 1:
            _log.exception(skipped, device_id=spans[0].device_id)
            return
        for half in (spans[: len(spans) // 2], spans[len(spans) // 2 :]):
            await by_halves(connection, half, work, skipped)
