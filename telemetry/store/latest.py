"""`latest`: the newest reading of every series, kept by whoever follows the lanes under this name.

A follower and not the writers: it merges what many commits brought at once, so at a high rate a device's row
is written once a pass instead of once a batch, and writers do not wait for each other's rows.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from . import lanes
from .binary import array_text
from .lanes import NO_FRAME, Batch, Readings

FOLLOWER = "latest"
BATCHES = 2000  # a lane and pass; at a moderate rate commits are many and small
BYTES = 16 * 2**20  # of readings, likewise
DEVICES = 250  # whose rows are merged at once, so that a step keeps nobody waiting for long
BREATH_SECONDS = 0.01
_SERIES = ("device_id", "metric_id", "channel")
_READING_COLUMNS = ("metric_id", "channel", "time", "value", "quality")
_NOTHING = ("NULL", "NULL", "{}")

_MERGE = """
    WITH incoming AS (
        SELECT device_id, readings,
               timestamptz 'epoch' + seen * interval '1 microsecond' AS seen_at,
               timestamptz 'epoch' + first * interval '1 microsecond' AS oldest,
               timestamptz 'epoch' + last * interval '1 microsecond' AS newest
        FROM unnest(%s::int[], %s::float8[], %s::float8[], %s::float8[], string_to_array(%s, E'\n')::jsonb[])
            AS t (device_id, seen, first, last, readings)
    ), updated AS (
        UPDATE latest l SET
            seen_at = greatest(l.seen_at, i.seen_at),
            newest = greatest(l.newest, i.newest),
            readings = CASE WHEN i.oldest IS NULL THEN l.readings
                            WHEN l.newest IS NULL OR i.oldest > l.newest THEN l.readings || i.readings
                            ELSE latest_merge(l.readings, i.readings) END
        FROM incoming i WHERE l.device_id = i.device_id
        RETURNING l.device_id
    )
    INSERT INTO latest (device_id, seen_at, newest, readings)
    SELECT device_id, coalesce(seen_at, newest), newest, readings FROM incoming
    WHERE device_id NOT IN (SELECT device_id FROM updated) AND coalesce(seen_at, newest) IS NOT NULL
"""
_LOOK_UP = """
    WITH found AS (
        SELECT s.device_id, s.metric_id || ':' || s.channel AS key, r.*
        FROM unnest(%s::int4[], %s::int2[], %s::int2[]) AS s (device_id, metric_id, channel)
        LEFT JOIN LATERAL (
            SELECT time, value, quality FROM reading
            WHERE device_id = s.device_id AND metric_id = s.metric_id AND channel = s.channel
            ORDER BY time DESC, value DESC LIMIT 1) r ON true
    ), fresh AS (
        SELECT device_id, array_agg(key) AS keys,
               coalesce(
                   jsonb_object_agg(
                       key, jsonb_build_array((extract(epoch FROM time) * 1000000)::int8, value, quality)
                   ) FILTER (WHERE time IS NOT NULL), '{}') AS readings
        FROM found GROUP BY device_id
    )
    UPDATE latest l SET
        readings = (l.readings - f.keys) || f.readings,
        newest = (SELECT timestamptz 'epoch' + max((value ->> 0)::int8) * interval '1 microsecond'
                  FROM jsonb_each((l.readings - f.keys) || f.readings))
    FROM fresh f WHERE l.device_id = f.device_id
