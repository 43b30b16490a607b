"""The one write path: a batch of frames, readings, events and rejects in one transaction.

Fast way: binary COPY, which the identity index refuses as a whole when one frame is known already. Then the
caller rolls back and writes the same batch the careful way, ``INSERT … ON CONFLICT DO NOTHING``, and the
readings of the frames that were new. Measured in docs/decisions/0004-store.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from ..clock import micros
from ..model import Event, Key, Reject
from . import binary, logged
from .binary import CORRECTED_COLUMNS, READING_COLUMNS, UPLINK_COLUMNS, UplinkRow
from .lanes import CORRECTED_DTYPE, Readings, commit_batch, uncorrected
from .messages import IDS, Kept
from .messages import store as store_messages
from .registry import add_unmapped_counters
from .revision import newest_revision

_ENCODE = msgspec.json.Encoder().encode
FENCE = (
    0x71756672  # "qufr": writers hold it shared, a decode job takes it once to know all see the new registry
)

HELD_UP = "held_up"
"""The reason of a reject whose place in the store somebody has locked: it is tried again by itself."""


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
    """What one transaction writes; `readings` and `messages` name the id of their uplink.

    `uplinks_copy` are the uplinks for COPY, in one part or several; `logging` those of their devices that
    send datalogs. `undecoded` are uplinks, by id, whose codec may do better later: a reject beside each.
    `counters` are metrics that devices tell beside their maps, and that the registry does not know as such.
    """

    uplinks: Sequence[UplinkRow]
    uplinks_copy: Sequence[bytes]
    readings: Readings
    events: Sequence[EventRow]
    rejects: Sequence[RejectRow]
    messages: Sequence[Kept] = ()
    logging: Collection[int] = ()
    undecoded: Sequence[tuple[int, RejectRow]] = ()
    counters: Collection[str] = ()


class Written(NamedTuple):
    """How much of it was new; rejects beside uplinks do not count."""

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


class UplinkIds:
    """Ids that one writer holds for frames to come. One thread may take them while another adds some."""

    def __init__(self) -> None:
        self._left: list[int] = []
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._left)

    def take(self, count: int) -> list[int] | None:
        """So many, which are then gone; None when there are too few."""
        with self._lock:
            if count > len(self._left):
                return None
            taken, self._left = self._left[:count], self._left[count:]
            return taken

    def hold(self, ids: Sequence[int]) -> None:
        """Keep these for later; `new_ids` gave them in a transaction that is committed."""
        with self._lock:
            self._left += ids


def new_ids(cursor: psycopg.Cursor[Any], count: int) -> list[int]:
    """At least so many ids, by the sequence's thousand.

    They may be used in this transaction, and later only once it is committed: after a crash of the server the
    sequence may give those of a transaction that was not committed to somebody else.
    """
    if count <= 0:
        return []
    cursor.execute("SELECT nextval('uplink_id') FROM generate_series(1, %s)", (-(-count // IDS),))
    return [id_ for (start,) in cursor.fetchall() for id_ in range(start, start + IDS)]


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


def assigned_times(cursor: psycopg.Cursor[Any], keys: Sequence[Key]) -> dict[Key, datetime]:
    """The times that were assigned to those of these messages which no clock could be believed of."""
    if not keys:
        return {}
    cursor.execute("SELECT dedup_key, time FROM untimed WHERE dedup_key = ANY(%s::uuid[])", (_uuids(keys),))
    return {key.bytes: time for key, time in cursor.fetchall()}


def assign_times(cursor: psycopg.Cursor[Any], wanted: Sequence[tuple[Key, datetime]]) -> dict[Key, datetime]:
    """Decide on a time for these messages, unless another writer was first; of each key the first counts."""
    if not wanted:
        return {}
    keys, times = [k for k, _ in wanted], [t for _, t in wanted]
    cursor.execute(_ASSIGN, (_uuids(keys), times))
    return assigned_times(cursor, keys)


def stored_under(
    cursor: psycopg.Cursor[Any], asked: Sequence[tuple[Key, datetime]]
) -> set[tuple[Key, datetime]]:
    """Those of (dedup_key, time) that an uplink or event is stored under."""
    if not asked:
        return set()
    cursor.execute(_STORED, (_uuids([k for k, _ in asked]), [t for _, t in asked]))
    return {(key.bytes, time) for key, time in cursor.fetchall()}


def _uuids(keys: Sequence[Key]) -> str:
    # As one text: a list of UUIDs costs four times as much CPU, and every batch asks.
    return f"{{{','.join([key.hex() for key in keys])}}}"


_COPY_UPLINKS = f"COPY uplink ({UPLINK_COLUMNS}) FROM STDIN (FORMAT BINARY)"
# A pooler's connection outlives us: one of an earlier program may hold such a table as it was then.
_STAGED = f"uplink_staged_{newest_revision()}"
_STAGE = f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STAGED} (LIKE uplink) ON COMMIT DELETE ROWS"
_COPY_STAGED = f"COPY {_STAGED} ({UPLINK_COLUMNS}) FROM STDIN (FORMAT BINARY)"
# In key order, so that two writers with the same frames wait for each other instead of deadlocking.
_INSERT_STAGED = f"""
    INSERT INTO uplink ({UPLINK_COLUMNS})
    SELECT {UPLINK_COLUMNS} FROM {_STAGED} ORDER BY time, dedup_key
    ON CONFLICT (time, dedup_key) DO NOTHING RETURNING id
