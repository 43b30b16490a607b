"""The newest readings, where some replace others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from telemetry.store import lanes, latest
from telemetry.store.writer import copy_readings
from tests.ingest.store import keep_latest

Database = psycopg.Connection[dict[str, Any]]
TIME = 1_790_000_000_000_000


def rows(time: int, value: float, quality: int = 1) -> lanes.Readings:
    return np.array([(TIME + time, value, 1, 1, 1, 0, quality)], lanes.READING_DTYPE)


def put(database: Database, lane: str, readings: lanes.Readings, replaced: int = 0) -> None:
    with database.transaction(), psycopg.Cursor(database) as cursor:
        lanes.commit_batch(cursor, lane, readings, replaced=replaced)


def stored(database: Database, readings: lanes.Readings) -> None:
    with database.transaction(), psycopg.Cursor(database) as cursor:
        cursor.execute("TRUNCATE reading")
        copy_readings(cursor, readings)


def newest(database: Database) -> tuple[datetime | None, Any]:
    row = database.execute("SELECT newest, readings FROM latest").fetchone()
    assert row is not None
    return row["newest"], row["readings"]


async def test_what_was_replaced_does_not_come_back(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch may wait on another lane behind more than one step takes."""
    monkeypatch.setattr(latest, "BATCHES", 1)
    for batch in (rows(0, 1.0), rows(1, 2.0), rows(5, 9.0)):
        put(database, "busy", batch)
    stored(database, rows(5, 3.0))
    put(database, "quick", rows(5, 3.0), replaced=1)
    await keep_latest(database_url)
    assert newest(database)[1] == {"1:0": [TIME + 5, 3, 1]}


async def test_two_lanes_that_wait_for_each_other_both_move(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest, "BATCHES", 2)
    stored(database, rows(9, 4.0))
    for n in range(6):
        put(database, "ab"[n % 2], rows(n, 1.0), replaced=1)
    await keep_latest(database_url)
    assert newest(database)[1] == {"1:0": [TIME + 9, 4, 1]}
    left = database.execute("SELECT sum(lane.seq - c.seq) AS n FROM lane JOIN follower_cursor c ON lane = id")
    assert left.fetchone() == {"n": 0}


async def test_many_small_commits_are_one_step(database: Database, database_url: str) -> None:
    """Else the table falls behind without end, where a writer commits some hundred times a second."""
    for n in range(300):
        put(database, "w", rows(n, float(n)))
    connecting = psycopg.AsyncConnection.connect(database_url, row_factory=dict_row, autocommit=True)
    async with await connecting as connection:
        assert await latest.step(connection) == 300
    assert newest(database)[1] == {"1:0": [TIME + 299, 299, 1]}


async def test_a_series_that_is_gone_is_gone(database: Database, database_url: str) -> None:
    put(database, "w", rows(0, 1.0))
    await keep_latest(database_url)
    assert newest(database)[0] == datetime.fromtimestamp(TIME / 1e6, UTC)
    put(database, "w", rows(0, 0.0, quality=9), replaced=2)
    await keep_latest(database_url)
    assert newest(database) == (None, {})
