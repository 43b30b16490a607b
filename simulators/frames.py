"""A frame from a device, and its arrival at the network server."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from telemetry.plugin import Fields

from .network import GatewaySpec
from .servers import Gateway


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What a device sends at world second `at` of its `values`; a confirmed one is sent again as it is.

    `rows` are remembered values with the world seconds they are of: such a frame is encoded when it is said,
    as it tells the time on the wall.
    """

    device: int
    at: float
    joining: bool
    session: int
    f_cnt: int
    f_port: int
    payload: bytes
    fields: Fields
    values: Sequence[float]
    rows: tuple[tuple[float, Sequence[float]], ...] = ()


class Hearing(msgspec.Struct, frozen=True, gc=False):
    """One gateway's: its number, strength in dBm, SNR in dB."""

    gateway: int
    rssi: int
    snr: float


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A transmission that ended at world second `sent`, and reached the server at `at`: later where gateways
    had kept it. The best hearing first."""

    frame: Frame
    number: int
    sent: float
    at: float
    channel: int
    spreading_factor: int
    airtime_s: float
    charge: float
    heard: tuple[Hearing, ...]


def gateway(spec: GatewaySpec) -> Gateway:
    """A gateway as its server knows it."""
    return Gateway(spec.id, spec.name, spec.latitude, spec.longitude, spec.altitude_m, spec.gnss)
