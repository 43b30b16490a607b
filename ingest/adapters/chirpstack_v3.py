"""ChirpStack Application Server v3, marshalers ``json_v3`` (its default) and ``json``.

Format: internal/integration/models and api/proto/as/integration of ChirpStack v3. ``json_v3`` writes
identifiers in hex and no time of the server; ``json`` (protobuf's JSON) writes them in base64, the object as
a text, and publishedAt. Topics end in ``/event/<event>``; before 3.11 in ``/device/<devEUI>/<event>``, where
an uplink is ``rx``. Missing lists and maps are null.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from telemetry.model import Event, Gateway, Key, RawMessage, Uplink, UplinkFlag, hash_key, message_key

from ..text import clean
from ..times import EARLIEST
from .base import (
    DECIBELS,
    HIGHEST_FREQUENCY,
    SPREADING_FACTOR,
    Adapter,
    Parsed,
    decode_base64,
    decode_json,
    hex_eui,
    in_range,
    parse_time,
    required,
    time_or_none,
    within,
)

NAME = "chirpstack-v3"
EVENTS = frozenset({"up", "join", "status", "ack", "txack", "error", "location", "integration"})
_BEFORE_3_11 = {"rx": "up", **{kind: kind for kind in ("join", "status", "ack", "error", "location")}}


class _Location(msgspec.Struct):
    latitude: float = 0.0
    longitude: float = 0.0


class _Rx(msgspec.Struct):
    gateway_id: str = msgspec.field(name="gatewayID", default="")
    uplink_id: str = msgspec.field(name="uplinkID", default="")
    time: str | None = None
    rssi: float = 0.0
    snr: float = msgspec.field(name="loRaSNR", default=0.0)
    location: _Location | None = None


class _Lora(msgspec.Struct, rename="camel"):
    spreading_factor: int | None = None


class _Tx(msgspec.Struct):
    frequency: int | None = None
    lora: _Lora | None = msgspec.field(name="loRaModulationInfo", default=None)


class _Device(msgspec.Struct, rename="camel"):
    dev_eui: str = msgspec.field(name="devEUI", default="")
    application_id: str = msgspec.field(name="applicationID", default="")
    application_name: str = ""
    device_name: str = ""
    device_profile_name: str = ""
    tags: dict[str, str] | None = None
    published_at: str | None = None


class _Up(_Device, rename="camel"):
    dev_addr: str | None = None
    adr: bool = False
    confirmed_uplink: bool = False
    f_cnt: int = 0
    f_port: int = 0
    data: str | None = None
    rx_info: list[_Rx] | None = None
    tx_info: _Tx | None = None


_UP = msgspec.json.Decoder(_Up)
_DEVICE = msgspec.json.Decoder(_Device)
_ANY = msgspec.json.Decoder(dict[str, Any])
_TOLD = frozenset(
    {"devEUI", "applicationID", "applicationName", "deviceName", "deviceProfileName", "tags", "publishedAt"}
)


def _kind(topic: str) -> str:
    parts = topic.rsplit("/", 3)
    if len(parts) >= 2 and parts[-2] == "event":
        return parts[-1] if parts[-1] in EVENTS else ""
    return _BEFORE_3_11.get(parts[-1], "") if len(parts) == 4 and parts[1] == "device" else ""


def matches(topic: str, payload: bytes) -> bool:
    if b'"devEUI"' not in payload or not _kind(topic):
        return False
    return b'"gatewayID"' in payload or b'"mac"' not in payload  # LoRa Server and Milesight name the mac


def parse(message: RawMessage) -> Parsed:
    """One message of the event topics.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    kind = _kind(message.topic)
    return _uplink(message) if kind == "up" else _event(kind, message)


