"""Stored frames decoded again, inside their caller's transaction: what jobs, retries and previews share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg

from telemetry.clock import micros
from telemetry.model import Uplink
from telemetry.store import logged, superseded
from telemetry.store.lanes import CORRECTED_DTYPE, Readings, commit_batch, with_raw
from telemetry.store.registry import DeviceRow, add_unmapped_counters, read_maps
from telemetry.store.superseded import Was
from telemetry.store.writer import copy_readings

from .columns import Columns
from .difference import Difference, compare
from .directory import Directory
from .horizon import EVER, Horizon
from .javascript import Answers
from .pipeline import Decoded, decode, to_ask

FRAME_COLUMNS = "time, id, dedup_key, f_port, payload, flags, network, normalized, decoded_by, problem"
_STAMP = """
    UPDATE uplink u SET decoded_by = n.decoded_by, problem = n.problem, fields = n.fields::jsonb
    FROM unnest(%(times)s::timestamptz[], %(keys)s::uuid[], %(stamps)s::text[], %(problems)s::text[],
                %(fields)s::text[]) AS n (time, dedup_key, decoded_by, problem, fields)
    WHERE u.time = n.time AND u.dedup_key = n.dedup_key
      AND u.time BETWEEN %(first)s AND %(last)s  -- spares chunks
      AND (u.decoded_by, u.problem, u.fields) IS DISTINCT FROM (n.decoded_by, n.problem, n.fields::jsonb)
"""
_NONE: Readings = np.empty(0, CORRECTED_DTYPE)


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
    decoded_by: str | None
    problem: str | None


Frames = Sequence[tuple[Frame, DeviceRow]]


class Again(NamedTuple):
    """What frames say now.

    `decoded` holds it by their ids. Those that no codec answers for now, but one did before, are `untouched`
    and keep what they have. `difference` has readings of the others, and `room` stored readings of other
    frames that theirs replace. `counters` are those of `Decoded`.
    """

    decoded: Mapping[int, Decoded]
    untouched: Mapping[int, Decoded]
    difference: Difference
    room: logged.Decision
    counters: Set[str]


class Counts(NamedTuple):
    """How many readings were stored, and how many frames' readings changed."""

    readings: int
    changed: int


def work_out(
    cursor: psycopg.Cursor[Any],
    frames: Frames,
    directory: Directory,
    answers: Answers,
    horizon: Horizon = EVER,
) -> Again:
    """Decode frames and compare with what is stored of them; reads only.

    Raises:
        Unasked: `answers` lack some.
    """
    uplinks = [(frame, device, _uplink(frame, device)) for frame, device in frames]
    asked = (to_ask(uplink, device, directory, micros(frame.time)) for frame, device, uplink in uplinks)
    outcomes = answers.to(directory.version, dict(one for one in asked if one is not None))
    columns, decoded, untouched = Columns(directory), dict[int, Decoded](), dict[int, Decoded]()
    known: dict[int, tuple[int, bytes]] = {}
    for frame, device, uplink in uplinks:
        time = micros(frame.time)
        said = horizon.kept(time, decode(uplink, device, directory, time, outcomes))
        if said.decoded_by is None and frame.decoded_by is not None:
            untouched[frame.id] = said
            continue
        decoded[frame.id], known[frame.id] = said, (time, frame.dedup_key.bytes)
        columns.add(time, frame.id, device.id, said)
    room = logged.Decision(columns.array(), [], {})
    if logging := columns.logging | directory.logging(device for _, device in frames):
        room = logged.decide(cursor, room.readings, logging, known)
    parts = [
        compare(_read_held(cursor, device, stamped, directory), _of(with_raw(room.readings), device))
        for device, stamped in _stamped(frames, decoded)
    ]
    sides = zip(Difference(_NONE, _NONE), *parts, strict=True)
    return Again(decoded, untouched, Difference(*map(np.concatenate, sides)), room, columns.counters)


