"""Milesight gateways' embedded network server, JSON on topics of the user's choice.

Format: https://www.milesight.com/building-iot-gateway/en/application-guide/notification.html and support
article 73000600064. It is that of ChirpStack before version 3 (LoRa Server), which is read as well. Kinds of
message are told by their fields, since topics are free; `applicationID` is a number or a text.
"""

from __future__ import annotations

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Gateway, RawMessage, Uplink, UplinkFlag, message_key

from . import chirpstack_v3
from .base import (
    HIGHEST_FREQUENCY,
    SPREADING_FACTOR,
    Adapter,
    Parsed,
    decibels,
    decode_base64,
    decode_json,
    degrees,
    event_of,
    hex_eui,
    in_range,
    parse_time,
    time_or_none,
    within,
)

NAME = "milesight-gateway"


class _Rx(msgspec.Struct):
    mac: str = ""
    name: str = ""
    time: str | None = None
    rssi: float | None = None
    snr: float | None = msgspec.field(name="loRaSNR", default=None)
    latitude: float | None = None
    longitude: float | None = None


class _DataRate(msgspec.Struct, rename="camel"):
    spread_factor: int | None = None


class _Tx(msgspec.Struct, rename="camel"):
    adr: bool = False
    frequency: int | None = None
    data_rate: _DataRate | None = None


class _Message(msgspec.Struct, rename="camel"):
    dev_eui: str = msgspec.field(name="devEUI", default="")
    device_name: str = ""
    application_id: int | str = msgspec.field(name="applicationID", default="")
    application_name: str = ""
    time: str | None = None
    dev_addr: str | None = None
    f_cnt: int | None = None
    f_port: int | None = None
    data: str | None = None
    rx_info: list[_Rx] | None = None
    tx_info: _Tx | None = None
    acknowledged: bool | None = None
    error: str | None = None
    status: str | None = None


_MESSAGE = msgspec.json.Decoder(_Message)


def matches(topic: str, payload: bytes) -> bool:
    return (
        b'"devEUI"' in payload and b'"applicationID"' in payload and not chirpstack_v3.matches(topic, payload)
    )


def parse(message: RawMessage) -> Parsed:
    """An uplink, or a notification (join, online, offline, ack, error).

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    body = decode_json(_MESSAGE, message.payload)
    if body.rx_info is not None or body.f_port is not None:
        return _uplink(body, message)
    return event_of(
        message,
        NAME,
        _kind(body),
        dev_eui=hex_eui(body.dev_eui, "devEUI"),
        time=parse_time(body.time, "time"),
        origin=_origin(body),
        told=("devEUI", "deviceName", "applicationID", "applicationName", "time"),
    )


def _kind(body: _Message) -> str:
    if body.error is not None:
        return "error"
    if body.acknowledged is not None:
        return "ack"
    if body.status in ("online", "offline"):
        return body.status
    if body.dev_addr is not None:
        return "join"
    raise BadMessage(
        "unknown_event", "neither an uplink (rxInfo) nor error, acknowledged, status or devAddr is there"
    )


def _uplink(body: _Message, message: RawMessage) -> Uplink:
    if body.data is None and body.f_port:
        raise BadMessage(
            "missing_field",
            "data: missing; have the gateway send the payload in base64, not only what its codec makes of it",
            field="data",
        )
    sent = body.tx_info or _Tx()
    rate = sent.data_rate or _DataRate()
    received = body.rx_info or []
    return Uplink(
        dedup_key=message_key(message),
        dev_eui=hex_eui(body.dev_eui, "devEUI"),
        network=NAME,
        payload=decode_base64(body.data or "", "data"),
        time=parse_time(body.time or (received[0].time if received else None), "time"),
        f_cnt=in_range(body.f_cnt, "fCnt", 0xFFFFFFFF),
        f_port=in_range(body.f_port, "fPort", 255),
        dev_addr=body.dev_addr.lower() if body.dev_addr else None,
        flags=UplinkFlag.ADR if sent.adr else UplinkFlag(0),
        spreading_factor=within(rate.spread_factor, *SPREADING_FACTOR),
        frequency=in_range(sent.frequency, "txInfo.frequency", HIGHEST_FREQUENCY),
        gateways=tuple(_gateway(rx) for rx in received),
        origin=_origin(body),
    )


def _gateway(rx: _Rx) -> Gateway:
    known = rx.latitude or rx.longitude  # 0/0 is "not told"
    return Gateway(
        id=rx.mac.lower(),
        rssi=decibels(rx.rssi),
        snr=decibels(rx.snr),
        time=time_or_none(rx.time),
        latitude=degrees(rx.latitude, 90) if known else None,
        longitude=degrees(rx.longitude, 180) if known else None,
    )


def _origin(body: _Message) -> dict[str, str]:
    named = {"name": body.device_name, "application": body.application_name or str(body.application_id)}
    return {key: value for key, value in named.items() if value}


ADAPTER = Adapter(NAME, matches, parse)
