"""One batch of outcomes as one transaction, and what to do when the database objects to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import psycopg
import structlog

from decoders.registry import Registry
from telemetry.clock import Clock
from telemetry.model import Event, RawMessage, Reject, Uplink, UplinkFlag, message_key
from telemetry.store import binary
from telemetry.store.binary import UplinkRow
from telemetry.store.lanes import Readings
from telemetry.store.messages import Kept
from telemetry.store.registry import DeviceRow, add_unregistered
from telemetry.store.writer import (
    EventRow,
    RejectRow,
    Rows,
    UplinkIds,
    Written,
    assign_times,
    assigned_times,
    jsonb,
    micros,
    registry_version,
    stored_under,
    write,
)

from .columns import Columns
from .directory import Directory, read_directory
from .faults import blames_content
from .metrics import LAG, REJECTED
from .pipeline import Decoded, Outcome, decode
from .text import clean, json_of, storable
from .times import believed_ns_time, own_time, settle

_log = structlog.get_logger()
Item = tuple[RawMessage, Outcome]
Compute = Callable[[Callable[[], Rows]], Rows]


def _here(work: Callable[[], Rows]) -> Rows:
    return work()


class Committed(NamedTuple):
    """A batch's fate; `duplicates` were stored before or came twice in it."""

    written: Written
    duplicates: int


