"""The one write path: a batch of frames, readings, events and rejects in one transaction.

Fast way: binary COPY, which the identity index refuses as a whole when one frame is known already. Then the
caller rolls back and writes the same batch the careful way, ``INSERT … ON CONFLICT DO NOTHING``, and the
readings of the frames that were new. Measured in docs/decisions/0004-store.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Float4

from ..model import Event, Reject
from .lanes import commit_batch, pack

_ENCODE = msgspec.json.Encoder().encode
FENCE = (
    0x71756672  # "qufr": writers hold it shared, a decode job takes it once to know all see the new registry
)


class UplinkRow(NamedTuple):
    """One frame as the table takes it; the order of its columns in COPY."""

    time: datetime
    ns_time: datetime | None
    ingest_time: datetime
    id: int
    dedup_key: UUID
    device_id: int
    f_cnt: int | None
    f_port: int | None
    flags: int
    spreading_factor: int | None
    frequency: int | None
    rssi: float | None
    snr: float | None
    network: str
    dev_addr: str | None
    payload: bytes
    decoded_by: str | None
    problem: str | None
    fields: Jsonb | None
    gateways: Jsonb | None
    topic: str | None
    message: bytes | None


ReadingRow = tuple[int, float, int, int, int, int, int]
"""(µs since 1970, value, uplink_id, device_id, metric_id, channel, quality): `lanes.READING_DTYPE`."""


class EventRow(NamedTuple):
    time: datetime
    ingest_time: datetime
    device_id: int | None
    event: Event
    topic: str
    message: bytes


class RejectRow(NamedTuple):
    received_at: datetime
    reject: Reject
    source: str
    topic: str
    message: bytes


class Rows(NamedTuple):
    """What one transaction writes; `readings[i]` belong to `uplinks[i]`."""

    uplinks: Sequence[UplinkRow]
    readings: Sequence[Sequence[ReadingRow]]
    events: Sequence[EventRow]
    rejects: Sequence[RejectRow]


class Written(NamedTuple):
    """How much of it was new."""

    uplinks: int
    readings: int
    events: int
    rejects: int


def jsonb(value: Any) -> Jsonb:
    """NaN becomes null on the way, as JSON has none."""
    return Jsonb(value, dumps=_ENCODE)


def registry_version(cursor: psycopg.Cursor[Any]) -> int:
    """First statement of a writer's transaction: the version its decoding must have been made with."""
    cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
    cursor.execute("SELECT version FROM registry_version")
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def uplink_ids(cursor: psycopg.Cursor[Any], count: int) -> list[int]:
    """`count` fresh ids, in blocks of the sequence's thousand."""
    blocks = -(-count // 1000)
    cursor.execute("SELECT nextval('uplink_id') FROM generate_series(1, %s)", (blocks,))
    starts = [int(row[0]) for row in cursor.fetchall()]
    return [start + offset for start in starts for offset in range(1000)][:count]


_ASSIGN = """
    INSERT INTO untimed (dedup_key, time) SELECT * FROM unnest(%s::uuid[], %s::timestamptz[])
    ON CONFLICT DO NOTHING
"""
_STORED = """
    WITH asked AS (SELECT * FROM unnest(%s::uuid[], %s::timestamptz[]) AS a (dedup_key, time))
    SELECT dedup_key, time FROM asked JOIN uplink USING (time, dedup_key)
    UNION ALL
    SELECT dedup_key, time FROM asked JOIN event USING (time, dedup_key)
"""


def assigned_times(cursor: psycopg.Cursor[Any], keys: Sequence[UUID]) -> dict[UUID, datetime]:
    """The times that were assigned to those of these messages which no clock could be believed of."""
    if not keys:
        return {}
    # As one text: a list of UUIDs costs four times as much CPU, and every batch asks.
    asked = f"{{{','.join([key.hex for key in keys])}}}"
    cursor.execute("SELECT dedup_key, time FROM untimed WHERE dedup_key = ANY(%s::uuid[])", (asked,))
    return dict(cursor.fetchall())


def assign_times(
    cursor: psycopg.Cursor[Any], wanted: Sequence[tuple[UUID, datetime]]
) -> dict[UUID, datetime]:
    """Decide on a time for these messages, unless another writer was first; of each key the first counts."""
    if not wanted:
        return {}
    keys, times = [k for k, _ in wanted], [t for _, t in wanted]
    cursor.execute(_ASSIGN, (keys, times))
    return assigned_times(cursor, keys)


def stored_under(
    cursor: psycopg.Cursor[Any], asked: Sequence[tuple[UUID, datetime]]
) -> set[tuple[UUID, datetime]]:
    """Those of (dedup_key, time) that an uplink or event is stored under."""
    if not asked:
        return set()
    cursor.execute(_STORED, ([k for k, _ in asked], [t for _, t in asked]))
    return set(cursor.fetchall())


_UPLINK_COLUMNS = ", ".join(UplinkRow._fields)
_UPLINK_TYPES = [
    *("timestamptz", "timestamptz", "timestamptz", "int8", "uuid", "int4", "int8", "int2", "int2", "int2"),
    *("int4", "float4", "float4", "text", "text", "bytea", "text", "text", "jsonb", "jsonb", "text", "bytea"),
]
_COPY_UPLINKS = f"COPY uplink ({_UPLINK_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_INSERT_UPLINK = (
    f"INSERT INTO uplink ({_UPLINK_COLUMNS}) VALUES ({', '.join(['%s'] * len(UplinkRow._fields))})"  # noqa: S608
    " ON CONFLICT (time, dedup_key) DO NOTHING RETURNING id"
)
_COPY_READINGS = (
    "COPY reading (time, value, uplink_id, device_id, metric_id, channel, quality) FROM STDIN (FORMAT BINARY)"
)
_READING_TYPES = ["timestamptz", "float8", "int8", "int4", "int2", "int2", "int2"]
_INSERT_EVENT = """
    INSERT INTO event (time, ingest_time, dedup_key, device_id, kind, network, data, topic, message)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (time, dedup_key) DO NOTHING
"""
_INSERT_REJECT = """
    INSERT INTO reject (key, received_at, reason, field, detail, dev_eui, network, source, topic, message)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (key) DO NOTHING
"""


