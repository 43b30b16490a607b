"""What changes stored readings does so in the columnstore of TimescaleDB Community, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL

from ingest import increment_store, quality_store
from ingest.recalibrate import Recalibrator
from telemetry.clock import from_micros
from telemetry.settings import StoreSettings
from telemetry.store import logged, superseded
from telemetry.store.edition import Edition, detect
from telemetry.store.lanes import READING_DTYPE, Readings, with_raw
from telemetry.store.policies import set_layouts
from telemetry.store.pool import Pool, async_pool, connect
from telemetry.store.writer import copy_readings

_FIRST = 1_770_000_000_000_000  # µs
_STEP = 600_000_000
_DEVICES, _TIMES = 150, 800  # more rows than TimescaleDB unpacks in one transaction unless told to


@pytest.fixture
def stored(database_url: str) -> Any:
    """Readings of many series, all in the columnstore."""
    rows = [
        (_FIRST + n * _STEP, float(n % 9), n + 1, device, 1, 0, 1)
        for n in range(_TIMES)
        for device in range(1, _DEVICES + 1)
    ]
    readings = np.array(rows, READING_DTYPE)
    with connect(database_url, application="tests", autocommit=True) as connection:
        if detect(connection) is not Edition.COMMUNITY:
            pytest.skip("only TimescaleDB Community has a columnstore")
        with connection.cursor() as cursor:
            list(set_layouts(cursor))
            copy_readings(cursor, readings)
        connection.execute("SELECT compress_chunk(c) FROM show_chunks('reading') c")
    return readings


@pytest.fixture
async def pool(database_url: str, stored: Readings) -> AsyncIterator[Pool]:
    async with async_pool(StoreSettings(database_url=database_url), application="test") as opened:
        yield opened


def _held(database: psycopg.Connection[dict[str, Any]], condition: str = "true") -> Any:
    row = database.execute(f"SELECT count(*) AS n FROM reading WHERE {condition}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row["n"]


def test_readings_make_room_for_others(
    database_url: str, stored: Readings, database: psycopg.Connection[dict[str, Any]]
) -> None:
    gone = stored[:_DEVICES]  # one of each series
    keys = [((int(r["device_id"]), 1, 0, int(r["time"])), int(r["uplink_id"])) for r in gone]
    with connect(database_url, application="tests") as connection, connection.cursor() as cursor:
        logged.make_room(cursor, logged.Decision(stored[:0], keys, {}), {})
    assert _held(database) == len(stored) - _DEVICES
    mine = stored[stored["device_id"] == 7][1:]
    with connect(database_url, application="tests") as connection, connection.cursor() as cursor:
        superseded.remove(cursor, 7, with_raw(mine))
        copy_readings(cursor, mine[:100])
    assert _held(database, "device_id = 7") == 100


async def test_increments_are_replaced(
    pool: Pool, stored: Readings, database: psycopg.Connection[dict[str, Any]]
) -> None:
    gone = stored[_DEVICES : 2 * _DEVICES]
    fresh = gone.copy()
    fresh["value"] = 77
    async with pool.connection() as connection, connection.transaction():
        await increment_store.replace(connection, with_raw(gone), fresh)
    assert (_held(database), _held(database, "value = 77")) == (len(stored), _DEVICES)


async def test_a_calibration_corrects_them(
    pool: Pool, stored: Readings, database: psycopg.Connection[dict[str, Any]]
) -> None:
    database.execute("INSERT INTO device (id, dev_eui) VALUES (3, '0000000000000003')")
    database.execute(
        "INSERT INTO calibration (device_id, metric_id, channel, valid_from, definition)"
        """ VALUES (3, 1, 0, %s, '{"gain": 2, "offset": 1}')""",
        (from_micros(_FIRST),),
    )
    while await Recalibrator(pool, writer="calibrate").step():
        pass
    assert _held(database, "device_id = 3 AND value = raw * 2 + 1") == _TIMES
    assert _held(database, "raw IS NOT NULL") == _TIMES


async def test_tests_flag_them(
    pool: Pool, stored: Readings, database: psycopg.Connection[dict[str, Any]]
) -> None:
    """One old reading unpacks no other series, and one of every series is not too much."""
    doubted = stored[:_DEVICES].copy()
    doubted["quality"] = 3
    async with pool.connection() as connection, connection.transaction():
        await quality_store.write(connection, doubted[:1], np.full(1, 64, np.int32))
    chunks = database.execute("SELECT c::text AS name FROM show_chunks('reading') c").fetchall()
    unpacked = 0
    for chunk in chunks:
        row = database.execute(SQL("SELECT count(*) AS n FROM ONLY {}").format(SQL(chunk["name"]))).fetchone()
        assert row is not None
        unpacked += row["n"]
    assert 0 < unpacked <= 1000, "of its own series, one batch"
    async with pool.connection() as connection, connection.transaction():
        await quality_store.write(connection, doubted, np.full(len(doubted), 64, np.int32))
    assert _held(database, "quality = 3 AND tests = 64") == _DEVICES
    assert _held(database) == len(stored)
