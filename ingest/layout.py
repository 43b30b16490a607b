"""From parsed messages to the rows of one transaction. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from decoders.javascript.calls import Call
from telemetry.clock import micros
from telemetry.model import Event, RawMessage, Reject, Uplink, message_key
from telemetry.store import binary
from telemetry.store.binary import UplinkRow
from telemetry.store.messages import Kept
from telemetry.store.registry import DeviceRow
from telemetry.store.writer import EventRow, RejectRow, Rows

from .columns import Columns
from .directory import Directory
from .horizon import EVER, Horizon
from .javascript import NONE, CallKey, Outcomes
from .pipeline import Decoded, Parsed, decode, to_ask
from .text import json_of, storable
from .times import believed_ns_time

Item = tuple[RawMessage, Parsed]
Moment = tuple[datetime, int]
"""The time of a message, and the flag that tells whose it is."""


class Sorted(NamedTuple):
    """The messages of a batch by what became of them."""

    uplinks: list[tuple[RawMessage, Uplink]]
    events: list[tuple[RawMessage, Event]]
    rejects: list[tuple[RawMessage, Reject]]

    @property
    def timed(self) -> list[tuple[RawMessage, Uplink | Event]]:
        """Those that happened at a time, in the order in which `lay_out` takes the times."""
        return [*self.uplinks, *self.events]


def sort(items: Iterable[Item]) -> Sorted:
    found = Sorted([], [], [])
    for message, outcome in items:
        if isinstance(outcome, Uplink):
            found.uplinks.append((message, outcome))
        elif isinstance(outcome, Event):
            found.events.append((message, outcome))
        else:
            found.rejects.append((message, outcome))
    return found


def unique(items: Sequence[Item]) -> Sequence[Item]:
    """The first of those that are the same."""
    keys = {outcome.key if isinstance(outcome, Reject) else outcome.dedup_key for _, outcome in items}
    if len(keys) == len(items):
        return items
    first: dict[tuple[str, object], Item] = {}
    for item in items:
        first.setdefault(_identity(item[1]), item)
    return list(first.values())


def _identity(outcome: Parsed) -> tuple[str, object]:
    if isinstance(outcome, Reject):
        return "reject", outcome.key
    ns_time = outcome.ns_time if isinstance(outcome, Uplink) else None
    return type(outcome).__name__, (outcome.dedup_key, outcome.time, ns_time)


def lay_out(
    batch: Sorted,
    directory: Directory,
    devices: Mapping[str, DeviceRow],
    ids: Sequence[int],
    times: Sequence[Moment],
    outcomes: Outcomes = NONE,
    *,
    keep_messages: bool,
    horizon: Horizon = EVER,
) -> Rows:
    """The rows of the batch: `ids` of its uplinks, `times` of `batch.timed`, `devices` of all of these.

    `outcomes` answer its `calls`. Readings from before the `horizon` are left out.
    """
    rows, columns, undecoded = _frames(batch.uplinks, directory, devices, ids, times, outcomes, horizon)
    kept = zip(rows, batch.uplinks, strict=True) if keep_messages else ()
    return Rows(
        rows,
        [binary.uplinks(rows)] if rows else [],
        columns.array(),
        [
            _event(message, event, devices, time)
            for (message, event), (time, _) in zip(batch.events, times[len(batch.uplinks) :], strict=True)
        ],
        [RejectRow(m.received_at, r, m.source, _text(m.topic), m.payload) for m, r in batch.rejects],
        [Kept(row.id, row.ingest_time, message.payload) for row, (message, _) in kept],
        columns.logging | directory.logging(devices[uplink.dev_eui] for _, uplink in batch.uplinks),
        undecoded,
        columns.counters,
    )


def calls(
    batch: Sorted, directory: Directory, devices: Mapping[str, DeviceRow], times: Sequence[Moment]
) -> dict[CallKey, Call]:
    """What JavaScript codecs have to answer before the batch can be laid out."""
    if not directory.scripted:
        return {}
    asked = (
        to_ask(uplink, devices[uplink.dev_eui], directory, micros(time))
        for (_, uplink), (time, _) in zip(batch.uplinks, times, strict=False)
    )
    return dict(one for one in asked if one is not None)


def _frames(
    uplinks: Sequence[tuple[RawMessage, Uplink]],
    directory: Directory,
    devices: Mapping[str, DeviceRow],
    ids: Sequence[int],
    times: Sequence[Moment],
    outcomes: Outcomes,
    horizon: Horizon,
) -> tuple[list[UplinkRow], Columns, list[tuple[int, RejectRow]]]:
    columns, rows, undecoded = Columns(directory), [], []
    for (message, uplink), uplink_id, (time, flag) in zip(uplinks, ids, times, strict=False):
        device = devices[uplink.dev_eui]
        at = micros(time)
        decoded = horizon.kept(at, decode(uplink, device, directory, at, outcomes))
        row = _uplink(message, uplink, device, uplink_id, at, flag, decoded)
        columns.add(at, uplink_id, device.id, decoded)
        rows.append(row)
        if decoded.retry is not None:
            undecoded.append((uplink_id, _retryable(message, uplink, decoded.retry, decoded.problem or "")))
    return rows, columns, undecoded


def _retryable(message: RawMessage, uplink: Uplink, reason: str, problem: str) -> RejectRow:
    """The frame is stored; what retrying its reject does is to decode it again."""
    reject = Reject(
        key=message_key(message),
        reason=reason,
        detail=problem,
        dev_eui=uplink.dev_eui,
        network=uplink.network,
    )
    return RejectRow(message.received_at, reject, message.source, _text(message.topic), message.payload)


def _uplink(
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
        json_of(uplink.normalized) if uplink.normalized is not None else None,
    )


def _event(message: RawMessage, event: Event, devices: Mapping[str, DeviceRow], time: datetime) -> EventRow:
    device_id = None if event.dev_eui is None else devices[event.dev_eui].id
    if event.simulated:
        event = msgspec.structs.replace(event, data={**event.data, "simulated": True})
    return EventRow(time, message.received_at, device_id, event, _text(message.topic), message.payload)


def _text(topic: str) -> str:
    if topic.isascii() and "\x00" not in topic:
        return topic
    return topic.replace("\x00", "").encode("utf-8", "backslashreplace").decode()
