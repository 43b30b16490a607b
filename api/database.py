"""The kind of connection every query of this room runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from telemetry.store.pool import DictRow

T = TypeVar("T")

Connection = psycopg.AsyncConnection[DictRow]
"""Asynchronous, in autocommit, rows as dictionaries: changes go inside ``async with db.transaction()``."""

# Who finds no connection in this time is told to come back; the pool's own limit is longer.
CONNECTION_SECONDS = 3.0

_left_behind: set[asyncio.Task[Any]] = set()


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. A database that neither answers nor says no is not waited for any longer.

    Cancelling a query first asks the server, which may be what hangs: so that is left to run its course.

    Raises:
        PoolTimeout: it is not there within `seconds`.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            _left_behind.add(task)
            task.add_done_callback(_forget)
    if not task.done():
        raise PoolTimeout(f"no answer within {seconds} s")
    return task.result()


def _forget(task: asyncio.Task[Any]) -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()  # nobody waits for it any more
