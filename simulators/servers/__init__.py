"""Network servers: how each of them says what a device sent. `Transmission` is what it knows of a frame.

A message is made for every frame that a hundred thousand devices send, so these are cheap and beyond the
garbage collector, and what is the same in all messages of a device type or a gateway is put into words
once (`words.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from telemetry.plugin import Fields

Format = Literal["chirpstack-v4", "chirpstack-v4.0", "chirpstack-v4-protobuf", "chirpstack-v3", "tts-v3"]
"""A network server's version and marshaler; `formats.FORMATS` has the words of each."""
Said = tuple[str, bytes]
"""Topic and body of a message."""


class Gateway(NamedTuple):
    """A gateway at its place; without GNSS it has no clock of its own, and nobody knows where it stands."""

    id: str
    name: str
    latitude: float
    longitude: float
    altitude_m: float
    gnss: bool


class Reception(msgspec.Struct, frozen=True, gc=False):
    """One gateway's hearing of a frame. `ns_time` (UTC) is when the network server had it."""

    gateway: Gateway
    rssi: int
    snr: float
    ns_time: datetime
    uplink_id: int
    counter_us: int


class Origin(msgspec.Struct, frozen=True, gc=False):
    """A device as its network server knows it."""

    dev_eui: str
    join_eui: str
    name: str
    vendor: str
    model: str
    latitude: float
    longitude: float


class Session(msgspec.Struct, frozen=True, gc=False):
    """What a join gave: `key_id` has 16 bytes."""

    dev_addr: str
    key_id: bytes


class Transmission(msgspec.Struct, frozen=True, gc=False):
    """One frame on the air and behind it, in Python's own numbers (no NumPy scalars).

    `id` is 16 bytes that no other frame has. `time` is when it ended at the gateways, `published` when the
    server passed it on, both in UTC; `nanoseconds` (0–999) fills up the microseconds of both. `receptions`
    are the gateways that heard it, the loudest first: at least one, but for a join. `battery` is a share of
    1, as the device answers DevStatusReq.
    """

    id: bytes
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
    confirmed: bool = False
    adr: bool = True


class Downlink(NamedTuple):
    """A frame for a device. `id` is its sender's name for it; empty where none was given."""

    dev_eui: str
    f_port: int
    payload: bytes
    confirmed: bool = False
    id: str = ""


class Server(NamedTuple):
    """A network server's words; None for what it does not say.

    `join` tells that a join-accept was scheduled, `status` a DevStatusAns in that frame, `log` that the frame
    had the counter of one before and was not passed on (so no `up` is sent for it), `ack` that the device
    acknowledged a confirmed downlink with that frame; its last argument is the downlink's frame counter.
    """

    up: Callable[[Transmission], Said]
    join: Callable[[Transmission], Said]
    status: Callable[[Transmission], Said] | None
    log: Callable[[Transmission], Said] | None
    ack: Callable[[Transmission, Downlink, int], Said]
