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
_LOW = 2048


def varint(value: int) -> bytes:
    """A number of up to 64 bits, or a negative one as its two's complement."""
    if 0 <= value < _LOW:
        return _SHORT[value]
    if 1 << 28 <= value < 1 << 35:  # most that is drawn from 32 bits, and most nanoseconds: five digits
        low = value & 0x7F | (value & 0x3F80) << 1 | (value & 0x1FC000) << 2 | (value & 0xFE00000) << 3
        return (low | 0x80808080 | value >> 28 << 32).to_bytes(5, "little")
    return _any_varint(value)


def _any_varint(value: int) -> bytes:
    value &= _SIXTY_FOUR_BITS
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


_SHORT = [_any_varint(value) for value in range(_LOW)]
_NUMBERS, _FIXED64S, _BLOCKS, _FIXED32S = (
    [varint(number << 3 | wire) for number in range(32)] for wire in (_VARINT, _FIXED64, _LENGTH, _FIXED32)
)
"""The first bytes of a field, by its number."""


def integer(number: int, value: int) -> bytes:
    return _NUMBERS[number] + varint(value) if value else b""


@lru_cache(maxsize=4096)
def usual(number: int, value: int) -> bytes:
    """The same for a field with few values, or whose value comes again soon."""
    return integer(number, value)


def single(number: int, value: float) -> bytes:
    """A `float`, 32 bits."""
    return _FIXED32S[number] + _FLOAT(value) if value else b""


def double(number: int, value: float) -> bytes:
    return _FIXED64S[number] + _DOUBLE(value) if value else b""


def block(number: int, content: bytes) -> bytes:
    """Bytes, or a message within a message, which is there even when it is empty."""
    size = len(content)
    return _BLOCKS[number] + (_SHORT[size] if size < _LOW else varint(size)) + content


def text(number: int, value: str) -> bytes:
    return block(number, value.encode()) if value else b""


def entry(number: int, name: str, value: str) -> bytes:
    """One of a ``map<string, string>``."""
    return block(number, text(1, name) + text(2, value))


def moment(seconds: int, nanoseconds: int) -> bytes:
    """The content of a google.protobuf.Timestamp or Duration."""
    return usual(1, seconds) + integer(2, nanoseconds)


def fields(number: int, values: Fields) -> bytes:
    """A google.protobuf.Struct."""
    return block(number, _struct(values))


def _struct(values: Fields) -> bytes:
    return b"".join([block(1, _name(name) + _value(value)) for name, value in values.items()])


_NULL, _FALSE, _TRUE = (block(2, told) for told in (b"\x08\0", b"\x20\0", b"\x20\1"))
_NUMBER = block(2, _FIXED64S[2] + bytes(8))[:-8]


@lru_cache(maxsize=4096)
def _name(name: str) -> bytes:
    return text(1, name)


def _value(value: Field) -> bytes:
    """A google.protobuf.Value as field 2; unlike other fields, what is in it is there even when it is 0."""
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, (int, float)):
        return _NUMBER + _DOUBLE(value)
    if value is None:
        return _NULL
    if isinstance(value, str):
        return block(2, block(3, value.encode()))
    if isinstance(value, dict):
        return block(2, block(5, _struct(value)))
    return block(2, block(6, b"".join([_of_a_list(item) for item in value])))


def _of_a_list(value: Field) -> bytes:
    """The same as field 1."""
    return _BLOCKS[1] + _value(value)[1:]


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
