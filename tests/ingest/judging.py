"""Stations with checks, the job that judges, and what ought to be stored: from the readings alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from ingest import quality_store
from ingest.increments import IncrementJob
from ingest.quality_job import QualityJob
from ingest.quality_scope import Scope
from ingest.quality_store import STORED_DTYPE, Override, Site, Span
from ingest.recalibrate import Recalibrator
from telemetry.clock import micros
from telemetry.settings import StoreSettings
from telemetry.store.flags import NOTHING, base_flag
from telemetry.store.pool import Pool, async_pool

Database = psycopg.Connection[dict[str, Any]]

_EVERY = """
    SELECT device_id, metric_id, (extract(epoch FROM time) * 1000000)::int8 AS us, value, uplink_id, channel,
           quality, coalesce(tests, -1) AS tests FROM reading
"""


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


async def wrong(database: Database, url: str) -> list[Any]:
    """Readings whose flag or tests are not what the sorted readings say; at best none."""
    found = database.execute(_EVERY).fetchall()
    if not found:
        return []
    keys = {row["id"]: row["key"] for row in database.execute("SELECT id, key FROM metric").fetchall()}
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        sites: dict[int, Sequence[Site]] = await quality_store.read_sites(
            connection, {row["device_id"] for row in found}
        )
        groups = await quality_store.read_groups(connection, ["group"])
        said: list[Override] = await quality_store.read_overrides(connection, sites)
    ends = [row["us"] for row in found]
    series = {(row["device_id"], row["metric_id"]) for row in found}
    scope = Scope(keys, sites, groups, [Span(*one, min(ends), max(ends)) for one in series])
    places = {span[:2]: n for n, span in enumerate(scope.spans)}
    stored = np.array(
        [
            (places[row["device_id"], row["metric_id"]],
             *(row[name] for name in ("us", "value", "uplink_id", "channel", "quality", "tests")))
            for row in found
        ],
        STORED_DTYPE,
    )  # fmt: skip
    return list(scope.judge(stored, said).stored)


def marks(database: Database) -> list[tuple[Any, ...]]:
    """Where rows lie in the table: they change with every write."""
    return sorted(
        tuple(row.values())
        for row in database.execute("SELECT tableoid::int8, ctid::text, xmin::text FROM reading").fetchall()
    )


def opened(url: str) -> Any:
    return async_pool(StoreSettings(database_url=url), application="test")


__all__ = [
    "NOTHING",
    "base_flag",
    "catch_up",
    "flags",
    "marks",
    "micros",
    "opened",
    "override",
    "stand",
    "wrong",
]
