"""What frames gave before they are decoded again: read, taken out, and remembered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import psycopg

from ..clock import from_micros, micros, whole_second
from .binary import array_text
from .edition import UNPACK_ALL
from .lanes import CORRECTED_DTYPE, Readings

# All metrics are asked for: only then the index finds a device's readings of a span of time.
_HELD = """
    SELECT (extract(epoch FROM time) * 1000000)::int8, value, uplink_id, device_id, metric_id, channel,
           quality, coalesce(raw, 'NaN')
    FROM reading
    WHERE device_id = %(device_id)s AND metric_id = ANY(%(metric_ids)s::int2[])
      AND time >= least(
          %(first)s, (SELECT min(oldest) FROM logged_span WHERE uplink_id = ANY(%(ids)s::int8[])))
      AND time <= %(last)s::timestamptz + interval '6 minutes'  -- a record may be newer than its frame
      AND uplink_id = ANY(%(ids)s::int8[])
"""
_REMOVE = """
    DELETE FROM reading r
    USING unnest(%(time)s::int8[], %(metric_id)s::int2[], %(channel)s::int2[], %(uplink_id)s::int8[])
        AS gone (us, metric_id, channel, uplink_id)
    WHERE r.device_id = %(device_id)s AND r.metric_id = gone.metric_id AND r.channel = gone.channel
      AND r.metric_id = ANY(%(metric_ids)s::int2[])  -- spares unpacking the others in the columnstore
      AND r.time = timestamptz 'epoch' + gone.us * interval '1 microsecond'
      AND r.time BETWEEN timestamptz 'epoch' + %(first)s::int8 * interval '1 microsecond'
                     AND timestamptz 'epoch' + %(last)s::int8 * interval '1 microsecond'  -- spares chunks
      AND r.uplink_id = gone.uplink_id
"""
_REMEMBER = """
    INSERT INTO superseded (time, uplink_id, job_id, decoded_by, problem, readings)
    SELECT time, uplink_id, %s, decoded_by, problem, readings::jsonb
    FROM unnest(%s::timestamptz[], %s::int8[], %s::text[], %s::text[], %s::text[])
        AS t (time, uplink_id, decoded_by, problem, readings)
"""


class Was(NamedTuple):
    """A frame as it was: who decoded it, and what of its readings gave way (of `CORRECTED_DTYPE`)."""

    time: datetime
    uplink_id: int
    decoded_by: str | None
    problem: str | None


def read_held(
    cursor: psycopg.Cursor[Any],
    device_id: int,
    metric_ids: Sequence[int],
    frames: Mapping[int, datetime],
) -> Readings:
    """All readings of these frames of one device, given by id and time; of `CORRECTED_DTYPE`."""
    if not frames:
        return np.empty(0, CORRECTED_DTYPE)
    values = {
        "device_id": device_id,
        "metric_ids": array_text(metric_ids),
        "ids": array_text(frames),
        "first": from_micros(whole_second(micros(min(frames.values())))),
        "last": max(frames.values()),
    }
    cursor.execute(_HELD, values)
    return np.array(cursor.fetchall(), CORRECTED_DTYPE)


def remove(cursor: psycopg.Cursor[Any], device_id: int, gone: Readings) -> None:
    """Delete these readings of one device: all of a metric, channel, time and frame."""
    if len(gone):
        gone = np.sort(gone, order="time")  # as the job of calibrations locks them: neither waits crosswise
        columns = {
            name: array_text(gone[name].tolist()) for name in ("time", "metric_id", "channel", "uplink_id")
        }
        columns["metric_ids"] = array_text(np.unique(gone["metric_id"]).tolist())
        ends = {"first": int(gone["time"].min()), "last": int(gone["time"].max())}
        cursor.execute(UNPACK_ALL)
        cursor.execute(_REMOVE, {"device_id": device_id, **columns, **ends})


def remember(cursor: psycopg.Cursor[Any], job_id: int, frames: Sequence[Was], gone: Readings) -> None:
    """Keep what these frames said until now, with those of their readings that gave way."""
    if not frames:
        return
    told: dict[int, list[list[Any]]] = {}
    names = ("metric_id", "channel", "time", "value", "raw", "quality")
    for uplink_id, *reading in zip(
        gone["uplink_id"].tolist(), *(gone[name].tolist() for name in names), strict=True
    ):
        reading[4] = None if reading[4] != reading[4] else reading[4]
        told.setdefault(uplink_id, []).append(reading)
    times, ids, stamps, problems = map(list, zip(*frames, strict=True))
    readings = [json.dumps(told.get(frame.uplink_id, [])) for frame in frames]
    cursor.execute(_REMEMBER, (job_id, times, array_text(ids), stamps, problems, readings))
