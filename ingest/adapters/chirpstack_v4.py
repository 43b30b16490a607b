"""ChirpStack v4, JSON marshaler (integration/mqtt with ``json=true``).

Format: api/proto/integration/integration.proto of ChirpStack. 4.0 leaves out every default value, 4.1 and
later only those of rxInfo, txInfo and location; 4.6 renamed rxInfo.time to gwTime. Devices are told by
`deviceInfo`, never by the topic, whose template is configurable.
"""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, datetime
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Event, Gateway, RawMessage, Uplink, UplinkFlag, hash_key, key_maker

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
Time = TypeVar("Time")
_FAINTEST, _LOUDEST = DECIBELS
_RX_TIMES = ("gw_time", "time", "ns_time")
_CONFIRMED, _ADR, _SIMULATED = (int(f) for f in (UplinkFlag.CONFIRMED, UplinkFlag.ADR, UplinkFlag.SIMULATED))
EVENTS = frozenset({"up", "join", "status", "log", "ack", "txack", "location"})


class _DeviceInfo(msgspec.Struct, rename="camel", gc=False):
    dev_eui: str = ""
    tenant_id: str = ""
    tenant_name: str = ""
    application_id: str = ""
    application_name: str = ""
    device_profile_name: str = ""
    device_name: str = ""
    tags: dict[str, str] = {}


class _Location(msgspec.Struct, gc=False):
    latitude: float | None = None
    longitude: float | None = None


class _Rx(msgspec.Struct, Generic[Time], rename="camel", gc=False):
    gateway_id: str = ""
    gw_time: Time | None = None
    time: Time | None = None
    ns_time: Time | None = None
    rssi: float = 0.0
    snr: float = 0.0
    location: _Location | None = None


class _Lora(msgspec.Struct, rename="camel", gc=False):
    spreading_factor: int | None = None


class _Modulation(msgspec.Struct, gc=False):
    lora: _Lora | None = None


class _Tx(msgspec.Struct, gc=False):
    frequency: int | None = None
    modulation: _Modulation | None = None


class _Up(msgspec.Struct, Generic[Time], rename="camel", gc=False):
    deduplication_id: str = ""
    time: Time | None = None
    device_info: _DeviceInfo | None = None
    dev_addr: str | None = None
    adr: bool = False
    f_cnt: int = 0
    f_port: int = 0
    confirmed: bool = False
    data: str = ""
    rx_info: list[_Rx[Time]] = []
    tx_info: _Tx | None = None
    join_server_context: dict[str, Any] | None = None


_UP = msgspec.json.Decoder(_Up[Annotated[datetime, msgspec.Meta(tz=True)]])
_UP_AS_TOLD = msgspec.json.Decoder(_Up[str])
_ANY = msgspec.json.Decoder(dict[str, Any])


_UP_TOPIC = "/event/up"
_up_key = key_maker(NAME, "up")


def _kind(topic: str) -> str:
    parts = topic.split("/")
    return parts[-1] if len(parts) >= 2 and parts[-2] == "event" else ""


def matches(topic: str, payload: bytes) -> bool:
    return (topic.endswith(_UP_TOPIC) or _kind(topic) in EVENTS) and b'"deviceInfo"' in payload


def parse(message: RawMessage) -> Parsed:
    """One message of the event topics.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    if message.topic.endswith(_UP_TOPIC):
        return _uplink(message)
    return _event(_kind(message.topic), message)


def _uplink(message: RawMessage) -> Uplink:
    up = _read(message.payload)
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
    flags = _CONFIRMED if up.confirmed else 0
    if up.adr:
        flags |= _ADR
    if info.tags and info.tags.get("simulated") == "true":
        flags |= _SIMULATED
    sent = up.tx_info
    lora = sent.modulation.lora if sent and sent.modulation else None
    ns_times = [rx.ns_time for rx in up.rx_info if rx.ns_time]
    return Uplink(
        dedup_key=_up_key(up.deduplication_id),
        dev_eui=hex_eui(info.dev_eui, "deviceInfo.devEui"),
        network=NAME,
        payload=decode_base64(up.data, "data"),
        time=up.time,
        ns_time=min(ns_times) if ns_times else None,
        f_cnt=in_range(up.f_cnt, "fCnt", 0xFFFFFFFF),
        f_port=in_range(up.f_port, "fPort", 255),
        dev_addr=up.dev_addr,
        flags=flags,
        spreading_factor=within(lora.spreading_factor if lora else None, *SPREADING_FACTOR),
        frequency=in_range(sent.frequency if sent else None, "txInfo.frequency", 0x7FFFFFFF),
        gateways=tuple([_gateway(rx) for rx in up.rx_info]),
        origin=_origin(info),
    )


def _read(payload: bytes) -> _Up[datetime]:
    """The message; a gateway's time that is none is left out, the frame's own must be one."""
    try:
        up = _UP.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = decode_json(_UP_AS_TOLD, payload)
    else:
        if up.time is None or MINYEAR < up.time.year < MAXYEAR:
            return up
        told = decode_json(_UP_AS_TOLD, payload)
    times = {"time": parse_time(told.time, "time")}
    rx_info = [
        msgspec.structs.replace(rx, **{name: time_or_none(getattr(rx, name)) for name in _RX_TIMES})
        for rx in told.rx_info
    ]
    return cast("_Up[datetime]", msgspec.structs.replace(told, rx_info=rx_info, **times))


def _gateway(rx: _Rx[datetime]) -> Gateway:
    rssi, snr, time = rx.rssi, rx.snr, rx.gw_time or rx.time
    latitude = longitude = None
    if place := rx.location:
        latitude, longitude = place.latitude, place.longitude
        if latitude is not None or longitude is not None:
            latitude, longitude = latitude or 0.0, longitude or 0.0
    return Gateway(
        rx.gateway_id,
        rssi if _FAINTEST <= rssi <= _LOUDEST else None,
        snr if _FAINTEST <= snr <= _LOUDEST else None,
        time if time is None or MINYEAR < time.year < MAXYEAR else None,
        latitude,
        longitude,
    )


def _origin(info: _DeviceInfo) -> dict[str, str]:
    named = {
        "name": info.device_name,
        "application": info.application_name or info.application_id,
        "tenant": info.tenant_name or info.tenant_id,
        "profile": info.device_profile_name,
    }
    return named if all(named.values()) else {key: value for key, value in named.items() if value}


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
    told = body.get("deduplicationId")
    if kind in ("join", "status", "ack") and told and isinstance(told, str):
        return hash_key(NAME, kind, told)
    if kind == "txack" and (body.get("queueItemId") or body.get("downlinkId")):
        return hash_key(NAME, kind, str(body.get("queueItemId", "")), str(body.get("downlinkId", "")))
    return hash_key("message", message.topic, message.payload)


ADAPTER = Adapter(NAME, matches, parse)
