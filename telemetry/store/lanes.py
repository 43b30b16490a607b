"""Lanes: how those who follow the store learn what each commit brought.

Every writer owns a lane and commits `(lane, seq)` with its batch, the batch's readings packed beside it.
The row lock on the lane orders its commits, so a follower that keeps one seq per lane can skip nothing,
and no long transaction elsewhere holds it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

READING_DTYPE = np.dtype(
    [
        ("time", "<i8"),  # µs since 1970-01-01 UTC
        ("value", "<f8"),
        ("uplink_id", "<i8"),
        ("device_id", "<i4"),
        ("metric_id", "<i2"),
        ("channel", "<i2"),
        ("quality", "<i2"),
    ]
)
CORRECTED_DTYPE = np.dtype([*READING_DTYPE.descr, ("raw", "<f8")])
"""With the value before its calibration; NaN where none holds."""
Readings = npt.NDArray[np.void]
"""A structured array of `READING_DTYPE`, shape (n,); on their way to the table also of `CORRECTED_DTYPE`."""

TOUCHED_DTYPE = np.dtype([("device_id", "<i4"), ("hour", "<i4"), ("newest", "<i8")])
"""A device and an hour since 1970-01-01 UTC that a commit brought frames or events of; `newest` is the time
of the newest frame within it, in µs since 1970, or `NO_FRAME`."""
NO_FRAME = -1

Moments = Sequence[tuple[int, int]]
"""Of frames or events: (device id, µs since 1970)."""
_HOUR = 3_600_000_000


Touched = npt.NDArray[np.void]
"""A structured array of `TOUCHED_DTYPE`, shape (n,), each device and hour once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One commit of one writer; `committed_at` is when its transaction wrote it.

    Where `rewritten`, its readings replace ones told before; one that is gone has the quality flag 9. The
    `newest` of its lane has none behind it.
    """

    lane: int
    seq: int
    committed_at: datetime
    uplinks: int
    readings: Readings
    touched: Touched
    rewritten: bool
    newest: bool


@dataclass(frozen=True, slots=True)
class TouchedBatch:
    """A commit of one writer without its readings."""

    lane: int
    seq: int
    touched: Touched


def unpack(data: bytes) -> Readings:
    return np.frombuffer(data, dtype=READING_DTYPE)


def with_raw(readings: Readings) -> Readings:
    """A copy of `CORRECTED_DTYPE`."""
    wide = np.empty(len(readings), CORRECTED_DTYPE)
    wide["raw"] = np.nan
    for name in readings.dtype.names or ():
        wide[name] = readings[name]
    return wide


def together(parts: Sequence[Readings]) -> Readings:
    """All of them in one: of `CORRECTED_DTYPE` when one of the parts is."""
    if len({part.dtype for part in parts}) > 1:
        parts = [with_raw(part) for part in parts]
    return np.concatenate(parts)


def uncorrected(readings: Readings) -> Readings:
    """Without `raw`: of `READING_DTYPE`."""
    if readings.dtype == READING_DTYPE:
        return readings
    narrow = np.empty(len(readings), READING_DTYPE)
    for name in READING_DTYPE.names or ():
        narrow[name] = readings[name]
    return narrow


_COMMIT_BATCH = """
    WITH mine AS (
        INSERT INTO lane (writer, seq, uplinks, readings) VALUES (%(writer)s, 1, %(uplinks)s, %(readings)s)
        ON CONFLICT (writer) DO UPDATE SET
            seq = lane.seq + 1,
            uplinks = lane.uplinks + excluded.uplinks,
            readings = lane.readings + excluded.readings
        RETURNING id, seq
    )
    INSERT INTO lane_batch (lane, seq, committed_at, uplinks, readings, touched, rewritten)
    SELECT id, seq, clock_timestamp(), %(uplinks)s, %(packed)s, %(touched)s, %(rewritten)s FROM mine
