"""Stations with checks, the job that judges, and what ought to be stored: from the readings alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ingest.increments import IncrementJob
from ingest.quality_job import QualityJob
from ingest.recalibrate import Recalibrator
from telemetry.settings import StoreSettings
from telemetry.store.flags import unpack
from telemetry.store.pool import Pool, async_pool
from tests.ingest.reference import judge

Database = psycopg.Connection[dict[str, Any]]


def stand(database: Database, device_id: int, code: str, quality: dict[str, Any]) -> int:
    """Put the device at a station with these checks; returns the station's id."""
    row = database.execute(
        "INSERT INTO station (code, name, latitude, longitude, quality) VALUES (%s, %s, 10, 107, %s)"
        " ON CONFLICT (code) DO UPDATE SET quality = excluded.quality RETURNING id",
        (code, code, Jsonb(quality)),
    ).fetchone()
    assert row is not None
    database.execute("UPDATE device SET station_id = %s WHERE id = %s", (row["id"], device_id))
    return int(row["id"])


def override(
    database: Database, device_id: int, metric: str, start: datetime, end: datetime | None, quality: int
) -> None:
    database.execute(
        "INSERT INTO quality_override (device_id, metric_id, channel, valid_from, valid_to, quality, reason,"
        " created_by) SELECT %s, id, 0, %s, %s, %s, 'seen', 'somebody' FROM metric WHERE key = %s",
        (device_id, start, end, quality, metric),
    )


async def catch_up(pool: Pool) -> int:
    """Let all jobs that follow come to rest; how many rounds that took."""
    rounds = 0
    jobs = [IncrementJob(pool, writer="increments"), Recalibrator(pool, writer="calibrate"), QualityJob(pool)]
    worked = True
    while worked:
        worked, rounds = False, rounds + 1
        for job in jobs:
            while await job.step():
                worked = True
        assert rounds < 20, "they write to each other for ever"
    return rounds


def flags(database: Database, metric: str = "water.level") -> list[int]:
    rows = database.execute(
        "SELECT quality FROM reading WHERE metric_id = (SELECT id FROM metric WHERE key = %s)"
        " ORDER BY device_id, time, value",
        (metric,),
    ).fetchall()
    return [row["quality"] for row in rows]


def wrong(database: Database) -> list[Any]:
    """Readings whose flag or tests are not what the reference finds, with that; at best none."""
    return [
        (reading, flag, found)
        for reading, flag, found in judge(database)
        if (reading.quality, unpack(reading.tests)) != (flag, found)
    ]


def marks(database: Database) -> list[tuple[Any, ...]]:
    """Where rows lie in the table: they change with every write."""
    return sorted(
        tuple(row.values())
        for row in database.execute("SELECT tableoid::int8, ctid::text, xmin::text FROM reading").fetchall()
    )


def opened(url: str) -> Any:
    return async_pool(StoreSettings(database_url=url), application="test")


__all__ = [
    "catch_up",
    "flags",
    "marks",
    "opened",
    "override",
    "stand",
    "wrong",
]
