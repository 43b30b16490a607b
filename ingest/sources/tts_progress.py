"""How far an application's storage was read, in `backfill_cursor`, and which gaps that covers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg

from telemetry.store.leader import try_to_hold

Connect = Callable[[], "psycopg.Connection[Any]"]

_UNTIL = "SELECT until FROM backfill_cursor WHERE source = %s"
_SAVE = """
    INSERT INTO backfill_cursor (source, until) VALUES (%s, %s)
    ON CONFLICT (source) DO UPDATE SET until = greatest(backfill_cursor.until, excluded.until)
"""
_OLDEST_GAP = "SELECT min(began_at) FROM ingest_gap WHERE backfilled_at IS NULL"
_CLOSE_GAPS = """
    WITH read AS (
        SELECT min(until) AS until FROM backfill_cursor WHERE source = ANY(%(sources)s)
        HAVING count(*) = %(number)s
    )
    UPDATE ingest_gap SET backfilled_at = %(now)s FROM read
    WHERE backfilled_at IS NULL AND ended_at <= read.until
"""
_OPEN_GAP = """
    SELECT true FROM ingest_gap JOIN backfill_cursor ON source = %s AND ended_at > until
    WHERE backfilled_at IS NULL LIMIT 1
"""


class Progress:
    """Of one application, over a connection of its own; every method is a transaction.

    All that the server received before `until` was read, so a gap that ended before it is filled.
    The methods raise `psycopg.Error`.
    """

    def __init__(self, connect: Connect, source: str) -> None:
        self._connect = connect
        self._source = source
        self._connection: psycopg.Connection[Any] | None = None
        self._guard: psycopg.Connection[Any] | None = None
        # One thread, so that a statement under way when its caller is cancelled ends before the connection.
        self._thread = ThreadPoolExecutor(1, "tts-progress")

    async def lock(self) -> bool:
        """Until `close`. False: another process reads this application just now."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._lock)

    async def until(self) -> datetime | None:
        """None: it was never read."""
        found: datetime | None = await self._value(_UNTIL, (self._source,))
        return found

    async def oldest_gap(self) -> datetime | None:
        """When the oldest gap began that nobody filled."""
        found: datetime | None = await self._value(_OLDEST_GAP, ())
        return found

    async def save(self, until: datetime) -> None:
        await self._value(_SAVE, (self._source, until))

    async def close_gaps(self, sources: Sequence[str], now: datetime) -> bool:
        """Mark the gaps that all these were read beyond; False: this one has not passed them all."""
        await self._value(_CLOSE_GAPS, {"sources": list(sources), "number": len(sources), "now": now})
        return not await self._value(_OPEN_GAP, (self._source,))

    def close(self) -> None:
        """Let go of connection and lock, as soon as nothing is under way."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    async def _value(self, statement: str, values: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._execute, statement, values
        )

    def _lock(self) -> bool:
        self._guard = self._connect()
        return try_to_hold(self._guard, self._source)

    def _execute(self, statement: str, values: Any) -> Any:
        if self._guard is not None:
            self._guard.execute("SELECT")  # raises when the lock is lost
        if self._connection is None:
            self._connection = self._connect()
        with self._connection.transaction():
            cursor = self._connection.execute(statement, values)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def _disconnect(self) -> None:
        for connection in (self._connection, self._guard):
            if connection is not None:
                connection.close()
