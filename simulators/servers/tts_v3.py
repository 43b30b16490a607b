"""The Things Stack v3's MQTT integration: zero, empty and false are left out, 64-bit integers are strings.

Source: https://www.thethingsindustries.com/docs/integrations/data-formats/ and messages.proto of
lorawan-stack.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

import msgspec
from msgspec import UNSET, Raw, UnsetType

from telemetry.plugin import Fields

from . import Downlink, Gateway, Origin, Reception, Said, Server, Transmission
from .words import base64, encode, queue_item, raw, since_1970, stamp

APPLICATION = "quan-trac"
TENANT = "dong-nai"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_SERVED_AFTER = timedelta(milliseconds=20)
_BEFORE_PUBLISHED = timedelta(milliseconds=60)
_PLACE_SOURCE = "SOURCE_REGISTRY"
_APPLICATION_IDS = raw({"application_id": APPLICATION})
_NETWORK_IDS = raw({"net_id": "000013", "tenant_id": TENANT, "cluster_id": "as1"})


class _Ids(msgspec.Struct, gc=False):
    device_id: str
    application_ids: Raw
    dev_eui: str
    join_eui: str
    dev_addr: str


class _Location(msgspec.Struct, omit_defaults=True, gc=False):
    latitude: float = 0
    longitude: float = 0
    altitude: int = 0
    source: str = ""


class _RxMetadata(msgspec.Struct, omit_defaults=True, gc=False):
    gateway_ids: Raw
    time: str = ""
    timestamp: int = 0
    rssi: int = 0
    channel_rssi: int = 0
    snr: float = 0
    location: Raw = Raw()
    uplink_token: str = ""
    channel_index: int = 0
    received_at: str = ""


class _Settings(msgspec.Struct, omit_defaults=True, gc=False):
    data_rate: Raw
    frequency: str
    timestamp: int = 0
    time: str = ""


class _Battery(msgspec.Struct, omit_defaults=True, gc=False):
    f_cnt: int = 0
    value: float = 0
    received_at: str = ""


class _Uplink(msgspec.Struct, omit_defaults=True, gc=False):
    session_key_id: str = ""
    f_port: int = 0
    f_cnt: int = 0
    frm_payload: str = ""
    decoded_payload: Fields | UnsetType = UNSET
    rx_metadata: list[_RxMetadata] = []
    settings: _Settings | None = None
    received_at: str = ""
    confirmed: bool = False
    consumed_airtime: str = ""
    locations: dict[str, _Location] = {}
    version_ids: Raw = Raw()
    network_ids: Raw = Raw()
    last_battery_percentage: _Battery | None = None


class _JoinAccept(msgspec.Struct, gc=False):
    session_key_id: str
    received_at: str


class _Acknowledged(msgspec.Struct, omit_defaults=True, gc=False):
    session_key_id: str
    f_port: int
    f_cnt: int = 0
    frm_payload: str = ""
    confirmed: bool = False
    priority: str = ""
    correlation_ids: list[str] = []


class _Message(msgspec.Struct, omit_defaults=True, gc=False):
    end_device_ids: _Ids
    correlation_ids: list[str]
    received_at: str
    uplink_message: _Uplink | None = None
    join_accept: _JoinAccept | None = None
    downlink_ack: _Acknowledged | None = None
    simulated: bool = False


def up(sent: Transmission) -> Said:
    """The uplink, marked simulated."""
    origin, receptions, nanoseconds = sent.origin, sent.receptions, sent.nanoseconds
    first = min([reception.ns_time for reception in receptions])
    served, time = stamp(first + _SERVED_AFTER, nanoseconds), stamp(sent.time, nanoseconds)
    uplink = _Uplink(
        base64(sent.session.key_id),
        sent.f_port,
        sent.f_cnt,
        base64(sent.payload),
        sent.fields or UNSET,
        [_rx_metadata(sent, reception, time) for reception in receptions],
        _Settings(_data_rate(sent.spreading_factor), str(sent.frequency), receptions[0].counter_us, time),
        served,
        sent.confirmed,
        f"{sent.airtime_s:.6f}s",
        {"user": _Location(origin.latitude or 0, origin.longitude or 0, 0, _PLACE_SOURCE)},
        _version_ids(origin.vendor, origin.model),
        _NETWORK_IDS,
        _Battery(sent.f_cnt, round(sent.battery * 100, 6) or 0, served),
    )
    message = _Message(*_head(sent), uplink_message=uplink, simulated=True)
    return _topic(origin, "up"), encode(message)


def join(sent: Transmission) -> Said:
    """A join was accepted; marked simulated."""
    accept = _JoinAccept(base64(sent.session.key_id), stamp(sent.time, sent.nanoseconds))
    message = _Message(*_head(sent), join_accept=accept, simulated=True)
    return _topic(sent.origin, "join"), encode(message)


def ack(sent: Transmission, downlink: Downlink, f_cnt_down: int) -> Said:
    """The frame acknowledged a confirmed downlink; marked simulated."""
    acknowledged = _Acknowledged(
        base64(sent.session.key_id),
        downlink.f_port,
        f_cnt_down,
        base64(downlink.payload),
        True,
        "NORMAL",
        [queue_item(downlink, f_cnt_down)],
    )
    message = _Message(*_head(sent), downlink_ack=acknowledged, simulated=True)
    return _topic(sent.origin, "down/ack"), encode(message)


def _topic(origin: Origin, kind: str) -> str:
    return f"v3/{APPLICATION}@{TENANT}/devices/{device_id(origin.dev_eui)}/{kind}"


def device_id(dev_eui: str) -> str:
    """What a simulated device is called."""
    return f"eui-{dev_eui}"


def _head(sent: Transmission) -> tuple[_Ids, list[str], str]:
    origin = sent.origin
    ids = _Ids(
        device_id(origin.dev_eui),
        _APPLICATION_IDS,
        origin.dev_eui.upper(),
        origin.join_eui.upper(),
        sent.session.dev_addr.upper(),
    )
    received_at = stamp(sent.published - _BEFORE_PUBLISHED, sent.nanoseconds)
    return ids, [f"gs:uplink:{_ulid(sent)}"], received_at


def _rx_metadata(sent: Transmission, reception: Reception, time: str) -> _RxMetadata:
    ids, location = _gateway(reception.gateway)
    return _RxMetadata(
        ids,
        time if reception.gateway.gnss else "",
        reception.counter_us,
        reception.rssi,
        reception.rssi,
        reception.snr or 0,
        location,
        base64(reception.uplink_id.to_bytes(4, "big")),
        sent.channel,
        stamp(reception.ns_time, sent.nanoseconds),
    )


@lru_cache(maxsize=4096)
def _gateway(gateway: Gateway) -> tuple[Raw, Raw]:
    """Its identifiers and its place, which is told whatever the gateway knows of it itself."""
    place = _Location(gateway.latitude or 0, gateway.longitude or 0, round(gateway.altitude_m), _PLACE_SOURCE)
    return raw({"gateway_id": f"eui-{gateway.id}", "eui": gateway.id.upper()}), raw(place)


@lru_cache(maxsize=16)
def _data_rate(spreading_factor: int) -> Raw:
    lora = {"bandwidth": 125000, "spreading_factor": spreading_factor, "coding_rate": "4/5"}
    return raw({"lora": lora})


@lru_cache(maxsize=1024)
def _version_ids(vendor: str, model: str) -> Raw:
    return raw({"brand_id": vendor.lower(), "model_id": model.split()[0].lower(), "band_id": "AS_923_2"})


def _ulid(sent: Transmission) -> str:
    """48 bits of milliseconds in Crockford's base 32, to which hex digits belong, too: they look random."""
    seconds, rest = since_1970(sent.time)
    time = seconds * 1000 + rest // 1000
    high = _PAIRS[time >> 40] + _PAIRS[time >> 30 & 1023]
    low = _PAIRS[time >> 20 & 1023] + _PAIRS[time >> 10 & 1023] + _PAIRS[time & 1023]
    return f"{high}{low}{sent.id[:8].hex().upper()}"


SERVER = Server(up, join, None, None, ack)
