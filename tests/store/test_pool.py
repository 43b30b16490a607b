"""The pool's connections: one that the server ended is replaced, and one that lives is not asked about."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool, async_pool


async def _session(pool: Pool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


@pytest.fixture
def pool(empty_database_url: str) -> Pool:
    return async_pool(StoreSettings(database_url=empty_database_url), application="test")


async def test_a_connection_that_the_server_ended_is_replaced(pool: Pool, empty_database_url: str) -> None:
    async with pool, await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as other:
        await pool.wait()  # who comes before the first connection is there makes the pool grow
        ended = await _session(pool)
        await other.execute("SELECT pg_terminate_backend(%s, 5000)", (ended,))
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
            assert connection.info.backend_pid != ended


async def test_a_connection_that_lives_costs_no_round_trip(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def check(connection: psycopg.AsyncConnection[Any]) -> None:
        asked.append(connection)

    monkeypatch.setattr(AsyncConnectionPool, "check_connection", check)
    async with pool:
        await pool.wait()
        assert await _session(pool) == await _session(pool)
    assert asked == []
