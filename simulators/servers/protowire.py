"""Protobuf's wire format, as far as ChirpStack's events and commands need it.

Source: https://protobuf.dev/programming-guides/encoding/. Fields of value 0 are left out, as proto3 does.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from telemetry.plugin import Field, Fields

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FLOAT = struct.Struct("<f").pack
_DOUBLE = struct.Struct("<d").pack
_SIXTY_FOUR_BITS = (1 << 64) - 1
_LONGEST_VARINT = 10


def varint(value: int) -> bytes:
    """A number of up to 64 bits, or a negative one as its two's complement."""
    if 0 <= value < 0x80:
        return value.to_bytes(1, "little")
    if 1 << 28 <= value < 1 << 35:  # most that is drawn from 32 bits, and most nanoseconds
        seven = (value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128, value >> 21 & 127 | 128)
        return bytes((*seven, value >> 28))
    value &= _SIXTY_FOUR_BITS
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


@lru_cache(maxsize=256)
def tag(number: int, wire: int = _LENGTH) -> bytes:
    return varint(number << 3 | wire)


def integer(number: int, value: int) -> bytes:
    return tag(number, _VARINT) + varint(value) if value else b""


@lru_cache(maxsize=4096)
def usual(number: int, value: int) -> bytes:
    """The same for a field with few values, or whose value comes again soon."""
    return integer(number, value)


def single(number: int, value: float) -> bytes:
    """A `float`, 32 bits."""
    return tag(number, _FIXED32) + _FLOAT(value) if value else b""


def double(number: int, value: float) -> bytes:
    return tag(number, _FIXED64) + _DOUBLE(value) if value else b""


def block(number: int, content: bytes) -> bytes:
    """Bytes, or a message within a message, which is there even when it is empty."""
    return tag(number) + varint(len(content)) + content


def text(number: int, value: str) -> bytes:
    return block(number, value.encode()) if value else b""


def entry(number: int, name: str, value: str) -> bytes:
    """One of a ``map<string, string>``."""
    return block(number, text(1, name) + text(2, value))


def timestamp(number: int, seconds: int, nanoseconds: int) -> bytes:
    """A google.protobuf.Timestamp or Duration."""
    return block(number, usual(1, seconds) + integer(2, nanoseconds))


def fields(number: int, values: Fields) -> bytes:
    """A google.protobuf.Struct."""
    return block(number, _struct(values))


def _struct(values: Fields) -> bytes:
    return b"".join([block(1, _name(name) + block(2, _value(value))) for name, value in values.items()])


_NULL, _FALSE, _TRUE = tag(1, _VARINT) + b"\0", tag(4, _VARINT) + b"\0", tag(4, _VARINT) + b"\1"
_NUMBER = tag(2, _FIXED64)


@lru_cache(maxsize=4096)
def _name(name: str) -> bytes:
    return text(1, name)


def _value(value: Field) -> bytes:
    """Unlike other fields, that of a google.protobuf.Value is there even when it is 0."""
    if isinstance(value, float):
        return _NUMBER + _DOUBLE(value)
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int):
        return _NUMBER + _DOUBLE(value)
    if isinstance(value, str):
        return block(3, value.encode())
    if isinstance(value, dict):
        return block(5, _struct(value))
    return block(6, b"".join([block(1, _value(item)) for item in value]))


def read(message: bytes) -> dict[int, int | bytes]:
    """The last value of each field; numbers of fixed width as bytes.

    Raises:
        ValueError: no such message.
    """
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            found[key >> 3], at = _read_varint(message, at)
            continue
        if wire == _LENGTH:
            size, at = _read_varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at}: wire type {wire} is none that is used")
        if at + size > len(message):
            raise ValueError(f"byte {at}: {size} bytes are told, {len(message) - at} are left")
        found[key >> 3] = message[at : at + size]
        at += size
    return found


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, digit in enumerate(message[at : at + _LONGEST_VARINT]):
        value |= (digit & 0x7F) << 7 * place
        if digit < 0x80:
            return value, at + place + 1
    raise ValueError(f"byte {at}: a number that does not end")