"""


async def step(connection: psycopg.AsyncConnection[Any]) -> int:
    """Merge what was committed since the last step, in one transaction; returns how many batches that was.

    Zero when there is nothing, or when another process follows. The newest event time wins per series; of two
    at the same time the greater value, so that the outcome does not depend on the order of arrival. Where
    readings were rewritten, the table decides.
    """
    async with connection.transaction():
        if not await lanes.lock_follower(connection, FOLLOWER):
            return 0
        batches = _in_order(await lanes.pending(connection, FOLLOWER, BATCHES, BYTES))
        if batches:
            await _merge(connection, batches)
            await _look_up(connection, [batch.readings for batch in batches if batch.rewritten])
            await lanes.advance(connection, FOLLOWER, batches)
    return len(batches)


def _in_order(batches: list[Batch]) -> list[Batch]:
    """Without those that came after a batch still waiting on another lane: what was replaced comes first."""
    if not any(batch.rewritten for batch in batches):
        return batches
    ends = {batch.lane: batch for batch in batches}
    until = min((end.committed_at for end in ends.values() if not end.newest), default=None)
    if until is None:
        return batches
    held = {batch.lane for batch in batches if batch.committed_at > until}
    first = {lane: min(b.seq for b in batches if b.lane == lane and b.committed_at > until) for lane in held}
    return [batch for batch in batches if batch.seq < first.get(batch.lane, batch.seq + 1)]


async def _merge(connection: psycopg.AsyncConnection[Any], batches: list[Batch]) -> None:
    touched = np.concatenate([batch.touched for batch in batches])
    frames = lanes.last_of_each(touched[touched["newest"] != NO_FRAME], ("device_id",), ("newest",))
    readings = _newest(np.concatenate([batch.readings for batch in batches]))
    devices = np.union1d(frames["device_id"], readings["device_id"])
    for first in range(0, len(devices), DEVICES):
        some = devices[first : first + DEVICES]
        await _merge_some(connection, _of(some, frames), _of(some, readings))
        if first + DEVICES < len(devices):
            await asyncio.sleep(BREATH_SECONDS)


async def _look_up(connection: psycopg.AsyncConnection[Any], rewritten: list[Readings]) -> None:
    """The newest readings of these series as the table has them."""
    if not rewritten:
        return
    series = np.unique(np.concatenate(rewritten)[list(_SERIES)])
    for first in range(0, len(series), DEVICES):
        some = series[first : first + DEVICES]
        await connection.execute(_LOOK_UP, [array_text(some[name].tolist()) for name in _SERIES])


def _newest(readings: Readings) -> Readings:
    """The newest of each series, of equal times the greatest value; in the order of the series.

    There may be half a million: one sort of one number each, and the times are looked at once.
    """
    if not len(readings):
        return readings
    device, metric, channel = (readings[name].astype(np.int64) for name in _SERIES)
    series = device << 32 | metric << 16 | channel
    order = np.argsort(series)
    series, times = series[order], readings["time"][order]
    begins = np.flatnonzero(np.diff(series, prepend=-1))
    newest = np.repeat(np.maximum.reduceat(times, begins), np.diff(begins, append=len(series)))
    found: Readings = readings[order[times == newest]]
    return found if len(found) == len(begins) else lanes.last_of_each(found, _SERIES, ("time", "value"))


def _of(devices: npt.NDArray[np.int32], rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Of rows in the order of their devices those of some that follow each other."""
    begin = np.searchsorted(rows["device_id"], devices[0])
    chosen: npt.NDArray[np.void] = rows[begin : np.searchsorted(rows["device_id"], devices[-1], "right")]
    return chosen


async def _merge_some(
    connection: psycopg.AsyncConnection[Any], frames: npt.NDArray[np.void], readings: Readings
) -> None:
    seen = dict(zip(frames["device_id"].tolist(), frames["newest"].tolist(), strict=True))
    told = _by_device(readings)
    devices = sorted(seen.keys() | told.keys())
    parts = [told.get(device, _NOTHING) for device in devices]
    await connection.execute(
        _MERGE,
        (
            array_text(devices),
            array_text(seen.get(device, "NULL") for device in devices),
            array_text(oldest for oldest, _, _ in parts),
            array_text(newest for _, newest, _ in parts),
            "\n".join(text for _, _, text in parts),
        ),
    )


def _by_device(readings: Readings) -> dict[int, tuple[int | str, int | str, str]]:
    """Of readings in the order of their devices: of each the oldest time, the newest, and all as JSON."""
    if not len(readings):
        return {}
    columns = (readings[name].tolist() for name in _READING_COLUMNS)
    texts = [
        f'"{metric}:{channel}":[{time},{value!r},{quality}]'
        for metric, channel, time, value, quality in zip(*columns, strict=True)
    ]
    begins = np.flatnonzero(np.diff(readings["device_id"], prepend=-1))
    ends = [*begins[1:].tolist(), len(texts)]
    return {
        device: (oldest, newest, f"{{{','.join(texts[begin:end])}}}")
        for device, oldest, newest, begin, end in zip(
            readings["device_id"][begins].tolist(),
            np.minimum.reduceat(readings["time"], begins).tolist(),
            np.maximum.reduceat(readings["time"], begins).tolist(),
            begins.tolist(),
            ends,
            strict=True,
        )
    }