def _uplink(message: RawMessage) -> Uplink:
    up = decode_json(_UP, message.payload)
    dev_eui = hex_eui(_in_hex(up.dev_eui, "devEUI"), "devEUI")
    f_cnt = required(in_range(up.f_cnt, "fCnt", 0xFFFFFFFF), "fCnt")
    received = up.rx_info or []
    sent = up.tx_info or _Tx()
    flags = UplinkFlag.SIMULATED if _simulated(up) else UplinkFlag(0)
    if up.confirmed_uplink:
        flags |= UplinkFlag.CONFIRMED
    if up.adr:
        flags |= UplinkFlag.ADR
    gateways = tuple(_gateway(rx, at) for at, rx in enumerate(received))
    return Uplink(
        dedup_key=_uplink_key(up, dev_eui, f_cnt, message),
        dev_eui=dev_eui,
        network=NAME,
        payload=decode_base64(up.data or "", "data"),
        time=_heard(gateways),
        ns_time=parse_time(up.published_at, "publishedAt"),
        f_cnt=f_cnt,
        f_port=in_range(up.f_port, "fPort", 255),
        dev_addr=_in_hex(up.dev_addr, "devAddr") if up.dev_addr else None,
        flags=flags,
        spreading_factor=within(sent.lora.spreading_factor if sent.lora else None, *SPREADING_FACTOR),
        frequency=in_range(sent.frequency, "txInfo.frequency", HIGHEST_FREQUENCY),
        gateways=gateways,
        origin=_origin(up),
    )


def _uplink_key(up: _Up, dev_eui: str, f_cnt: int, message: RawMessage) -> Key:
    # A gateway that transmits a frame again gives it a new uplinkID; both marshalers tell the same one.
    ids = sorted(
        _in_hex(rx.uplink_id, f"rxInfo[{at}].uplinkID").replace("-", "").lower()
        for at, rx in enumerate(up.rx_info or [])
        if rx.uplink_id
    )
    if ids:
        return hash_key(NAME, "up", dev_eui, str(f_cnt), *ids)
    if up.published_at:
        return hash_key(NAME, "up", dev_eui, str(f_cnt), up.data or "", up.published_at)
    return message_key(message)


def _heard(gateways: Sequence[Gateway]) -> datetime | None:
    """When the first gateway heard it; those that never learnt the time do not count."""
    return min((g.time for g in gateways if g.time and g.time >= EARLIEST), default=None)


def _gateway(rx: _Rx, at: int) -> Gateway:
    place = rx.location
    known = place is not None and (place.latitude or place.longitude)  # 0/0 is "not told"
    return Gateway(
        id=_in_hex(rx.gateway_id, f"rxInfo[{at}].gatewayID"),
        rssi=within(rx.rssi, *DECIBELS),
        snr=within(rx.snr, *DECIBELS),
        time=time_or_none(rx.time),
        latitude=place.latitude if place and known else None,
        longitude=place.longitude if place and known else None,
    )


def _in_hex(text: str, field: str) -> str:
    """Identifiers of 4, 8 or 16 bytes end in ``=`` as base64; hex never does."""
    return decode_base64(text, field).hex() if text.endswith("=") else text


def _simulated(device: _Device) -> bool:
    return (device.tags or {}).get("simulated") == "true"


def _origin(device: _Device) -> dict[str, str]:
    named = {
        "name": device.device_name,
        "application": device.application_name or device.application_id,
        "profile": device.device_profile_name,
    }
    return {key: value for key, value in named.items() if value}


def _event(kind: str, message: RawMessage) -> Event:
    device, body = decode_json(_DEVICE, message.payload), decode_json(_ANY, message.payload)
    data = {k: v for k, v in body.items() if k not in _TOLD}
    if kind == "status" and data.get("batteryLevelUnavailable"):
        data["batteryLevel"] = None  # its 0 means "not told", not "empty"
    return Event(
        dedup_key=message_key(message),
        kind=kind,
        network=NAME,
        time=parse_time(device.published_at, "publishedAt"),
        dev_eui=hex_eui(_in_hex(device.dev_eui, "devEUI"), "devEUI"),
        data=clean(data),
        origin=_origin(device),
        simulated=_simulated(device),
    )


ADAPTER = Adapter(NAME, matches, parse)
