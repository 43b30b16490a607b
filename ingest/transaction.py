"""One batch of outcomes as one transaction, and what to do when the database objects to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from decoders.registry import Registry
from telemetry.model import Event, RawMessage, Reject, Uplink, UplinkFlag, message_key
from telemetry.store.registry import DeviceRow, add_unregistered
from telemetry.store.writer import (
    EventRow,
    ReadingRow,
    RejectRow,
    Rows,
    UplinkRow,
    Written,
    assign_times,
    assigned_times,
    jsonb,
    micros,
    registry_version,
    stored_under,
    uplink_ids,
    write,
)

from .directory import Directory, read_directory
from .faults import blames_content
from .pipeline import Outcome, decode
from .text import clean, json_of, storable
from .times import believed_ns_time, own_time, settle

Item = tuple[RawMessage, Outcome]


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
    ) -> None:
        self._connect = connect
        self._writer = writer
        self._codecs = codecs
        self._keep_messages = keep_messages
        self._directory = Directory()
        self._connection: psycopg.Connection[Any] | None = None

    def commit(self, items: Sequence[Item]) -> Committed:
        """Store a batch; on return it is committed. A row the database cannot take becomes a reject.

        Raises:
            psycopg.Error: the database is away, busy or not migrated; the same batch may be tried again.
        """
        unique: dict[tuple[str, object], Item] = {}
        for item in items:
            unique.setdefault(_identity(*item), item)
        written = self._commit_unique(list(unique.values()))
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
        return self._transact([(message, reject)], careful=True)

    def _transact(self, items: Sequence[Item], *, careful: bool) -> Written:
        connection = self._open()
        try:
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                version = registry_version(cursor)
                if version != self._directory.version:
                    self._directory = read_directory(cursor, self._codecs, version)
                newcomers = self._add_newcomers(cursor, items)
                written = write(cursor, self._writer, self._rows(cursor, items, newcomers), careful=careful)
        except psycopg.Error as error:
            if not isinstance(error, psycopg.IntegrityError | psycopg.DataError):
                self.close()
            raise
        self._directory.add(newcomers.values())
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
            simulated = outcome.simulated if isinstance(outcome, Event) else bool(outcome.flags & 1)
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
        ids = uplink_ids(cursor, len(uplinks)) if uplinks else []
        uplink_rows, groups = [], []
        for (message, uplink), uplink_id, (time, flag) in zip(uplinks, ids, times, strict=False):
            device = newcomers.get(uplink.dev_eui) or self._directory.devices[uplink.dev_eui]
            row, readings = self._uplink(message, uplink, device, uplink_id, time, flag)
            uplink_rows.append(row)
            groups.append(readings)
        return Rows(
            uplink_rows,
            groups,
            [
                self._event(m, e, newcomers, at[0])
                for (m, e), at in zip(events, times[len(uplinks) :], strict=True)
            ],
            [RejectRow(m.received_at, r, m.source, _text(m.topic), m.payload) for m, r in rejects],
        )

    def _uplink(
        self,
        message: RawMessage,
        uplink: Uplink,
        device: DeviceRow,
        uplink_id: int,
        time: datetime,
        flag: UplinkFlag,
    ) -> tuple[UplinkRow, list[ReadingRow]]:
        decoded = decode(uplink, device, self._directory)
        best = uplink.best
        row = UplinkRow(
            time=time,
            ns_time=believed_ns_time(uplink.ns_time, message.received_at),
            ingest_time=message.received_at,
            id=uplink_id,
            dedup_key=uplink.dedup_key,
            device_id=device.id,
            f_cnt=uplink.f_cnt,
            f_port=uplink.f_port,
            flags=int(uplink.flags | flag),
            spreading_factor=uplink.spreading_factor,
            frequency=uplink.frequency,
            rssi=best.rssi if best else None,
            snr=best.snr if best else None,
            network=uplink.network,
            dev_addr=clean(uplink.dev_addr),
            payload=uplink.payload,
            decoded_by=decoded.decoded_by,
            problem=decoded.problem,
            fields=jsonb(decoded.fields) if decoded.fields is not None else None,
            gateways=jsonb(json_of(list(uplink.gateways))) if uplink.gateways else None,
            topic=_text(message.topic),
            message=message.payload if self._keep_messages else None,
        )
        return row, self.reading_rows(decoded.readings, time, uplink_id, device.id)

    def reading_rows(
        self, readings: Sequence[Any], time: datetime, uplink_id: int, device_id: int
    ) -> list[ReadingRow]:
        at, ids = micros(time), self._directory.metric_ids
        return [
            (at, r.value, uplink_id, device_id, ids[r.metric], r.channel, int(r.quality)) for r in readings
        ]

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
) -> list[tuple[datetime, UplinkFlag]]:
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
        times.append((kept, UplinkFlag.ASSIGNED_TIME if key in assigned else flag))
    return times


def _identity(message: RawMessage, outcome: Outcome) -> tuple[str, object]:
    if isinstance(outcome, Reject):
        return "reject", outcome.key
    ns_time = outcome.ns_time if isinstance(outcome, Uplink) else None
    return type(outcome).__name__, (outcome.dedup_key, outcome.time, ns_time)


def _text(topic: str) -> str:
    return topic.replace("\x00", "").encode("utf-8", "backslashreplace").decode()