def decode_again(
    cursor: psycopg.Cursor[Any],
    writer: str,
    frames: Frames,
    directory: Directory,
    answers: Answers,
    job_id: int | None = None,
    horizon: Horizon = EVER,
) -> tuple[Again, Counts]:
    """Decode frames that the caller has locked and write what changes; `writer` names the lane.

    What frames of a job said before is remembered.

    Raises:
        Unasked: `answers` lack some; nothing was written.
    """
    if logging := directory.logging(device for _, device in frames) | _may_log(frames, directory):
        logged.lock(cursor, logging)
    again = work_out(cursor, frames, directory, answers, horizon)
    difference, room = again.difference, again.room
    known = {frame.id: (micros(frame.time), frame.dedup_key.bytes) for frame, _ in frames}
    logged.make_room(cursor, room, known)
    for device_id in np.unique(difference.gone["device_id"]).tolist():
        of_device = difference.gone[difference.gone["device_id"] == device_id]
        superseded.remove(cursor, device_id, of_device)
    if again.counters:
        add_unmapped_counters(cursor, again.counters)
    copy_readings(cursor, difference.new)
    if job_id is not None:
        changed = difference.frames
        was = [
            Was(frame.time, frame.id, frame.decoded_by, frame.problem)
            for frame, _ in frames
            if frame.decoded_by is not None and frame.id in changed
        ]
        superseded.remember(cursor, job_id, was, difference.gone)
    _stamp(cursor, [frame for frame, _ in frames if frame.id in again.decoded], again.decoded)
    told = difference.told()
    if len(told) or room.gone:
        added = len(difference.new) - len(difference.gone) - len(room.gone)
        commit_batch(cursor, writer, told, replaced=len(told) - added)
    return again, Counts(len(difference.new), len(difference.frames))


def _may_log(frames: Frames, directory: Directory) -> set[int]:
    """The devices whose normalized payloads may tell of earlier times: theirs, or their codec's."""
    return {
        device.id
        for frame, device in frames
        if frame.normalized is not None or device.dev_eui in directory.scripted
    }


def _stamped(frames: Frames, decoded: Mapping[int, Decoded]) -> list[tuple[DeviceRow, list[Frame]]]:
    """Of each device those of its frames that may have readings: a frame without a stamp has none."""
    found: dict[int, tuple[DeviceRow, list[Frame]]] = {}
    for frame, device in frames:
        stamped = found.setdefault(device.id, (device, []))[1]
        if frame.id in decoded and frame.decoded_by is not None:
            stamped.append(frame)
    return list(found.values())


def _read_held(
    cursor: psycopg.Cursor[Any], device: DeviceRow, frames: Sequence[Frame], directory: Directory
) -> Readings:
    """The readings of these frames, but for those that a job works out of counters: they are its concern."""
    ids = directory.metric_ids
    times = {frame.id: frame.time for frame in frames}
    held = superseded.read_held(cursor, device.id, [*ids.values()], times)
    derived = {
        (ids[metric], channel) for metric, channel in directory.derived.get(device.device_type or "", ())
    }
    if not derived or not len(held):
        return held
    # A map of before may have had the frames tell themselves what is derived now.
    versions = {frame.id: (frame.decoded_by or "").rpartition("/")[2] for frame in frames}
    maps = read_maps(cursor, set(versions.values()))
    own = {
        version: {(ids.get(entry["metric"]), entry.get("channel", 0)) for entry in entries}
        for version, entries in maps.items()
    }
    columns = (held[name].tolist() for name in ("uplink_id", "metric_id", "channel"))
    keep = [
        (metric, channel) not in derived or (metric, channel) in own.get(versions[uplink_id], ())
        for uplink_id, metric, channel in zip(*columns, strict=True)
    ]
    kept: Readings = held[np.array(keep, bool)]
    return kept


def _of(readings: Readings, device: DeviceRow) -> Readings:
    chosen: Readings = readings[readings["device_id"] == device.id]
    return chosen


def _stamp(cursor: psycopg.Cursor[Any], frames: Sequence[Frame], decoded: Mapping[int, Decoded]) -> None:
    if not frames:
        return
    said = [decoded[frame.id] for frame in frames]
    times = [frame.time for frame in frames]
    values = {
        "times": times,
        "keys": [frame.dedup_key for frame in frames],
        "stamps": [one.decoded_by for one in said],
        "problems": [one.problem for one in said],
        "fields": [None if one.fields is None else one.fields.decode() for one in said],
        "first": min(times),
        "last": max(times),
    }
    cursor.execute(_STAMP, values)


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
