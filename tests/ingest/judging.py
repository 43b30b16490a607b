"""Stations with checks, the job that judges, and what ought to be stored: from the readings alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ingest.increments import IncrementJob
from ingest.quality_job import QualityJob
from ingest.recalibrate import Recalibrator
from telemetry.model import RawMessage
from telemetry.settings import StoreSettings
from telemetry.store.flags import unpack
from telemetry.store.pool import Pool, async_pool
from tests.ingest.reference import judge
from tests.ingest.says_json import frame

Database = psycopg.Connection[dict[str, Any]]
LEVEL = {"field": "level", "metric": "water.level"}
TIPS = {"field": "tips", "metric": "rain.total", "scale": 0.2, "wraps": 256}
SPIKE = {"spike": {"suspect": 1, "fail": 3}, "rate_of_change": None}


def level(minutes: float, value: float, key: str = "", **more: Any) -> RawMessage:
    return frame(f"{minutes} {value} {key}", minutes, {"level": value}, **more)


def asks(**checks: Any) -> dict[str, Any]:
    return {"metrics": {"water.level": checks}}


def found(database: Database) -> list[dict[str, str]]:
    rows = database.execute("SELECT tests FROM reading ORDER BY device_id, time, value").fetchall()
    return [{check.word: outcome.name for check, outcome in unpack(row["tests"]).items()} for row in rows]


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
    """For a test that opens one in a loop of its own."""
    return async_pool(StoreSettings(database_url=url), application="test")


__all__ = [
    "LEVEL",
    "SPIKE",
    "TIPS",
    "asks",
    "catch_up",
    "flags",
    "found",
    "level",
    "marks",
    "opened",
    "override",
    "stand",
    "wrong",
]
