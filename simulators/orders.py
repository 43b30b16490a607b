"""What a downlink orders a device to do, in the words of its vendor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Order(NamedTuple):
    """What changes: the interval of sending in seconds, a siren; None is left as it was."""

    interval_s: float | None = None
    siren: bool | None = None


def obey(codec_id: str, f_port: int, payload: bytes) -> Order | None:
    """What a device of this codec does when it gets a downlink; None: it does not understand it."""
    for family, reader in _FAMILIES.items():
        if codec_id.startswith(family):
            return reader(f_port, payload)
    return None


def _dragino(_f_port: int, payload: bytes) -> Order | None:
    """01 and the transmit interval (TDC) in seconds, 24 bits, big endian; any port.

    Source: http://wiki.dragino.com/xwiki/bin/view/Main/How%20to%20set%20the%20transmit%20time%20interval/
    """
    if len(payload) != 4 or payload[0] != 0x01:
        return None
    return _every(int.from_bytes(payload[1:], "big"))


_MILESIGHT_PORT = 85
_MILESIGHT_REPORT_INTERVAL = 0x03
_MILESIGHT_SIZES = {0x02: 2, 0x03: 2, 0x06: 9, 0x10: 1, 0x68: 1, 0x69: 1, 0x6A: 3, 0xEA: 3}


def _milesight(f_port: int, payload: bytes) -> Order | None:
    """Port 85, records of ff, type and value; type 03 is the report interval: seconds, 16 bits, low first.

    Source: https://www.milesight.com/products/docs/en/em300-mcs/protocol/em300/em300-downlink.html
    """
    order, at = None, 0
    if f_port != _MILESIGHT_PORT:
        return None
    while at + 2 <= len(payload):
        channel, type_ = payload[at : at + 2]
        size = _MILESIGHT_SIZES.get(type_)
        if channel != 0xFF or size is None or at + 2 + size > len(payload):
            break
        if type_ == _MILESIGHT_REPORT_INTERVAL:
            order = _every(int.from_bytes(payload[at + 2 : at + 4], "little")) or order
        at += 2 + size
    return order


def _decentlab(_f_port: int, payload: bytes) -> Order | None:
    """0001 (or 0002, which saves it, too) and the sampling period in seconds, then a CRC-16; all big endian.

    A device sends after each sampling unless its send period says otherwise; that is not simulated.
    Source: https://decentlab.github.io/decentlab-decoders/downlink-command-encoder.html
    """
    if len(payload) != 6 or _crc16(payload[:4]) != int.from_bytes(payload[4:], "big"):
        return None
    if int.from_bytes(payload[:2], "big") not in (1, 2):
        return None
    return _every(int.from_bytes(payload[2:4], "big"))


def _crc16(data: bytes) -> int:
    """CRC-16/MODBUS: polynomial 0x8005 reflected, from 0xffff."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


_CAYENNE_TYPELESS_ON = (0x00, 0x64)


def _cayenne(_f_port: int, payload: bytes) -> Order | None:
    """A digital output, whatever its channel, is a siren: the last one told counts.

    Two forms: the uplink's records (channel, type 01, value), as ChirpStack's codec makes them, and those
    without a type that Cayenne and The Things Stack send (channel, value × 100 in 16 bits big endian; ff or
    nothing ends them).
    Source: https://docs.mydevices.com/docs/lorawan/cayenne-lpp and DecodeDownlink of
    https://github.com/TheThingsNetwork/go-cayenne-lib/blob/master/decoder.go
    """
    if len(payload) % 3 == 1 and payload[-1] == 0xFF:
        payload = payload[:-1]
    if not payload or len(payload) % 3:
        return None
    siren = None
    for at in range(0, len(payload), 3):
        value = payload[at + 1], payload[at + 2]
        if value[0] == 0x01:
            siren = value[1] != 0
        elif value in (_CAYENNE_TYPELESS_ON, (0, 0)):
            siren = value == _CAYENNE_TYPELESS_ON
        else:
            return None
    return Order(siren=siren)


def _every(seconds: int) -> Order | None:
    return Order(interval_s=float(seconds)) if seconds else None


_FAMILIES: dict[str, Callable[[int, bytes], Order | None]] = {
    "dragino-": _dragino,
    "milesight-em": _milesight,
    "decentlab-": _decentlab,
    "cayenne-lpp": _cayenne,
}
"""By how the codec's name begins: a vendor's devices share these commands."""
