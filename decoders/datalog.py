"""Datalogs: records with times of their own inside one frame become readings at those times. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

import msgspec

from telemetry.plugin import Field, Fields

from .mapping import DeviceType, Records, look_up
from .normalise import Normalise, compile_mapping

AHEAD = timedelta(minutes=5)
"""How far a record's time may lie after the time of the uplink that carries it."""
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000}
_NUMBER = re.compile(r"\d{1,16}(\.\d{1,9})?", re.ASCII)
_SHOWN = 40


class Logged(NamedTuple):
    """One value of the past, in the unit the catalogue gives for `metric`; `time` is in UTC."""

    time: datetime
    metric: str
    channel: int
    value: float


class Datalog(NamedTuple):
    """The readings, list after list and record after record; and a sentence for each fault."""

    readings: list[Logged]
    problems: list[str]


ReadDatalog = Callable[[Fields, datetime, Mapping[str, float]], Datalog]


class _Reader(NamedTuple):
    """Map entries that read the records of one list."""

    records: Records
    path: tuple[str, ...]
    time_path: tuple[str, ...]
    normalise: Normalise


def compile_datalog(device_type: DeviceType) -> ReadDatalog | None:
    """What reads the datalogs in a device type's frames; None for a type that has none.

    It takes the fields, the uplink's time (aware) and the device's variables. A record whose time is missing,
    unreadable, before 2000 or more than 5 minutes after the uplink's is a problem and gives nothing; its
    neighbours are read. Of two values of one metric, channel and time the first holds.
    """
    readers = tuple(
        _reader(device_type, records)
        for records in dict.fromkeys(entry.records for entry in device_type.mapping)
        if records is not None
    )
    if not readers:
        return None

    def read(fields: Fields, uplink_time: datetime, variables: Mapping[str, float]) -> Datalog:
        readings: dict[tuple[datetime, str, int], Logged] = {}
        problems: list[str] = []
        for reader in readers:
            rows = look_up(fields, reader.path)
            if rows is None:
                continue
            if not isinstance(rows, list):
                problems.append(f"{reader.records.list}: no list of records")
                continue
            for number, row in enumerate(rows):
                at = f"{reader.records.list}.{number}"
                if not isinstance(row, dict):
                    problems.append(f"{at}: no record")
                    continue
                time, fault = believed_time(look_up(row, reader.time_path), reader.records.clock, uplink_time)
                if time is None:
                    problems.append(f"{at}.{reader.records.time}: {fault}")
                    continue
                found = reader.normalise(row, variables)
                problems += [f"{at}.{problem}" for problem in found.problems]
                for one in found.values:
                    key = (time, one.metric, one.channel)
                    readings.setdefault(key, Logged(*key, one.value))
        return Datalog(list(readings.values()), problems)

    return read


def believed_time(raw: Field, clock: str, uplink_time: datetime) -> tuple[datetime, None] | tuple[None, str]:
    """The time (see `read_time`) of what an uplink of `uplink_time` tells, or what is wrong with it."""
    time = read_time(raw, clock)
    fault = _fault(raw, time, uplink_time)
    return (None, fault) if time is None or fault else (time, None)


def read_time(raw: Field, clock: str) -> datetime | None:
    """The time in UTC, to the microsecond, of a record whose clock is written so; None for what is no time.

    With ``s`` and ``ms``, a number or numeric text from 1970 on. With ``iso``, a text after ISO 8601 that
    names its offset; with ``iso+07:00``, one that names none is taken to have this.
    """
    if clock.startswith("iso"):
        return _read_iso(raw, clock[3:])
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    text = raw if isinstance(raw, str) else repr(raw)
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return _EPOCH + timedelta(microseconds=round(Fraction(text) * _MICROSECONDS[clock]))
    except OverflowError:
        return None


def _read_iso(raw: Field, offset: str) -> datetime | None:
    if not isinstance(raw, str):
        return None
    try:
        time = datetime.fromisoformat(raw)
        if time.tzinfo is None:
            if not offset:
                return None
            time = datetime.fromisoformat(f"{time.isoformat()}{offset}")
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _fault(raw: Field, time: datetime | None, uplink_time: datetime) -> str:
    shown = raw[:_SHOWN] if isinstance(raw, str) else raw
    if raw is None:
        return "a record without its time"
    if time is None:
        return f"not a time: {shown!r}" if isinstance(raw, (bool, int, float, str)) else "not a time"
    if time < OLDEST:
        return f"{time:%Y-%m-%d} is before 2000; the device's clock was not set"
    if time > uplink_time + AHEAD:
        return f"{time:%Y-%m-%dT%H:%M:%SZ} is later than the uplink that carries it"
    return ""


def _reader(device_type: DeviceType, records: Records) -> _Reader:
    entries = tuple(
        msgspec.structs.replace(entry, records=None)
        for entry in device_type.mapping
        if entry.records == records
    )
    return _Reader(
        records,
        tuple(records.list.split(".")),
        tuple(records.time.split(".")),
        compile_mapping(msgspec.structs.replace(device_type, mapping=entries)),
    )