"""  # noqa: S608
_COPY_READINGS: LiteralString = f"COPY reading ({READING_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_COPY_CORRECTED: LiteralString = f"COPY reading ({CORRECTED_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_INSERT_EVENT = """
    INSERT INTO event (time, ingest_time, dedup_key, device_id, kind, network, data, topic, message)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (time, dedup_key) DO NOTHING
"""
_INSERT_REJECT = """
    INSERT INTO reject
        (key, received_at, reason, field, detail, dev_eui, network, state, source, topic, message)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (key) DO NOTHING
"""


def write(cursor: psycopg.Cursor[Any], writer: str, rows: Rows, *, careful: bool) -> Written:
    """Write a batch and put it on the writer's lane; the caller commits.

    Raises:
        psycopg.errors.UniqueViolation: not `careful`, and a frame is stored already.
        psycopg.DataError: a value no column takes; the caller finds the row by halving the batch.
    """
    uplinks, readings, messages, undecoded = rows.uplinks, rows.readings, rows.messages, rows.undecoded
    replaced = 0
    if rows.logging:
        logged.lock(cursor, rows.logging)
    if not careful:
        _copy(cursor, _COPY_UPLINKS, rows.uplinks_copy)
    elif uplinks:
        cursor.execute(_STAGE)
        _copy(cursor, _COPY_STAGED, rows.uplinks_copy)
        new = {row[0] for row in cursor.execute(_INSERT_STAGED)}
        uplinks = [row for row in uplinks if row.id in new]
        readings = readings[np.isin(readings["uplink_id"], list(new))]
        messages = [kept for kept in messages if kept.uplink_id in new]
        undecoded = [(uplink_id, reject) for uplink_id, reject in undecoded if uplink_id in new]
    if rows.logging:
        frames_by_id = {row.id: (row.time, row.dedup_key) for row in uplinks}
        readings, replaced = logged.settle(cursor, readings, rows.logging, frames_by_id)
    if rows.counters:
        add_unmapped_counters(cursor, rows.counters)
    copy_readings(cursor, readings)
    store_messages(cursor, messages)
    events = _insert(cursor, _INSERT_EVENT, [_event_values(row) for row in rows.events])
    rejects = _insert(cursor, _INSERT_REJECT, [_reject_values(row) for row in rows.rejects])
    _insert(cursor, _INSERT_REJECT, [_reject_values(row) for _, row in undecoded])
    frames = [(row.device_id, row.time) for row in uplinks]
    told = [(row.device_id, micros(row.time)) for row in rows.events if row.device_id is not None]
    if frames or (told and events):
        commit_batch(cursor, writer, readings, frames, told, replaced=replaced)
    return Written(len(uplinks), len(readings), events, rejects)


def _insert(cursor: psycopg.Cursor[Any], statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """How many of the rows were new."""
    if not rows:
        return 0
    cursor.executemany(statement, rows)
    return cursor.rowcount


def _event_values(row: EventRow) -> tuple[Any, ...]:
    e = row.event
    known = (row.time, row.ingest_time, UUID(bytes=e.dedup_key), row.device_id, e.kind, e.network)
    return (*known, jsonb(e.data), row.topic, row.message)


def _reject_values(row: RejectRow) -> tuple[Any, ...]:
    r = row.reject
    why = (UUID(bytes=r.key), row.received_at, r.reason, r.field, r.detail, r.dev_eui, r.network)
    return (*why, "waiting" if r.reason == HELD_UP else "open", row.source, row.topic, row.message)


def _copy(cursor: psycopg.Cursor[Any], statement: str, parts: Sequence[bytes]) -> None:
    if parts:
        with cursor.copy(statement) as copy:
            copy.write(binary.HEADER)
            for part in parts:
                copy.write(part)
            copy.write(binary.TRAILER)


def copy_readings(cursor: psycopg.Cursor[Any], readings: Readings) -> None:
    """COPY of readings; there is no unique index, the caller knows that they are new."""
    for statement, rows in reading_copies(readings):
        _copy(cursor, statement, [rows])


def reading_copies(readings: Readings) -> Iterator[tuple[LiteralString, bytes]]:
    """COPY statements and their rows for these readings; `raw` stays NULL where nothing was corrected."""
    if readings.dtype == CORRECTED_DTYPE:
        corrected = ~np.isnan(readings["raw"])
        if corrected.any():
            yield _COPY_CORRECTED, binary.readings(readings[corrected])
        readings = uncorrected(readings[~corrected])
    if len(readings):
        yield _COPY_READINGS, binary.readings(readings)
