"""Decentlab's sensor data message, protocol version 2, which all its LoRaWAN devices share.

One byte version, two of device id, two of flags, then for each set flag (lowest first) the 16-bit words
of that sensor; everything big endian. https://github.com/decentlab/decentlab-decoders
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from telemetry.plugin import DecodeError

from .wire import check_size

PROTOCOL_VERSION = 2
_HEADER = struct.Struct(">BHH")


def read_message(payload: bytes, sensors: Sequence[tuple[str, int]]) -> tuple[int, dict[str, Sequence[int]]]:
    """The device id, and per sensor present its words.

    `sensors` are the device's sensors as (name, number of words), in the order of their flags. A flag of
    no sensor of this device is refused: the frame then most likely comes from another model.
    """
    check_size(payload, 0, _HEADER.size, "the header")
    version, device_id, flags = _HEADER.unpack_from(payload)
    if version != PROTOCOL_VERSION:
        raise DecodeError(f"byte 0: protocol version {version}, this codec reads {PROTOCOL_VERSION}")
    if flags >> len(sensors):
        raise DecodeError(f"byte 3: flags 0x{flags:04x} name a sensor that this device does not have")
    words: dict[str, Sequence[int]] = {}
    at = _HEADER.size
    for name, count in _present(flags, sensors):
        check_size(payload, at, 2 * count, name)
        words[name] = struct.unpack_from(f">{count}H", payload, at)
        at += 2 * count
    if at != len(payload):
        raise DecodeError(f"byte {at}: {len(payload) - at} more after the end of the message")
    return device_id, words


def write_message(
    device_id: int, words: dict[str, Sequence[int]], sensors: Sequence[tuple[str, int]]
) -> bytes:
    """The inverse of `read_message`."""
    flags = sum(1 << bit for bit, (name, _) in enumerate(sensors) if name in words)
    message = _HEADER.pack(PROTOCOL_VERSION, device_id, flags)
    for name, count in _present(flags, sensors):
        message += struct.pack(f">{count}H", *words[name])
    return message


def _present(flags: int, sensors: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    return (sensor for bit, sensor in enumerate(sensors) if flags >> bit & 1)
