"""Readings that datalogs tell again: of all that say one series' value at one time, one stays.

A reading at the second of its own frame was sent directly and stays. Where there is none, the record of the
frame that comes first by time, then `dedup_key`, stays; so the order of arrival decides nothing. Only devices
whose type has datalogs pay for it, with a look into the index a reading: a unique index would cost every
writer.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import Any, NamedTuple

import numpy as np
import psycopg

from ..clock import whole_second
from .edition import UNPACK_ALL
from .lanes import Readings

Frames = Mapping[int, tuple[int, bytes]]
"""Of each frame whose readings are to be stored: its time in µs since 1970, and its `dedup_key`."""
_LOCK = 0x716C6F67  # "qlog"
_LOCKS = 128  # devices share them: one for each of a large batch could fill the server's table of locks
_Key = tuple[int, int, int, int]  # device, metric, channel, time

# A record is at most five minutes newer than its frame (decoders.datalog.AHEAD), which spares old chunks.
_STORED = """
    SELECT a.n, r.uplink_id, (extract(epoch FROM u.time) * 1000000)::int8, u.dedup_key
    FROM (SELECT device_id, metric_id, channel, timestamptz 'epoch' + us * interval '1 microsecond' AS time, n
          FROM unnest(%s::int4[], %s::int2[], %s::int2[], %s::int8[]) WITH ORDINALITY
              AS t (device_id, metric_id, channel, us, n)) a
    CROSS JOIN LATERAL (
        SELECT uplink_id FROM reading
        WHERE device_id = a.device_id AND metric_id = a.metric_id AND time = a.time AND channel = a.channel
        OFFSET 0) r
    LEFT JOIN LATERAL (
        SELECT time, dedup_key FROM uplink
        WHERE id = r.uplink_id AND time >= a.time - interval '6 minutes' LIMIT 1) u ON true
"""
_SPANS = """
    INSERT INTO logged_span (uplink_id, device_id, time, oldest)
    SELECT id, device_id, timestamptz 'epoch' + us * interval '1 microsecond',
           timestamptz 'epoch' + oldest * interval '1 microsecond'
    FROM unnest(%s::int8[], %s::int8[], %s::int4[], %s::int8[]) AS t (id, us, device_id, oldest)
    ON CONFLICT (uplink_id) DO UPDATE SET oldest = least(logged_span.oldest, excluded.oldest)
"""
_REMOVE = """
    DELETE FROM reading r
    USING unnest(%s::int4[], %s::int2[], %s::int2[], %s::int8[], %s::int8[])
        AS gone (device_id, metric_id, channel, us, uplink_id)
    WHERE r.device_id = gone.device_id AND r.metric_id = gone.metric_id AND r.channel = gone.channel
      -- said twice, as the columnstore unpacks whatever constants do not exclude
      AND r.device_id = ANY(%s::int4[]) AND r.metric_id = ANY(%s::int2[])
      AND r.time BETWEEN timestamptz 'epoch' + %s::int8 * interval '1 microsecond'
                     AND timestamptz 'epoch' + %s::int8 * interval '1 microsecond'  -- spares chunks
      AND r.time = timestamptz 'epoch' + gone.us * interval '1 microsecond' AND r.uplink_id = gone.uplink_id
