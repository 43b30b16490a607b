"""Cayenne Low Power Payload 1.0: records of channel, type and value, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from telemetry.plugin import DecodeError, Field, Fields

from ..wire import check_port, check_size, to_raw


class _Part(NamedTuple):
    name: str
    size: int
    signed: bool
    per_unit: int


class _Type(NamedTuple):
    code: int
    name: str
    size: int
    parts: tuple[_Part, ...]


def _scalar(code: int, name: str, size: int, per_unit: int = 1, *, signed: bool = False) -> _Type:
    return _Type(code, name, size, (_Part(name, size, signed, per_unit),))


def _axes(code: int, name: str, per_unit: int) -> _Type:
    return _Type(code, name, 6, tuple(_Part(axis, 2, True, per_unit) for axis in "xyz"))


_TYPES = (
    _scalar(0, "digital_in", 1),
    _scalar(1, "digital_out", 1),
    _scalar(2, "analog_in", 2, 100, signed=True),
    _scalar(3, "analog_out", 2, 100, signed=True),
    _scalar(101, "luminosity", 2),
    _scalar(102, "presence", 1),
    _scalar(103, "temperature", 2, 10, signed=True),
    _scalar(104, "relative_humidity", 1, 2),
    _axes(113, "accelerometer", 1000),
    _scalar(115, "barometric_pressure", 2, 10),
    _axes(134, "gyrometer", 100),
    _Type(
        136,
        "gps",
        9,
        (
            _Part("latitude", 3, True, 10_000),
            _Part("longitude", 3, True, 10_000),
            _Part("altitude", 3, True, 100),
        ),
    ),
)


class _Record(NamedTuple):
    """What follows one pair of channel and type; a number of one part is read without looking further."""

    name: str
    type: _Type
    size: int
    signed: bool
    per_unit: int


def _records() -> dict[bytes, _Record]:
    return {
        bytes((channel, type_.code)): _Record(
            f"{type_.name}_{channel}", type_, type_.size, type_.parts[0].signed, type_.parts[0].per_unit
        )
        for type_ in _TYPES
        for channel in range(256)
    }


_RECORDS = _records()
_BY_NAME = {record.name: (key, record) for key, record in _RECORDS.items()}


class CayenneLpp:
    """Fields are named type and channel (`temperature_3`), as The Things Stack's own decoder names them.

    A channel and type that occur twice in one frame keep the later value.
    """

    id = "cayenne-lpp"
    version = "1"

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Fields of the records in `payload`; any application port."""
        check_port(f_port)
        check_size(payload, 0, 3, "a record")
        fields: Fields = {}
        at, end = 0, len(payload)
        while at < end:
            record = _RECORDS.get(payload[at : at + 2])
            if record is None:
                check_size(payload, at, 2, "channel and type")
                raise DecodeError(
                    f"byte {at + 1}: unknown type 0x{payload[at + 1]:02x} on channel {payload[at]}"
                )
            name, type_, size, signed, per_unit = record
            at += 2
            after = at + size
            if after > end:
                check_size(payload, at, size, name)
            if len(type_.parts) > 1:
                fields[name] = _read_parts(type_, payload, at)
            else:
                raw = int.from_bytes(payload[at:after], "big", signed=signed)
                fields[name] = raw if per_unit == 1 else raw / per_unit
            at = after
        return fields

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """Port 1 and the records of `fields`, in their order."""
        if not fields:
            raise DecodeError("no fields: a frame holds at least one record")
        frame = bytearray()
        for name, value in fields.items():
            found = _BY_NAME.get(name)
            if found is None:
                raise DecodeError(f"{name}: not a type and a channel 0 to 255, such as temperature_1")
            key, record = found
            frame += key
            if len(record.type.parts) > 1:
                frame += _write_parts(record.type, name, value)
            else:
                frame += _write(fields, name, record.size, record.signed, record.per_unit)
        return 1, bytes(frame)


def _read_parts(type_: _Type, payload: bytes, at: int) -> Fields:
    values: Fields = {}
    for name, size, signed, per_unit in type_.parts:
        values[name] = int.from_bytes(payload[at : at + size], "big", signed=signed) / per_unit
        at += size
    return values


def _write_parts(type_: _Type, name: str, value: Field) -> bytes:
    if not isinstance(value, dict):
        raise DecodeError(f"{name}: needs {', '.join(part.name for part in type_.parts)}, got {value!r}")
    try:
        return b"".join(_write(value, *part) for part in type_.parts)
    except DecodeError as error:
        raise DecodeError(f"{name}: {error}") from error


def _write(fields: Mapping[str, Field], name: str, size: int, signed: bool, per_unit: int) -> bytes:
    span = 256**size
    low, high = (-span // 2, span // 2 - 1) if signed else (0, span - 1)
    return to_raw(fields, name, low, high, per_unit).to_bytes(size, "big", signed=signed)


CODEC = CayenneLpp()