"""


def commit_batch(
    cursor: psycopg.Cursor[Any],
    writer: str,
    readings: Readings,
    frames: Moments = (),
    events: Moments = (),
    *,
    replaced: int = 0,
) -> None:
    """Put one batch on the writer's lane, inside the caller's transaction and as its last statement.

    So many stored readings were `replaced` by some of them.
    """
    cursor.execute(_COMMIT_BATCH, _batch(writer, readings, frames, events, replaced))


async def commit_derived(
    connection: psycopg.AsyncConnection[Any], writer: str, readings: Readings, *, replaced: int
) -> None:
    """`commit_batch` of readings that a job worked out."""
    await connection.execute(_COMMIT_BATCH, _batch(writer, readings, (), (), replaced))


def _batch(
    writer: str, readings: Readings, frames: Moments, events: Moments, replaced: int
) -> dict[str, Any]:
    return {
        "writer": writer,
        "uplinks": len(frames),
        "readings": len(readings) - replaced,
        "packed": uncorrected(readings).tobytes(),
        "touched": _touched(frames, events).tobytes(),
        "rewritten": replaced > 0,
    }


def _touched(frames: Moments, events: Moments) -> Touched:
    moments = np.array([*frames, *events], np.int64).reshape(-1, 2)
    found = np.empty(len(moments), TOUCHED_DTYPE)
    found["device_id"], found["hour"] = moments[:, 0], moments[:, 1] // _HOUR
    found["newest"] = moments[:, 1]
    found["newest"][len(frames) :] = NO_FRAME
    return last_of_each(found, ("device_id", "hour"), ("newest",))


def last_of_each(
    rows: npt.NDArray[np.void], group: Sequence[str], order: Sequence[str]
) -> npt.NDArray[np.void]:
    """Of the rows that agree in all columns of `group` the last by those of `order`; sorted by group."""
    ordered = rows[np.lexsort([rows[name] for name in (*reversed(order), *reversed(group))])]
    last = np.ones(len(ordered), bool)
    last[:-1] = np.logical_or.reduce([ordered[name][1:] != ordered[name][:-1] for name in group])
    return ordered[last]


_PENDING = """
    SELECT lane.id AS lane, b.seq, b.committed_at, b.uplinks, b.readings, b.touched, b.rewritten,
           b.seq = lane.seq AS newest
    FROM lane
    LEFT JOIN follower_cursor c ON c.follower = %(follower)s AND c.lane = lane.id
    CROSS JOIN LATERAL (
        SELECT *, sum(octet_length(readings)) OVER (ORDER BY seq) - octet_length(readings) AS before FROM (
            SELECT seq, committed_at, uplinks, readings, touched, rewritten FROM lane_batch
            WHERE lane_batch.lane = lane.id AND seq > coalesce(c.seq, 0)
            ORDER BY seq LIMIT %(limit)s) unseen
    ) b
    WHERE %(most)s::int8 IS NULL OR before < %(most)s::int8
    ORDER BY lane.id, b.seq
"""
_TOUCHED = """
    SELECT lane.id AS lane, b.seq, b.touched
    FROM lane
    LEFT JOIN follower_cursor c ON c.follower = %(follower)s AND c.lane = lane.id
    CROSS JOIN LATERAL (
        SELECT seq, touched FROM lane_batch
        WHERE lane_batch.lane = lane.id AND seq > coalesce(c.seq, 0)
        ORDER BY seq LIMIT %(limit)s
    ) b
    ORDER BY lane.id, b.seq
"""
_ADVANCE = """
    INSERT INTO follower_cursor (follower, lane, seq) VALUES (%s, %s, %s)
    ON CONFLICT (follower, lane) DO UPDATE SET seq = excluded.seq
"""
_PRUNE = """
    DELETE FROM lane_batch b
    WHERE committed_at < %s
      AND NOT EXISTS (
          SELECT FROM follower f LEFT JOIN follower_cursor c ON c.follower = f.name AND c.lane = b.lane
          WHERE coalesce(c.seq, 0) < b.seq)
"""


async def lock_follower(connection: psycopg.AsyncConnection[Any], follower: str) -> bool:
    """Become the one process that follows under this name, until the transaction ends; False: another is.

    Followers are known by a row that a migration made, so that batches wait for them from the first one on.
    """
    cursor = await connection.execute(
        "SELECT FROM follower WHERE name = %s FOR NO KEY UPDATE SKIP LOCKED", (follower,)
    )
    return cursor.rowcount == 1


async def pending(
    connection: psycopg.AsyncConnection[Any], follower: str, limit: int, most_bytes: int | None = None
) -> list[Batch]:
    """Batches this follower has not seen, at most `limit` a lane, each lane in order of seq.

    With `most_bytes`, no more of a lane after the batch whose readings reach so many.
    """
    asked = {"follower": follower, "limit": limit, "most": most_bytes}
    cursor = await connection.execute(_PENDING, asked, binary=True)
    return [
        Batch(
            row["lane"],
            row["seq"],
            row["committed_at"],
            row["uplinks"],
            unpack(row["readings"]),
            np.frombuffer(row["touched"], TOUCHED_DTYPE),
            row["rewritten"],
            row["newest"],
        )
        for row in await cursor.fetchall()
    ]


async def touched(connection: psycopg.AsyncConnection[Any], follower: str, limit: int) -> list[TouchedBatch]:
    """Like `pending`, for who asks what changed and reads it from the tables."""
    cursor = await connection.execute(_TOUCHED, {"follower": follower, "limit": limit})
    return [
        TouchedBatch(row["lane"], row["seq"], np.frombuffer(row["touched"], TOUCHED_DTYPE))
        for row in await cursor.fetchall()
    ]


async def cursor_of(connection: psycopg.AsyncConnection[Any], follower: str) -> dict[int, int]:
    """The follower's seq of each lane: whoever holds the lock sees whether somebody else moved it on."""
    cursor = await connection.execute(
        "SELECT lane, seq FROM follower_cursor WHERE follower = %s", (follower,)
    )
    return {row["lane"]: row["seq"] for row in await cursor.fetchall()}


async def advance(
    connection: psycopg.AsyncConnection[Any], follower: str, batches: Sequence[Batch | TouchedBatch]
) -> None:
    """Remember these batches as seen, in the transaction of what was made of them."""
    newest = {batch.lane: batch.seq for batch in batches}
    cursor = connection.cursor()
    await cursor.executemany(_ADVANCE, [(follower, lane, seq) for lane, seq in sorted(newest.items())])


async def prune(connection: psycopg.AsyncConnection[Any], before: datetime) -> int:
    """Drop batches older than `before` that every follower has seen; returns how many."""
    return (await connection.execute(_PRUNE, (before,))).rowcount
