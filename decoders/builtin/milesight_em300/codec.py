"""Milesight EM300 family: EM300-TH, -MCS, -SLD, -ZLD and -MLD (climate, door contact, water leak)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from telemetry.plugin import DecodeError, Field, Fields

from ..wire import check_port, check_size, refuse_unknown, to_flag, to_raw

_PORT = 85
_HISTORY = (0x20, 0xCE)
_HISTORY_ENTRY = struct.Struct("<IhBB")
_CLASSES = ("A", "B", "C")


class _Channel(NamedTuple):
    """`read` gets the value's bytes and the offset of the first, for its errors."""

    name: str
    size: int
    read: Callable[[bytes, int], Field]
    write: Callable[[Mapping[str, Field], str], bytes]


def _number(name: str, size: int, per_unit: int = 1, *, signed: bool = False) -> _Channel:
    span = 256**size
    low, high = (-span // 2, span // 2 - 1) if signed else (0, span - 1)

    def read(raw: bytes, _at: int) -> Field:
        value = int.from_bytes(raw, "little", signed=signed)
        return value if per_unit == 1 else value / per_unit

    def write(fields: Mapping[str, Field], name: str) -> bytes:
        return to_raw(fields, name, low, high, per_unit).to_bytes(size, "little", signed=signed)

    return _Channel(name, size, read, write)


def _flag(name: str) -> _Channel:
    def read(raw: bytes, at: int) -> Field:
        if raw[0] > 1:
            raise DecodeError(f"byte {at}: {name} is 0 or 1, got {raw[0]}")
        return raw[0] == 1

    return _Channel(name, 1, read, lambda fields, name: bytes((to_flag(fields, name),)))


def _text(name: str, size: int, show: Callable[[bytes], str], parse: Callable[[str], bytes]) -> _Channel:
    """A channel shown as text; `show` and `parse` raise ValueError or IndexError for what they refuse."""

    def read(raw: bytes, at: int) -> Field:
        try:
            return show(raw)
        except (ValueError, IndexError):
            raise DecodeError(f"byte {at}: {name} cannot be 0x{raw.hex()}") from None

    def write(fields: Mapping[str, Field], name: str) -> bytes:
        try:
            raw = parse(str(fields[name]))
        except ValueError:
            raw = b""
        if len(raw) != size:
            raise DecodeError(f"{name}: {fields[name]!r} does not fit {size} bytes")
        return raw

    return _Channel(name, size, read, write)


def _parse_hardware(text: str) -> bytes:
    major, minor = text.split(".")
    return bytes((int(major), int(minor, 16) << 4))


def _parse_software(text: str) -> bytes:
    major, minor = text.split(".")
    return bytes((int(major), int(minor, 16)))


# In the order a frame is written. The manual shows version 01 40 as V1.4 and 01 14 as V1.14.
_CHANNELS: dict[tuple[int, int], _Channel] = {
    (0xFF, 0x0B): _number("power_on", 1),
    (0xFF, 0x01): _number("protocol_version", 1),
    (0xFF, 0x16): _text("serial_number", 8, bytes.hex, bytes.fromhex),
    (0xFF, 0x09): _text("hardware_version", 2, lambda raw: f"{raw[0]}.{raw[1] >> 4:x}", _parse_hardware),
    (0xFF, 0x0A): _text("software_version", 2, lambda raw: f"{raw[0]}.{raw[1]:x}", _parse_software),
    (0xFF, 0x0F): _text(
        "device_class", 1, lambda raw: _CLASSES[raw[0]], lambda text: bytes((_CLASSES.index(text),))
    ),
    (0x01, 0x75): _number("battery", 1),
    (0x03, 0x67): _number("temperature", 2, 10, signed=True),
    (0x04, 0x68): _number("humidity", 1, 2),
    (0x05, 0x00): _flag("leak"),
    (0x06, 0x00): _flag("door_open"),
}
_KNOWN = frozenset({"history", *(channel.name for channel in _CHANNELS.values())})


class Em300:
    """One codec for the family: the channels say which sensors a device has.

    `history` lists stored readings with their own `timestamp` (Unix seconds). Its `status` is the leak of
    an SLD, ZLD or MLD and the open door of an MCS; the frame does not say which.
    """

    id = "milesight-em300"
    version = "1"

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Fields in %, °C and booleans; any application port (85 unless configured otherwise)."""
        check_port(f_port)
        check_size(payload, 0, 3, "a channel")
        fields: Fields = {}
        history: list[Field] = []
        at = 0
        while at < len(payload):
            check_size(payload, at, 2, "channel and type")
            key = (payload[at], payload[at + 1])
            at += 2
            if key == _HISTORY:
                check_size(payload, at, _HISTORY_ENTRY.size, "history")
                history.append(_read_history(payload, at))
                at += _HISTORY_ENTRY.size
                continue
            channel = _CHANNELS.get(key)
            if channel is None:
                raise DecodeError(f"byte {at - 2}: unknown channel 0x{key[0]:02x} of type 0x{key[1]:02x}")
            check_size(payload, at, channel.size, channel.name)
            fields[channel.name] = channel.read(payload[at : at + channel.size], at)
            at += channel.size
        if history:
            fields["history"] = history
        return fields

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """Port 85 and the channels of `fields`, in the order the devices send them."""
        refuse_unknown(fields, _KNOWN)
        frame = bytearray()
        for key, channel in _CHANNELS.items():
            if channel.name in fields:
                frame += bytes(key) + channel.write(fields, channel.name)
        history = fields.get("history", [])
        if not isinstance(history, list):
            raise DecodeError(f"history: a list is needed, got {history!r}")
        for entry in history:
            frame += bytes(_HISTORY) + _write_history(entry)
        if not frame:
            raise DecodeError("no fields: a frame holds at least one channel")
        return _PORT, bytes(frame)


def _read_history(payload: bytes, at: int) -> Field:
    timestamp, temperature, humidity, status = _HISTORY_ENTRY.unpack_from(payload, at)
    if status > 1:
        raise DecodeError(f"byte {at + 7}: history status is 0 or 1, got {status}")
    entry: Fields = {"timestamp": timestamp}
    # An MLD has no climate sensor and sends zeros; 0 % humidity does not occur in air.
    if humidity or temperature:
        entry |= {"temperature": temperature / 10, "humidity": humidity / 2}
    return entry | {"status": status == 1}


def _write_history(entry: Field) -> bytes:
    if not isinstance(entry, dict):
        raise DecodeError(f"history: an entry is an object with a timestamp, got {entry!r}")
    full = {"temperature": 0, "humidity": 0, "status": False} | entry
    return _HISTORY_ENTRY.pack(
        to_raw(full, "timestamp", 0, 0xFFFFFFFF),
        to_raw(full, "temperature", -0x8000, 0x7FFF, 10),
        to_raw(full, "humidity", 0, 0xFF, 2),
        to_flag(full, "status"),
    )


CODEC = Em300()
