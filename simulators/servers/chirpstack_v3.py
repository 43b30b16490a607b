"""ChirpStack Application Server v3's MQTT integration, marshaler ``json_v3`` (its default).

It tells neither the device's address nor whether a frame was confirmed, and no time of the server's: a
frame that no gateway with GNSS heard has none at all.

Source: internal/integration/{models/models.go,marshaler/marshaler.go} of
https://github.com/brocaar/chirpstack-application-server and
https://www.chirpstack.io/docs/chirpstack-application-server/integrations/events.html.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from telemetry.plugin import Fields

from . import Downlink, Gateway, Origin, Reception, Said, Server, Transmission
from .chirpstack_v4 import APPLICATION
from .words import base64, battery_level, encode, margin, profile, raw, stamp, uuid_text

APPLICATION_ID = "1"
_TAGS = raw({"simulated": "true"})


class _Location(msgspec.Struct, gc=False):
    latitude: float
    longitude: float
    altitude: float


class _RxInfo(msgspec.Struct, gc=False):
    gateway_id: str = field(name="gatewayID")
    uplink_id: str = field(name="uplinkID")
    name: str
    time: str | UnsetType
    rssi: int
    snr: float = field(name="loRaSNR")
    location: Raw


class _TxInfo(msgspec.Struct, gc=False):
    frequency: int
    dr: int


class _Device(msgspec.Struct, rename="camel", gc=False):
    application_id: str = field(name="applicationID")
    application_name: str
    device_name: str


class _Up(_Device, rename="camel", gc=False):
    device_profile_name: str
    device_profile_id: str = field(name="deviceProfileID")
    dev_eui: str = field(name="devEUI")
    rx_info: list[_RxInfo]
    tx_info: _TxInfo
    adr: bool
    f_cnt: int
    f_port: int
    data: str
    object: Fields | UnsetType
    tags: Raw


class _Join(_Device, rename="camel", gc=False):
    dev_eui: str = field(name="devEUI")
    dev_addr: str
    rx_info: list[_RxInfo] | UnsetType
    tx_info: _TxInfo
    tags: Raw


def up(sent: Transmission) -> Said:
    """The uplink."""
    origin = sent.origin
    profile_id, profile_name = profile(origin.vendor, origin.model)
    event = _Up(
        APPLICATION_ID,
        APPLICATION,
        origin.name,
        profile_name,
        profile_id,
        origin.dev_eui,
        [_rx_info(sent, reception) for reception in sent.receptions],
        _TxInfo(sent.frequency, 12 - sent.spreading_factor),
        sent.adr,
        sent.f_cnt,
        sent.f_port,
        base64(sent.payload),
        sent.fields or UNSET,
        _TAGS,
    )
    return _topic(origin, "up"), encode(event)


def join(sent: Transmission) -> Said:
    """A join-accept was scheduled."""
    event = _Join(
        APPLICATION_ID,
        APPLICATION,
        sent.origin.name,
        sent.origin.dev_eui,
        sent.session.dev_addr,
        [_rx_info(sent, reception) for reception in sent.receptions] or UNSET,
        _TxInfo(sent.frequency, 12 - sent.spreading_factor),
        _TAGS,
    )
    return _topic(sent.origin, "join"), encode(event)


def status(sent: Transmission) -> Said:
    """A DevStatusAns."""
    told = {
        "margin": margin(sent),
        "externalPowerSource": False,
        "batteryLevel": battery_level(sent),
        "batteryLevelUnavailable": False,
    }
    return _event(sent, "status", told)


def log(sent: Transmission) -> Said:
    """A frame with the counter of one before: the event is an `error`."""
    told: dict[str, Any] = {
        "type": "UPLINK_FCNT_RETRANSMISSION",
        "error": "frame-counter did not increment",
    }
    return _event(sent, "error", told | ({"fCnt": sent.f_cnt} if sent.f_cnt else {}))


def ack(sent: Transmission, _downlink: Downlink, f_cnt_down: int) -> Said:
    """The frame acknowledged a confirmed downlink."""
    return _event(sent, "ack", {"acknowledged": True, "fCnt": f_cnt_down})


def _event(sent: Transmission, event: str, told: dict[str, Any]) -> Said:
    body = {
        "applicationID": APPLICATION_ID,
        "applicationName": APPLICATION,
        "deviceName": sent.origin.name,
        "devEUI": sent.origin.dev_eui,
        **told,
        "tags": _TAGS,
    }
    return _topic(sent.origin, event), encode(body)


def _topic(origin: Origin, event: str) -> str:
    return f"application/{APPLICATION_ID}/device/{origin.dev_eui}/event/{event}"


def _rx_info(sent: Transmission, reception: Reception) -> _RxInfo:
    gateway = reception.gateway
    # A gateway's identifier of a frame: the frame's own but for the last four bytes.
    uplink_id = uuid_text(sent.id[:12] + reception.uplink_id.to_bytes(4, "big"))
    return _RxInfo(
        gateway.id,
        uplink_id,
        gateway.name,
        stamp(sent.time, sent.nanoseconds) if gateway.gnss else UNSET,
        reception.rssi,
        reception.snr,
        _location(gateway),
    )


@lru_cache(maxsize=4096)
def _location(gateway: Gateway) -> Raw:
    if not gateway.gnss:
        return raw(None)
    return raw(_Location(gateway.latitude, gateway.longitude, gateway.altitude_m))


SERVER = Server(up, join, status, log, ack)
