"""The Things Stack v3 (Sandbox, Cloud, Enterprise, open source), JSON.

Format: api/ttn/lorawan/v3/messages.proto. Zero, empty and false values are left out, 64-bit integers are
strings, times carry nanoseconds, EUIs are upper-case. MQTT is QoS 0 only.
"""

from __future__ import annotations

from typing import Any

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Event, Gateway, Key, RawMessage, Uplink, UplinkFlag, hash_key

from ..text import clean
from .base import (
    DECIBELS,
    SPREADING_FACTOR,
    Adapter,
    Parsed,
    decode_base64,
    decode_json,
    decode_leniently,
    hex_eui,
    in_range,
    integer,
    parse_time,
    time_or_none,
    within,
)

NAME = "tts-v3"
_EVENT_BODIES = (
    ("up/normalized", "uplink_normalized"),
    ("join", "join_accept"),
    ("down/queued", "downlink_queued"),
    ("down/sent", "downlink_sent"),
    ("down/ack", "downlink_ack"),
    ("down/nack", "downlink_nack"),
    ("down/failed", "downlink_failed"),
    ("down/invalidated", "downlink_queue_invalidated"),
    ("location/solved", "location_solved"),
    ("service/data", "service_data"),
)


class _ApplicationIds(msgspec.Struct):
    application_id: str = ""


class _Ids(msgspec.Struct):
    device_id: str = ""
    application_ids: _ApplicationIds | None = None
    dev_eui: str | None = None
    dev_addr: str | None = None


class _GatewayIds(msgspec.Struct):
    gateway_id: str = ""
    eui: str | None = None


class _PacketBroker(msgspec.Struct):
    forwarder_gateway_id: str | None = None
    forwarder_gateway_eui: str | None = None


class _Location(msgspec.Struct):
    latitude: float = 0.0
    longitude: float = 0.0


class _Rx(msgspec.Struct):
    gateway_ids: _GatewayIds | None = None
    packet_broker: _PacketBroker | None = None
    time: str | None = None
    rssi: float = 0.0
    snr: float = 0.0
    location: _Location | None = None


class _Lora(msgspec.Struct):
    spreading_factor: int | None = None


class _DataRate(msgspec.Struct):
    lora: _Lora | None = None


class _TxSettings(msgspec.Struct):
    data_rate: _DataRate | None = None
    frequency: int | str | None = None
    time: str | None = None


class _Battery(msgspec.Struct):
    value: float | None = None


class _UplinkMessage(msgspec.Struct):
    session_key_id: str = ""
    f_port: int = 0
    f_cnt: int = 0
    frm_payload: str = ""
    rx_metadata: list[_Rx] = []
    settings: _TxSettings | None = None
    received_at: str | None = None
    confirmed: bool = False
    last_battery_percentage: _Battery | None = None
    normalized_payload: msgspec.Raw = msgspec.Raw(b"null")


class _Up(msgspec.Struct):
    end_device_ids: _Ids | None = None
    received_at: str | None = None
    uplink_message: _UplinkMessage | None = None
    simulated: bool = False


_UP = msgspec.json.Decoder(_Up)
_ANY = msgspec.json.Decoder(dict[str, Any])


def matches(topic: str, payload: bytes) -> bool:
    return topic.startswith("v3/") and b'"end_device_ids"' in payload


