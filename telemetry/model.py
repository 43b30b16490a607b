"""What travels through Quantrac: raw messages and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import IntEnum, IntFlag
from hashlib import blake2b
from math import inf
from typing import Any

import msgspec

_NO_SNR = -99.0  # dB, below any radio's

Key = bytes
"""A 128-bit identity, as 16 bytes (`hash_key`); the database shows it as a uuid."""


class Quality(IntEnum):
    """Flag of a reading, after QARTOD (https://ioos.noaa.gov/project/qartod/)."""

    GOOD = 1
    NOT_EVALUATED = 2
    SUSPECT = 3
    FAIL = 4
    MISSING = 9


class UplinkFlag(IntFlag):
    """What is worth knowing of a stored uplink; bits of `uplink.flags`."""

    SIMULATED = 1
    CONFIRMED = 2
    ADR = 4
    NETWORK_TIME = 8
    """`time` was implausible; the network server's took its place."""
    ASSIGNED_TIME = 16
    """The message carried no plausible time at all; the moment of its first arrival was assigned."""


class RawMessage(msgspec.Struct, frozen=True, gc=False):
    """Bytes as a source delivered them; `topic` may hold surrogate escapes where it was not UTF-8."""

    topic: str
    payload: bytes
    received_at: datetime
    source: str = "mqtt"
    qos: int = 1


class Gateway(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One gateway's reception of a frame; rssi in dBm, snr in dB, coordinates WGS 84."""

    id: str
    rssi: float | None = None
    snr: float | None = None
    time: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None


class Uplink(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One LoRaWAN frame in our normal form.

    `time` is what the device's or gateway's clock says, `ns_time` the network server's; either may be
    absent or implausible, which `ingest.times` settles. `flags` are bits of `UplinkFlag`, `battery` is in
    percent. `origin` is what the network server calls the device. `normalized` is a JSON value: what
    it made of the payload in The Things Stack's vocabulary (decoders.normalized).
    """

    dedup_key: Key
    dev_eui: str
    network: str
    payload: bytes
    time: datetime | None
    ns_time: datetime | None = None
    f_cnt: int | None = None
    f_port: int | None = None
    dev_addr: str | None = None
    flags: int = 0
    spreading_factor: int | None = None
    frequency: int | None = None
    gateways: tuple[Gateway, ...] = ()
    origin: dict[str, str] = {}
    battery: float | None = None
    normalized: Any = None

    @property
    def best(self) -> Gateway | None:
        """The gateway that heard it loudest."""
        best, most = None, (-inf, 0.0)
        for heard in self.gateways:
            if heard.rssi is None:
                continue
            loudness = (_NO_SNR if heard.snr is None else heard.snr, heard.rssi)
            if loudness > most:
                best, most = heard, loudness
        return best


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Anything else a network server says; `data` holds the fields worth querying, as JSON values."""

    dedup_key: Key
    kind: str
    network: str
    time: datetime | None
    dev_eui: str | None = None
    data: dict[str, Any] = {}
    origin: dict[str, str] = {}
    simulated: bool = False


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """A message that became nothing; `key` is the hash of topic and payload, so repeats are one row."""

    key: Key
    reason: str
    detail: str
    field: str | None = None
    dev_eui: str | None = None
    network: str | None = None


def hash_key(*parts: str | bytes) -> Key:
    """128-bit key of these parts, told apart by their lengths (`("a", "bc")` differs from `("ab", "c")`)."""
    return key_maker(*parts)()


def key_maker(*first: str | bytes) -> Callable[..., Key]:
    """`hash_key` for many keys whose first parts are the same."""
    begun = blake2b(b"".join([_told(part) for part in first]), digest_size=16)

    def make(*rest: str | bytes) -> Key:
        hashed = begun.copy()
        for part in rest:
            hashed.update(_told(part))
        return hashed.digest()

    return make


def _told(part: str | bytes) -> bytes:
    data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
    return len(data).to_bytes(4, "big") + data


def message_key(message: RawMessage) -> Key:
    """The identity of bytes that carry none of their own."""
    return hash_key("message", message.topic, message.payload)
