"""What waits to be judged anew: rows of `quality_job`, which changed settings and people's words leave."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row, tuple_row

from .text import storable

Connection = psycopg.AsyncConnection[Any]

TRIES = 5
_NEXT = """
    SELECT id, device_id, metric_id, valid_from, valid_to, reached, tries FROM quality_job
    WHERE state = 'waiting' ORDER BY priority, tries, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
# Each look-up is an index scan of its own.
_STRETCH = """
    SELECT m.id, first.time FROM metric m
    CROSS JOIN LATERAL (
        SELECT time FROM reading r
        WHERE r.device_id = %(device_id)s AND r.metric_id = m.id AND r.time > %(after)s
          AND r.time < coalesce(%(valid_to)s::timestamptz, 'infinity')
        ORDER BY time LIMIT 1) first
    WHERE %(metric_id)s::int2 IS NULL OR m.id = %(metric_id)s
"""
_REACHED = """
    UPDATE quality_job SET
        reached = coalesce(%(until)s::timestamptz, reached), readings = readings + %(changed)s,
        tries = 0, error = NULL,
        state = CASE WHEN %(until)s::timestamptz IS NULL THEN 'done' ELSE state END,
        finished_at = CASE WHEN %(until)s::timestamptz IS NULL THEN now() END
    WHERE id = %(id)s
"""
_STUMBLED = """
    UPDATE quality_job SET tries = %(tries)s, error = %(error)s,
        state = CASE WHEN %(tries)s < %(most)s THEN state ELSE 'failed' END,
        finished_at = CASE WHEN %(tries)s < %(most)s THEN NULL ELSE now() END
    WHERE id = %(id)s
"""


class Order(NamedTuple):
    """A span of a device's readings, of one metric or all; `reached` is the time up to which it is done."""

    id: int
    device_id: int
    metric_id: int | None
    valid_from: datetime
    valid_to: datetime | None
    reached: datetime | None
    tries: int


async def next_order(connection: Connection) -> Order | None:
    """What waits and nobody else works at, locked: people's words first, then the oldest."""
    async with connection.cursor(row_factory=class_row(Order)) as cursor:
        await cursor.execute(_NEXT)
        return await cursor.fetchone()


async def find_stretches(connection: Connection, order: Order, after: datetime) -> list[tuple[int, datetime]]:
    """The metrics the device has readings of behind `after` in the order's span: (metric id, first time)."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_STRETCH, {**order._asdict(), "after": after})
        return await cursor.fetchall()


async def reached(connection: Connection, order: Order, until: datetime | None, changed: int) -> None:
    """Note how far it got, in the transaction of what it changed; None: it is done."""
    await connection.execute(_REACHED, {"until": until, "changed": changed, "id": order.id})


async def stumbled(connection: Connection, order: Order, tries: int, error: Exception) -> None:
    """Note what went wrong; after `TRIES` it has failed, before that others of its priority go first."""
    told = storable(f"{type(error).__name__}: {error}")
    await connection.execute(_STUMBLED, {"tries": tries, "most": TRIES, "error": told, "id": order.id})