def parse(message: RawMessage) -> Parsed:
    """One message of ``v3/{application}@{tenant}/devices/{device}/…``.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    if message.topic.endswith("/up") or b'"uplink_message"' in message.payload:
        return _uplink(message)
    return _event(message)


def _uplink(message: RawMessage) -> Uplink:
    body = decode_json(_UP, message.payload)
    ids, up = body.end_device_ids, body.uplink_message
    if ids is None:
        raise BadMessage("missing_field", "end_device_ids: missing", field="end_device_ids")
    if up is None:
        raise BadMessage("missing_field", "uplink_message: missing", field="uplink_message")
    flags = 0
    if body.simulated:
        flags |= int(UplinkFlag.SIMULATED)
    if up.confirmed:
        flags |= int(UplinkFlag.CONFIRMED)
    sent = up.settings
    lora = sent.data_rate.lora if sent and sent.data_rate else None
    frequency = integer(sent.frequency if sent else None, "uplink_message.settings.frequency")
    return Uplink(
        dedup_key=_uplink_key(body, ids, up, message),
        dev_eui=hex_eui(ids.dev_eui, "end_device_ids.dev_eui"),
        network=NAME,
        payload=decode_base64(up.frm_payload, "uplink_message.frm_payload"),
        time=parse_time(
            (sent.time if sent else None) or up.received_at or body.received_at,
            "uplink_message.settings.time",
        ),
        ns_time=parse_time(up.received_at or body.received_at, "uplink_message.received_at"),
        f_cnt=in_range(up.f_cnt, "uplink_message.f_cnt", 0xFFFFFFFF),
        f_port=in_range(up.f_port, "uplink_message.f_port", 255),
        dev_addr=ids.dev_addr.lower() if ids.dev_addr else None,
        flags=flags,
        spreading_factor=within(lora.spreading_factor if lora else None, *SPREADING_FACTOR),
        frequency=in_range(frequency, "uplink_message.settings.frequency", 0x7FFFFFFF),
        gateways=tuple(_gateway(rx) for rx in up.rx_metadata),
        origin=_origin(ids),
        battery=within(up.last_battery_percentage.value, 0, 100) if up.last_battery_percentage else None,
        normalized=decode_leniently(bytes(up.normalized_payload)) or None,
    )


def _uplink_key(body: _Up, ids: _Ids, up: _UplinkMessage, message: RawMessage) -> Key:
    received = up.received_at or body.received_at
    if not received:
        return hash_key("message", message.topic, message.payload)
    application = ids.application_ids.application_id if ids.application_ids else ""
    return hash_key(NAME, "up", application, ids.device_id, up.session_key_id, str(up.f_cnt), received)


def _gateway(rx: _Rx) -> Gateway:
    ids, broker = rx.gateway_ids, rx.packet_broker
    name = (ids.eui or ids.gateway_id) if ids else ""
    if broker is not None:  # every gateway behind Packet Broker is called "packetbroker"
        name = broker.forwarder_gateway_eui or broker.forwarder_gateway_id or name
    return Gateway(
        id=name.lower(),
        rssi=within(rx.rssi, *DECIBELS),
        snr=within(rx.snr, *DECIBELS),
        time=time_or_none(rx.time),
        latitude=rx.location.latitude if rx.location else None,
        longitude=rx.location.longitude if rx.location else None,
    )


def _origin(ids: _Ids) -> dict[str, str]:
    application = ids.application_ids.application_id if ids.application_ids else ""
    return {k: v for k, v in {"name": ids.device_id, "application": application}.items() if v}


def _event(message: RawMessage) -> Event:
    body = decode_json(_ANY, message.payload)
    try:
        ids = msgspec.convert(body.get("end_device_ids"), _Ids)
    except msgspec.ValidationError as error:
        raise BadMessage("wrong_type", f"end_device_ids: {error}", field="end_device_ids") from None
    found = next(((kind, name) for kind, name in _EVENT_BODIES if name in body), None)
    if found is None:
        known = ", ".join(name for _, name in _EVENT_BODIES)
        raise BadMessage("unknown_event", f"none of uplink_message, {known} is there")
    kind, name = found
    received = body.get("received_at")
    return Event(
        dedup_key=hash_key("message", message.topic, message.payload),
        kind=kind,
        network=NAME,
        time=parse_time(received if isinstance(received, str) else None, "received_at"),
        dev_eui=hex_eui(ids.dev_eui, "end_device_ids.dev_eui") if ids.dev_eui else None,
        data=clean({name: body[name]}),
        origin=_origin(ids),
        simulated=body.get("simulated") is True,
    )


ADAPTER = Adapter(NAME, matches, parse)
