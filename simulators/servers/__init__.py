"""Network servers: how each of them says what a device sent. `Transmission` is what it knows of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from telemetry.plugin import Fields


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway at its place; without GNSS it has no clock of its own."""

    id: str
    name: str
    latitude: float
    longitude: float
    altitude_m: float
    gnss: bool


@dataclass(frozen=True, slots=True)
class Reception:
    """One gateway's hearing of a frame. `ns_time` is when the network server had it."""

    gateway: Gateway
    rssi: int
    snr: float
    ns_time: datetime
    uplink_id: int
    counter_us: int


@dataclass(frozen=True, slots=True)
class Origin:
    """A device as its network server knows it."""

    dev_eui: str
    join_eui: str
    name: str
    vendor: str
    model: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Session:
    """What a join gave: `key_id` has 16 bytes."""

    dev_addr: str
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Transmission:
    """One frame on the air and behind it.

    `time` is when it ended at the gateways, `published` when the server passed it on; `nanoseconds` fills
    up the microseconds of both. `battery` is a share of 1, as the device answers DevStatusReq.
    """

    id: UUID
    origin: Origin
    session: Session
    time: datetime
    published: datetime
    nanoseconds: int
    f_cnt: int
    f_port: int
    payload: bytes
    fields: Fields
    channel: int
    frequency: int
    spreading_factor: int
    airtime_s: float
    receptions: tuple[Reception, ...]
    battery: float
