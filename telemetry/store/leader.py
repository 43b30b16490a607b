"""One process at a time, for as long as it likes: a lock that a transaction of its own holds.

A lock of the session would be lost behind a pooler. The open transaction holds no snapshot between its
statements, so it keeps vacuum from nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from .pool import UNLIMITED, Pool, limit

# Its program may be busy elsewhere for hours.
_AS_LONG_AS_IT_TAKES = "SET LOCAL idle_in_transaction_session_timeout = 0"


class Leader:
    """Holds the lock until its context ends, or its connection does."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def check(self) -> None:
        """Raises `psycopg.OperationalError` when the lock is gone, and somebody else may hold it."""
        await self._connection.execute("SELECT")


@asynccontextmanager
async def leading(pool: Pool, key: int) -> AsyncIterator[Leader | None]:
    """Over a connection of the pool; None while another process holds the lock of this key."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(_AS_LONG_AS_IT_TAKES)
        cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS mine", (key,))
        row = await cursor.fetchone()
        yield Leader(connection) if row and row["mine"] else None


def hold(connection: psycopg.Connection[Any], key: int) -> None:
    """Wait for the lock and hold it until the transaction of this connection ends."""
    limit(connection, UNLIMITED)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (key,))


def try_to_hold(connection: psycopg.Connection[Any], key: str) -> bool:
    """Hold the lock of this name until the transaction of this connection ends; False: somebody else does."""
    connection.execute(_AS_LONG_AS_IT_TAKES)
    row = connection.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (key,)).fetchone()
    return bool(row and row[0])