class BatchWriter:
    """Writes batches over one connection, as one writer with one lane. Not for two threads at once."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        writer: str,
        codecs: Registry,
        keep_messages: bool,
        clock: Clock | None = None,
    ) -> None:
        """With a clock it measures the lag of what it stores: not for messages that are old on purpose."""
        self._connect = connect
        self._writer = writer
        self._codecs = codecs
        self._keep_messages = keep_messages
        self._clock = clock
        self._directory = Directory()
        self._ids = UplinkIds()
        self._compute: Compute = _here
        self._connection: psycopg.Connection[Any] | None = None

    def commit(self, items: Sequence[Item], compute: Compute = _here) -> Committed:
        """Store a batch; on return it is committed. A row the database cannot take becomes a reject.

        `compute` runs what takes the processor and waits for nothing: decoding and laying out the rows.

        Raises:
            psycopg.Error: the database is away, busy or not migrated; the same batch may be tried again.
        """
        self._compute = compute
        written = self._commit_unique(_unique(items))
        return Committed(written, len(items) - sum((written.uplinks, written.events, written.rejects)))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _commit_unique(self, items: Sequence[Item]) -> Written:
        try:
            try:
                return self._transact(items, careful=False)
            except psycopg.errors.UniqueViolation:
                return self._transact(items, careful=True)
        except Exception as error:
            if not blames_content(error):
                raise
            return self._isolate(items, error)

    def _isolate(self, items: Sequence[Item], error: Exception) -> Written:
        if len(items) > 1:
            middle = len(items) // 2
            halves = (self._commit_unique(items[:middle]), self._commit_unique(items[middle:]))
            return Written(*(a + b for a, b in zip(*halves, strict=True)))
        message, outcome = items[0]
        if isinstance(outcome, Reject):
            raise error
        reject = Reject(
            key=message_key(message),
            reason="not_storable",
            detail=storable(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"),
            dev_eui=outcome.dev_eui,
            network=outcome.network,
        )
        _log.info(
            "not_storable", detail=reject.detail, dev_eui=reject.dev_eui, dedup_key=outcome.dedup_key.hex()
        )
        REJECTED.labels(reject.reason).inc()
        return self._transact([(message, reject)], careful=True)

    def _transact(self, items: Sequence[Item], *, careful: bool) -> Written:
        connection = self._open()
        try:
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                version = registry_version(cursor)
                if version != self._directory.version:
                    self._directory = read_directory(cursor, self._codecs, version)
                newcomers = self._add_newcomers(cursor, items)
                rows = self._rows(cursor, items, newcomers)
                written = write(cursor, self._writer, rows, careful=careful)
        except BaseException as error:
            self._ids = UplinkIds()  # whether the old ones were committed may be in doubt
            if isinstance(error, psycopg.Error) and not isinstance(
                error, psycopg.IntegrityError | psycopg.DataError
            ):
                self.close()
            raise
        self._directory.add(newcomers.values())
        if self._clock is not None and written.uplinks == len(rows.uplinks) > 0:
            now = micros(self._clock.now())
            LAG.observe_many((now - np.array([row.time for row in rows.uplinks])) / 1e6)
        return written

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _add_newcomers(self, cursor: psycopg.Cursor[Any], items: Sequence[Item]) -> dict[str, DeviceRow]:
        unknown: dict[str, tuple[str, str, Any, bool]] = {}
        for _, outcome in items:
            if (
                isinstance(outcome, Reject)
                or outcome.dev_eui is None
                or outcome.dev_eui in self._directory.devices
            ):
                continue
            simulated = (
                outcome.simulated
                if isinstance(outcome, Event)
                else bool(outcome.flags & UplinkFlag.SIMULATED)
            )
            eui, origin = outcome.dev_eui, clean(outcome.origin)
            unknown.setdefault(eui, (eui, origin.get("name", ""), jsonb(origin), simulated))
        return (
            {row.dev_eui: row for row in add_unregistered(cursor, list(unknown.values()))} if unknown else {}
        )

    def _rows(
        self, cursor: psycopg.Cursor[Any], items: Sequence[Item], newcomers: dict[str, DeviceRow]
    ) -> Rows:
        uplinks = [(m, o) for m, o in items if isinstance(o, Uplink)]
        events = [(m, o) for m, o in items if isinstance(o, Event)]
        rejects = [(m, o) for m, o in items if isinstance(o, Reject)]
        times = _times(cursor, [*uplinks, *events])
        ids = self._ids.take(cursor, len(uplinks))
        told = [
            self._event(m, e, newcomers, at[0])
            for (m, e), at in zip(events, times[len(uplinks) :], strict=True)
        ]
        refused = [RejectRow(m.received_at, r, m.source, _text(m.topic), m.payload) for m, r in rejects]

        messages = (
            [Kept(n, micros(m.received_at), m.payload) for n, (m, _) in zip(ids, uplinks, strict=True)]
            if self._keep_messages
            else []
        )

        def lay_out() -> Rows:
            rows, readings = self._frames(uplinks, newcomers, ids, times)
            copy = binary.uplinks(rows) if rows else None
            return Rows(rows, copy, readings, told, refused, messages)

        return self._compute(lay_out)

    def _frames(
        self,
        uplinks: Sequence[tuple[RawMessage, Uplink]],
        newcomers: dict[str, DeviceRow],
        ids: Sequence[int],
        times: Sequence[tuple[datetime, int]],
    ) -> tuple[list[UplinkRow], Readings]:
        columns, rows = Columns(self._directory), []
        for (message, uplink), uplink_id, (time, flag) in zip(uplinks, ids, times, strict=False):
            device = newcomers.get(uplink.dev_eui) or self._directory.devices[uplink.dev_eui]
            decoded = decode(uplink, device, self._directory)
            row = self._uplink(message, uplink, device, uplink_id, micros(time), flag, decoded)
            columns.add(row.time, uplink_id, device.id, decoded.values)
            rows.append(row)
        return rows, columns.array()

    def _uplink(
        self,
        message: RawMessage,
        uplink: Uplink,
        device: DeviceRow,
        uplink_id: int,
        time: int,
        flag: int,
        decoded: Decoded,
    ) -> UplinkRow:
        best = uplink.best
        ns_time = believed_ns_time(uplink.ns_time, message.received_at)
        return UplinkRow(
            time,
            None if ns_time is None else micros(ns_time),
            micros(message.received_at),
            uplink_id,
            uplink.dedup_key,
            device.id,
            uplink.flags | flag,
            uplink.f_cnt,
            uplink.f_port,
            uplink.spreading_factor,
            uplink.frequency,
            best.rssi if best else None,
            best.snr if best else None,
            uplink.battery,
            uplink.network,
            decoded.decoded_by,
            decoded.problem,
            uplink.payload,
            storable(uplink.dev_addr) if uplink.dev_addr is not None else None,
            _text(message.topic),
            decoded.fields,
            json_of(uplink.gateways) if uplink.gateways else None,
        )

    def _event(
        self, message: RawMessage, event: Event, newcomers: dict[str, DeviceRow], time: datetime
    ) -> EventRow:
        device = None
        if event.dev_eui is not None:
            device = newcomers.get(event.dev_eui) or self._directory.devices[event.dev_eui]
        return EventRow(
            time,
            message.received_at,
            device.id if device else None,
            event,
            _text(message.topic),
            message.payload,
        )


def _times(
    cursor: psycopg.Cursor[Any], items: Sequence[tuple[RawMessage, Uplink | Event]]
) -> list[tuple[datetime, int]]:
    """The time of every message, as if each came alone and in this order.

    The one under which a message was first stored stays: what was assigned once, or its own, should our
    clock have been wrong then or now. Otherwise its own counts while plausible, else its first arrival.
    """
    settled, own = [], []
    for message, outcome in items:
        ns_time = outcome.ns_time if isinstance(outcome, Uplink) else None
        settled.append(settle(outcome.time, ns_time, message.received_at))
        own.append(own_time(outcome.time, ns_time) if settled[-1][0] is None else settled[-1])
    keys = [outcome.dedup_key for _, outcome in items]
    assigned = assigned_times(cursor, keys)
    doubtful = [n for n, (time, _) in enumerate(settled) if time is None and keys[n] not in assigned]
    stored = stored_under(cursor, [(keys[n], time) for n in doubtful if (time := own[n][0]) is not None])
    for n in doubtful:
        if (keys[n], own[n][0]) in stored:
            settled[n] = own[n]
    decided = assign_times(
        cursor, [(keys[n], items[n][0].received_at) for n in doubtful if settled[n][0] is None]
    )
    times = []
    for key, (time, flag) in zip(keys, settled, strict=True):
        if time is None and key not in assigned:
            assigned[key] = decided[key]
        kept = assigned.get(key, time)
        assert kept is not None
        times.append((kept, int(UplinkFlag.ASSIGNED_TIME) if key in assigned else flag))
    return times


def _unique(items: Sequence[Item]) -> Sequence[Item]:
    """The first of those that are the same."""
    keys = {outcome.key if isinstance(outcome, Reject) else outcome.dedup_key for _, outcome in items}
    if len(keys) == len(items):
        return items
    unique: dict[tuple[str, object], Item] = {}
    for item in items:
        unique.setdefault(_identity(item[1]), item)
    return list(unique.values())


def _identity(outcome: Outcome) -> tuple[str, object]:
    if isinstance(outcome, Reject):
        return "reject", outcome.key
    ns_time = outcome.ns_time if isinstance(outcome, Uplink) else None
    return type(outcome).__name__, (outcome.dedup_key, outcome.time, ns_time)


def _text(topic: str) -> str:
    if topic.isascii() and "\x00" not in topic:
        return topic
    return topic.replace("\x00", "").encode("utf-8", "backslashreplace").decode()
