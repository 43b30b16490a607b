"""Decentlab's sensor data message, protocol version 2, which all its LoRaWAN devices share.

One byte version, two of device id, two of flags, then for each set flag (lowest first) the 16-bit words
of that sensor; everything big endian, but a number of two words has its lower word first.
https://github.com/decentlab/decentlab-decoders
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Protocol

from telemetry.plugin import DecodeError, Field, Fields

from .wire import check_port, check_size, refuse_unknown, to_raw

PROTOCOL_VERSION = 2
MIDDLE = 0x8000
"""The word of 0 in numbers that may be negative."""

_HEADER = struct.Struct(">BHH")


class Number(Protocol):
    """A field of a sensor: how it is read from its word, or two of them, and written."""

    @property
    def name(self) -> str: ...

    @property
    def words(self) -> int: ...

    def read(self, raw: int) -> float | None: ...

    def write(self, fields: Mapping[str, Field]) -> int: ...


class Word:
    """``(raw - zero) / per_unit``.

    Where `zero` is given, a raw 0 lies far below all that can be measured: it is no reading, and what is
    sent for a field that is left out. An `optional` field that is left out is sent as 0.
    """

    def __init__(
        self, name: str, per_unit: float = 1, zero: int = 0, *, words: int = 1, optional: bool = False
    ) -> None:
        self.name = name
        self.words = words
        self._per_unit = per_unit
        self._zero = zero
        self._low = bool(zero) - zero
        self._high = (1 << 16 * words) - 1 - zero
        self._optional = optional or zero > 0

    def read(self, raw: int) -> float | None:
        if self._zero and not raw:
            return None
        raw -= self._zero
        return raw if self._per_unit == 1 else raw / self._per_unit

    def write(self, fields: Mapping[str, Field]) -> int:
        if self._optional and self.name not in fields:
            return 0
        return to_raw(fields, self.name, self._low, self._high, self._per_unit) + self._zero


class Sensor:
    """What follows when its flag is set: `name` is for errors, `numbers` come in the order of their words."""

    def __init__(self, name: str, *numbers: Number) -> None:
        self.name = name
        self.numbers = numbers
        self.fields = frozenset(number.name for number in numbers)
        self.layout = struct.Struct(f">{sum(number.words for number in numbers)}H")

    def read(self, payload: bytes, at: int) -> Fields:
        """The fields whose words begin at byte `at`."""
        check_size(payload, at, self.layout.size, self.name)
        words = iter(self.layout.unpack_from(payload, at))
        fields: Fields = {}
        for number in self.numbers:
            raw = next(words)
            if number.words == 2:
                raw += next(words) << 16
            value = number.read(raw)
            if value is not None:
                fields[number.name] = value
        return fields

    def write(self, fields: Mapping[str, Field]) -> bytes:
        """The inverse of `read`."""
        words: list[int] = []
        for number in self.numbers:
            raw = number.write(fields)
            words += (raw,) if number.words == 1 else (raw & 0xFFFF, raw >> 16)
        return self.layout.pack(*words)


BATTERY = Sensor("battery", Word("battery_voltage", 1000))


class Decentlab:
    """One of the devices: its `sensors` in the order of their flags, fields named as the vendor names them.

    A flag of no sensor of this device is refused: the frame then most likely comes from another model.
    """

    def __init__(self, id: str, *sensors: Sensor, version: str = "1") -> None:
        self.id = id
        self.version = version
        self.sensors = sensors
        self._known = frozenset({"device_id"}.union(*(sensor.fields for sensor in sensors)))

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Fields of the sensors whose flag is set; any application port."""
        check_port(f_port)
        check_size(payload, 0, _HEADER.size, "the header")
        version, device_id, flags = _HEADER.unpack_from(payload)
        if version != PROTOCOL_VERSION:
            raise DecodeError(f"byte 0: protocol version {version}, this codec reads {PROTOCOL_VERSION}")
        if flags >> len(self.sensors):
            raise DecodeError(f"byte 3: flags 0x{flags:04x} name a sensor that this device does not have")
        fields: Fields = {"device_id": device_id}
        at = _HEADER.size
        for bit, sensor in enumerate(self.sensors):
            if flags >> bit & 1:
                fields |= sensor.read(payload, at)
                at += sensor.layout.size
        if at != len(payload):
            raise DecodeError(f"byte {at}: {len(payload) - at} more after the end of the message")
        return fields

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """Port 1 and a message of the sensors that have fields; the device id is 0 where none is given."""
        refuse_unknown(fields, self._known)
        flags, body = 0, b""
        for bit, sensor in enumerate(self.sensors):
            if not sensor.fields.isdisjoint(fields):
                flags |= 1 << bit
                body += sensor.write(fields)
        if not flags:
            raise DecodeError("fields: a message carries at least one sensor")
        device_id = to_raw(fields, "device_id", 0, 0xFFFF) if "device_id" in fields else 0
        return 1, _HEADER.pack(PROTOCOL_VERSION, device_id, flags) + body