def write(cursor: psycopg.Cursor[Any], writer: str, rows: Rows, *, careful: bool) -> Written:
    """Write a batch and put it on the writer's lane; the caller commits.

    Raises:
        psycopg.errors.UniqueViolation: not `careful`, and a frame is stored already.
        psycopg.DataError: a value no column takes; the caller finds the row by halving the batch.
    """
    if careful:
        new = [bool(cursor.execute(_INSERT_UPLINK, _rounded(row)).rowcount) for row in rows.uplinks]
    else:
        _copy(cursor, _COPY_UPLINKS, _UPLINK_TYPES, rows.uplinks)
        new = [True] * len(rows.uplinks)
    uplinks = [row for row, is_new in zip(rows.uplinks, new, strict=True) if is_new]
    groups = [group for group, is_new in zip(rows.readings, new, strict=True) if is_new]
    readings = [reading for group in groups for reading in group]
    copy_readings(cursor, readings)
    events = sum(cursor.execute(_INSERT_EVENT, _event_values(row)).rowcount for row in rows.events)
    rejects = sum(cursor.execute(_INSERT_REJECT, _reject_values(row)).rowcount for row in rows.rejects)
    if uplinks:
        merge_latest(cursor, [(row.device_id, row.time) for row in uplinks], groups)
        commit_batch(cursor, writer, len(uplinks), pack(readings))
    return Written(len(uplinks), len(readings), events, rejects)


def _rounded(row: UplinkRow) -> UplinkRow:
    """With the floats COPY sends: a cast from double precision would refuse what underflows."""
    rssi, snr = (Float4(value) if value is not None else None for value in (row.rssi, row.snr))
    return row._replace(rssi=rssi, snr=snr)


def _event_values(row: EventRow) -> tuple[Any, ...]:
    e = row.event
    known = (row.time, row.ingest_time, e.dedup_key, row.device_id, e.kind, e.network)
    return (*known, jsonb(e.data), row.topic, row.message)


def _reject_values(row: RejectRow) -> tuple[Any, ...]:
    r = row.reject
    why = (r.key, row.received_at, r.reason, r.field, r.detail, r.dev_eui, r.network)
    return (*why, row.source, row.topic, row.message)


def _copy(cursor: psycopg.Cursor[Any], statement: str, types: list[str], rows: Sequence[Any]) -> None:
    if not rows:
        return
    with cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def micros(time: datetime) -> int:
    """µs since 1970-01-01 UTC, exactly."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def copy_readings(cursor: psycopg.Cursor[Any], readings: Sequence[ReadingRow]) -> None:
    """COPY of reading rows; there is no unique index, the caller knows that they are new."""
    _copy(cursor, _COPY_READINGS, _READING_TYPES, [(from_micros(r[0]), *r[1:]) for r in readings])


_MERGE_LATEST = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(%s)
            AS t (device_id int, seen_at timestamptz, oldest timestamptz, newest timestamptz, readings jsonb)
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
    SELECT device_id, seen_at, newest, readings FROM incoming
    WHERE device_id NOT IN (SELECT device_id FROM updated) ORDER BY device_id
    ON CONFLICT (device_id) DO UPDATE SET
        seen_at = greatest(latest.seen_at, excluded.seen_at),
        newest = greatest(latest.newest, excluded.newest),
        readings = latest_merge(latest.readings, excluded.readings)
"""


def merge_latest(
    cursor: psycopg.Cursor[Any],
    seen: Sequence[tuple[int, datetime]],
    groups: Sequence[Sequence[ReadingRow]],
) -> None:
    """Merge a batch into `latest`, one row a device, in key order so that writers do not deadlock.

    `seen` are (device, uplink time). The newest event time wins per series; of two at the same time the
    greater value, so that the outcome does not depend on the order of arrival.
    """
    newest_seen: dict[int, datetime] = {}
    for device_id, time in seen:
        if device_id not in newest_seen or time > newest_seen[device_id]:
            newest_seen[device_id] = time
    series: dict[int, dict[str, tuple[int, float, int]]] = {device_id: {} for device_id in newest_seen}
    spans: dict[int, tuple[int, int]] = {}
    for group in groups:
        for at, value, _, device_id, metric_id, channel, quality in group:
            mine = series[device_id]
            key = f"{metric_id}:{channel}"
            if key not in mine or (at, value) > mine[key][:2]:
                mine[key] = (at, value, quality)
            low, high = spans.get(device_id, (at, at))
            spans[device_id] = (min(low, at), max(high, at))
    rows = []
    for device_id in sorted(newest_seen):
        oldest, newest = spans.get(device_id, (None, None))
        rows.append(
            {
                "device_id": device_id,
                "seen_at": newest_seen[device_id],
                "oldest": from_micros(oldest) if oldest is not None else None,
                "newest": from_micros(newest) if newest is not None else None,
                "readings": series[device_id],
            }
        )
    cursor.execute(_MERGE_LATEST, (jsonb(rows),))