"""


class Settled(NamedTuple):
    """What of the readings is to be stored, and how many stored ones made room for some of them."""

    readings: Readings
    replaced: int


class Decision(NamedTuple):
    """What of the readings is to be stored, and which stored ones have to go, by series, time and frame.

    `oldest` is the time (µs since 1970) that the records of each frame go back to, and before it the device.
    """

    readings: Readings
    gone: list[tuple[_Key, int]]
    oldest: dict[int, tuple[int, int]]


class _Claim(NamedTuple):
    """Who says the value; the least holds. `row` is its place among the new ones, -1 when stored."""

    logged: bool
    frame_time: int
    frame_key: bytes
    uplink_id: int
    row: int


def lock(cursor: psycopg.Cursor[Any], device_ids: Collection[int]) -> None:
    """Until the transaction ends nobody else settles readings of these devices.

    Before the transaction's first frame is written, and in order, so that two writers cannot wait for each
    other.
    """
    cursor.execute(
        "SELECT pg_advisory_xact_lock(%s, n) FROM unnest(%s::int4[]) AS n",
        (_LOCK, sorted({device_id % _LOCKS for device_id in device_ids})),
    )


def settle(
    cursor: psycopg.Cursor[Any], readings: Readings, device_ids: Collection[int], frames: Frames
) -> Settled:
    """`decide`, and delete what is stored and has to go; the devices were locked before."""
    decision = decide(cursor, readings, device_ids, frames)
    make_room(cursor, decision, frames)
    return Settled(decision.readings, len(decision.gone))


def decide(
    cursor: psycopg.Cursor[Any], readings: Readings, device_ids: Collection[int], frames: Frames
) -> Decision:
    """Which of the readings of these devices hold, against each other and against those of other frames.

    What `frames` themselves have in the store does not count: it is what `readings` replace.
    """
    rows = np.flatnonzero(np.isin(readings["device_id"], list(device_ids)))
    claims: dict[_Key, list[_Claim]] = {}
    for row, device, metric, channel, time, uplink_id in zip(
        rows.tolist(),
        *(
            readings[name][rows].tolist()
            for name in ("device_id", "metric_id", "channel", "time", "uplink_id")
        ),
        strict=True,
    ):
        frame_time, key = frames[uplink_id]
        claim = _Claim(_is_logged(time, frame_time), frame_time, key, uplink_id, row)
        claims.setdefault((device, metric, channel, time), []).append(claim)
    if not claims:
        return Decision(readings, [], {})
    _add_stored(cursor, claims, frames)
    keep = np.ones(len(readings), bool)
    gone: list[tuple[_Key, int]] = []
    oldest: dict[int, tuple[int, int]] = {}
    for series, several in claims.items():
        reach = series[0], series[3]
        first = min(several)
        for claim in several:
            if claim is first or not claim.logged:
                if claim.row >= 0 and claim.logged:
                    oldest[claim.uplink_id] = min(reach, oldest.get(claim.uplink_id, reach))
                continue
            if claim.row >= 0:
                keep[claim.row] = False
            else:
                gone.append((series, claim.uplink_id))
    return Decision(readings[keep], gone, oldest)


def make_room(cursor: psycopg.Cursor[Any], decision: Decision, frames: Frames) -> None:
    """Delete what has to go, and note how far back each frame's records go."""
    if decision.gone:
        _remove(cursor, decision.gone)
    if ids := list(decision.oldest):
        times = [frames[uplink_id][0] for uplink_id in ids]
        cursor.execute(_SPANS, (ids, times, *map(list, zip(*decision.oldest.values(), strict=True))))


def tells_of_earlier(cursor: psycopg.Cursor[Any], device_id: int) -> bool:
    """Whether some stored frame of this device tells of earlier times."""
    cursor.execute("SELECT FROM logged_span WHERE device_id = %s LIMIT 1", (device_id,))
    return cursor.fetchone() is not None


def _is_logged(time: int, frame_time: int) -> bool:
    return time != whole_second(frame_time)


def _add_stored(cursor: psycopg.Cursor[Any], claims: dict[_Key, list[_Claim]], own: Container[int]) -> None:
    keys = list(claims)
    cursor.execute(_STORED, _columns(keys))
    for number, uplink_id, frame_time, frame_key in cursor.fetchall():
        key = keys[number - 1]
        if uplink_id in own:
            continue
        if frame_time is None:  # a reading whose frame is gone was there first
            claim = _Claim(True, 0, b"", uplink_id, -1)
        else:
            claim = _Claim(_is_logged(key[3], frame_time), frame_time, frame_key.bytes, uplink_id, -1)
        claims[key].append(claim)


def _remove(cursor: psycopg.Cursor[Any], gone: list[tuple[_Key, int]]) -> None:
    keys, uplink_ids = [key for key, _ in gone], [uplink_id for _, uplink_id in gone]
    times = [time for *_, time in keys]
    devices, metrics = (list({key[at] for key in keys}) for at in (0, 1))
    cursor.execute(UNPACK_ALL)
    cursor.execute(_REMOVE, (*_columns(keys), uplink_ids, devices, metrics, min(times), max(times)))


def _columns(keys: list[_Key]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*keys, strict=True))
