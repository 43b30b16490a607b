"""What waits to be corrected anew: rows of `calibration_job`, which every change of a calibration leaves."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row

from telemetry.catalogue import CATALOGUE

from .text import storable

Connection = psycopg.AsyncConnection[Any]

_NEXT = """
    SELECT job.id, device_id, metric_id, channel, valid_from, valid_to, reached
    FROM calibration_job job JOIN metric ON metric.id = metric_id
    WHERE state = 'waiting' AND (metric.key = ANY(%s)) = %s
    ORDER BY job.id LIMIT 1
    FOR NO KEY UPDATE OF job SKIP LOCKED
"""
_REACHED = """
    UPDATE calibration_job SET
        reached = coalesce(%(reached)s::timestamptz, reached), readings = readings + %(changed)s,
        state = CASE WHEN %(done)s::boolean THEN 'done' ELSE state END,
        finished_at = CASE WHEN %(done)s::boolean THEN now() END
    WHERE id = %(id)s
"""
_FAILED = "UPDATE calibration_job SET state = 'failed', finished_at = now(), error = %s WHERE id = %s"
_COUNTERS = [key for key, metric in CATALOGUE.items() if metric.kind == "counter"]


class Job(NamedTuple):
    """A span of a series; `reached` is the time up to which it is done."""

    id: int
    device_id: int
    metric_id: int
    channel: int
    valid_from: datetime
    valid_to: datetime | None
    reached: datetime | None


async def next_job(connection: Connection, *, counters: bool) -> Job | None:
    """The oldest job that waits and nobody else works at, locked; those of counters or all the others."""
    async with connection.cursor(row_factory=class_row(Job)) as cursor:
        await cursor.execute(_NEXT, (_COUNTERS, counters))
        return await cursor.fetchone()


async def reached(
    connection: Connection, job: Job, until: datetime | None, *, changed: int, done: bool
) -> None:
    """Note how far a job got, in the transaction of what it changed."""
    await connection.execute(_REACHED, {"reached": until, "changed": changed, "done": done, "id": job.id})


async def fail(connection: Connection, job: Job, error: Exception) -> None:
    await connection.execute(_FAILED, (storable(f"{type(error).__name__}: {error}"), job.id))
