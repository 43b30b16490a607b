"""Stored frames decoded again, inside their caller's transaction: what jobs and retries share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from telemetry.clock import micros
from telemetry.model import Uplink
from telemetry.store import logged
from telemetry.store.lanes import commit_batch
from telemetry.store.registry import DeviceRow, add_unmapped_counters
from telemetry.store.writer import copy_readings

from .columns import Columns
from .directory import Directory
from .javascript import Answers
from .pipeline import Decoded, decode, to_ask

FRAME_COLUMNS = "time, id, dedup_key, f_port, payload, flags, network, normalized"
_STAMP = "UPDATE uplink SET decoded_by = %s, problem = %s, fields = %s WHERE time = %s AND dedup_key = %s"


class Frame(NamedTuple):
    """An uplink as `FRAME_COLUMNS` give it."""

    time: datetime
    id: int
    dedup_key: UUID
    f_port: int | None
    payload: bytes
    flags: int
    network: str
    normalized: Any


class Again(NamedTuple):
    """How many readings came of the frames, and what each frame says now, by its id."""

    readings: int
    decoded: Mapping[int, Decoded]


def decode_again(
    cursor: psycopg.Cursor[Any],
    writer: str,
    frames: Sequence[tuple[Frame, DeviceRow]],
    directory: Directory,
    answers: Answers,
) -> Again:
    """Decode frames that have no readings yet, and that the caller has locked; `writer` names the lane.

    Raises:
        Unasked: `answers` lack some; nothing was written.
    """
    uplinks = [(frame, device, _uplink(frame, device)) for frame, device in frames]
    asked = (to_ask(uplink, device, directory, micros(frame.time)) for frame, device, uplink in uplinks)
    outcomes = answers.to(directory.version, dict(one for one in asked if one is not None))
    columns, decoded = Columns(directory), {}
    for frame, device, uplink in uplinks:
        time = micros(frame.time)
        said = decoded[frame.id] = decode(uplink, device, directory, time, outcomes)
        fields = said.fields.decode() if said.fields is not None else None
        cursor.execute(_STAMP, (said.decoded_by, said.problem, fields, frame.time, frame.dedup_key))
        columns.add(time, frame.id, device.id, said)
    settled = logged.Settled(columns.array(), replaced=0)
    if logging := columns.logging | directory.logging(device for _, device in frames):
        logged.lock(cursor, logging)
        known = {frame.id: (micros(frame.time), frame.dedup_key.bytes) for frame, _ in frames}
        settled = logged.settle(cursor, settled.readings, logging, known)
    if columns.counters:
        add_unmapped_counters(cursor, columns.counters)
    copy_readings(cursor, settled.readings)
    commit_batch(cursor, writer, settled.readings, replaced=settled.replaced)
    return Again(len(settled.readings), decoded)


def _uplink(frame: Frame, device: DeviceRow) -> Uplink:
    return Uplink(
        dedup_key=frame.dedup_key.bytes,
        dev_eui=device.dev_eui,
        network=frame.network,
        payload=bytes(frame.payload),
        time=frame.time,
        f_port=frame.f_port,
        flags=frame.flags,
        normalized=frame.normalized,
    )
