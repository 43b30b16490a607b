"""ChirpStack v4, JSON marshaler (integration/mqtt with ``json=true``).

Format: api/proto/integration/integration.proto of ChirpStack. 4.0 leaves out every default value, 4.1 and
later only those of rxInfo, txInfo and location; 4.6 renamed rxInfo.time to gwTime. Devices are told by
`deviceInfo`, never by the topic, whose template is configurable.
"""

from __future__ import annotations

from typing import Any

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Event, Gateway, RawMessage, Uplink, UplinkFlag, hash_key

from ..text import clean
from .base import (
    DECIBELS,
    SPREADING_FACTOR,
    Adapter,
    Parsed,
    decode_base64,
    decode_json,
    hex_eui,
    in_range,
    parse_time,
    time_or_none,
    within,
)

NAME = "chirpstack-v4"
EVENTS = frozenset({"up", "join", "status", "log", "ack", "txack", "location"})


class _DeviceInfo(msgspec.Struct, rename="camel"):
    dev_eui: str = ""
    tenant_id: str = ""
    tenant_name: str = ""
    application_id: str = ""
    application_name: str = ""
    device_profile_name: str = ""
    device_name: str = ""
    tags: dict[str, str] = {}


class _Location(msgspec.Struct):
    latitude: float | None = None
    longitude: float | None = None


class _Rx(msgspec.Struct, rename="camel"):
    gateway_id: str = ""
    gw_time: str | None = None
    time: str | None = None
    ns_time: str | None = None
    rssi: float = 0.0
    snr: float = 0.0
    location: _Location | None = None


class _Lora(msgspec.Struct, rename="camel"):
    spreading_factor: int | None = None


class _Modulation(msgspec.Struct):
    lora: _Lora | None = None


class _Tx(msgspec.Struct):
    frequency: int | None = None
    modulation: _Modulation | None = None


class _Up(msgspec.Struct, rename="camel"):
    deduplication_id: str = ""
    time: str | None = None
    device_info: _DeviceInfo | None = None
    dev_addr: str | None = None
    adr: bool = False
    f_cnt: int = 0
    f_port: int = 0
    confirmed: bool = False
    data: str = ""
    object: dict[str, Any] | None = None
    rx_info: list[_Rx] = []
    tx_info: _Tx | None = None
    join_server_context: dict[str, Any] | None = None


_UP = msgspec.json.Decoder(_Up)
_ANY = msgspec.json.Decoder(dict[str, Any])


def _kind(topic: str) -> str:
    parts = topic.split("/")
    return parts[-1] if len(parts) >= 2 and parts[-2] == "event" else ""


def matches(topic: str, payload: bytes) -> bool:
    return _kind(topic) in EVENTS and b'"deviceInfo"' in payload


def parse(message: RawMessage) -> Parsed:
    """One message of the event topics.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    kind = _kind(message.topic)
    return _uplink(message) if kind == "up" else _event(kind, message)


def _uplink(message: RawMessage) -> Uplink:
    up = decode_json(_UP, message.payload)
    info = up.device_info
    if info is None:
        raise BadMessage("missing_field", "deviceInfo: missing", field="deviceInfo")
    if not up.deduplication_id:
        raise BadMessage("missing_field", "deduplicationId: missing", field="deduplicationId")
    if up.join_server_context:
        raise BadMessage(
            "encrypted",
            "joinServerContext: the join server keeps the AppSKey, so `data` is still encrypted; "
            "let ChirpStack hold the key, or decrypt before Quantrac",
            field="joinServerContext",
        )
    flags = UplinkFlag(0)
    if info.tags.get("simulated") == "true":
        flags |= UplinkFlag.SIMULATED
    if up.confirmed:
        flags |= UplinkFlag.CONFIRMED
    if up.adr:
        flags |= UplinkFlag.ADR
    lora = up.tx_info.modulation.lora if up.tx_info and up.tx_info.modulation else None
    ns_times = [rx.ns_time for rx in up.rx_info if rx.ns_time]
    return Uplink(
        dedup_key=hash_key(NAME, "up", up.deduplication_id),
        dev_eui=hex_eui(info.dev_eui, "deviceInfo.devEui"),
        network=NAME,
        payload=decode_base64(up.data, "data"),
        time=parse_time(up.time, "time"),
        ns_time=time_or_none(min(ns_times)) if ns_times else None,
        f_cnt=in_range(up.f_cnt, "fCnt", 0xFFFFFFFF),
        f_port=in_range(up.f_port, "fPort", 255),
        dev_addr=up.dev_addr,
        flags=flags,
        spreading_factor=within(lora.spreading_factor if lora else None, *SPREADING_FACTOR),
        frequency=in_range(up.tx_info.frequency if up.tx_info else None, "txInfo.frequency", 0x7FFFFFFF),
        gateways=tuple(_gateway(rx) for rx in up.rx_info),
        origin=_origin(info),
        server_fields=up.object,
    )


def _gateway(rx: _Rx) -> Gateway:
    place = rx.location
    known = place is not None and (place.latitude is not None or place.longitude is not None)
    return Gateway(
        id=rx.gateway_id,
        rssi=within(rx.rssi, *DECIBELS),
        snr=within(rx.snr, *DECIBELS),
        time=time_or_none(rx.gw_time or rx.time),
        latitude=(place.latitude or 0.0) if place and known else None,
        longitude=(place.longitude or 0.0) if place and known else None,
    )


def _origin(info: _DeviceInfo) -> dict[str, str]:
    named = {
        "name": info.device_name,
        "application": info.application_name or info.application_id,
        "tenant": info.tenant_name or info.tenant_id,
        "profile": info.device_profile_name,
    }
    return {key: value for key, value in named.items() if value}


def _event(kind: str, message: RawMessage) -> Event:
    body = decode_json(_ANY, message.payload)
    try:
        info = msgspec.convert(body.get("deviceInfo"), _DeviceInfo)
    except msgspec.ValidationError as error:
        raise BadMessage("wrong_type", f"deviceInfo: {error}", field="deviceInfo") from None
    data = {k: v for k, v in body.items() if k not in ("deviceInfo", "deduplicationId", "time")}
    if kind == "status" and data.get("batteryLevelUnavailable"):
        data["batteryLevel"] = None  # its 0.0 means "not told", not "empty"
    return Event(
        dedup_key=_event_key(kind, body, message),
        kind=kind,
        network=NAME,
        time=parse_time(body.get("time") if isinstance(body.get("time"), str) else None, "time"),
        dev_eui=hex_eui(info.dev_eui, "deviceInfo.devEui"),
        data=clean(data),
        origin=_origin(info),
        simulated=info.tags.get("simulated") == "true",
    )


def _event_key(kind: str, body: dict[str, Any], message: RawMessage) -> Any:
    # A status shares its uplink's deduplicationId, so the kind belongs to the key; log and location
    # may come several times for one frame, so there the whole message does.
    if kind in ("join", "status", "ack") and isinstance(body.get("deduplicationId"), str):
        return hash_key(NAME, kind, body["deduplicationId"])
    if kind == "txack" and (body.get("queueItemId") or body.get("downlinkId")):
        return hash_key(NAME, kind, str(body.get("queueItemId", "")), str(body.get("downlinkId", "")))
    return hash_key("message", message.topic, message.payload)


ADAPTER = Adapter(NAME, matches, parse)
