"""Actility ThingPark (application server tunnel or IoT Flow connector), JSON on a topic of the user's choice.

Format: https://docs.thingpark.com/thingpark-x/latest/Message/uplink-message. The one key of a message tells
what it is. Numbers may be texts, frequencies are in MHz, `Time` is the gateway's and carries an offset.
`Late` tells a frame that a gateway kept while it had no connection: it keeps its `Time`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Gateway, RawMessage, Uplink, UplinkFlag, message_key

from .base import (
    SPREADING_FACTOR,
    Adapter,
    Parsed,
    decibels,
    decode_hex,
    decode_json,
    degrees,
    event_of,
    hertz,
    hex_eui,
    in_range,
    integer,
    parse_time,
    still_encrypted,
    within,
)

NAME = "actility-thingpark"
_UPLINK = "DevEUI_uplink"
_EVENTS = {
    "DevEUI_notification": "notification",
    "DevEUI_location": "location",
    "DevEUI_downlink_Sent": "down/sent",
    "DevEUI_downlink_Rejected": "down/failed",
}
_NOTIFICATIONS = {"join": "join", "reset": "reset", "devstatusans": "status"}
_EXTERNAL_POWER, _NOT_TOLD, _FULL = 0, 255, 254  # of DevStatusAns' battery (LoRaWAN 1.0.4, 5.5)
_CONFIRMED_UP = 4  # MType of the MAC header


class _Lrr(msgspec.Struct, rename="pascal"):
    lrrid: str = ""
    rssi: float | str | None = msgspec.field(name="LrrRSSI", default=None)
    snr: float | str | None = msgspec.field(name="LrrSNR", default=None)


class _Lrrs(msgspec.Struct):
    lrr: list[_Lrr] | _Lrr = msgspec.field(name="Lrr", default_factory=list)


class _CustomerData(msgspec.Struct):
    name: str | None = None


class _Body(msgspec.Struct):
    dev_eui: str = msgspec.field(name="DevEUI", default="")
    time: str | None = msgspec.field(name="Time", default=None)
    type: str = msgspec.field(name="Type", default="")
    f_port: int | str | None = msgspec.field(name="FPort", default=None)
    f_cnt: int | str | None = msgspec.field(name="FCntUp", default=None)
    m_type: int | str | None = msgspec.field(name="MType", default=None)
    adr: int | str | None = msgspec.field(name="ADRbit", default=None)
    payload_hex: str | None = None
    encryption: int | str | None = msgspec.field(name="PayloadEncryption", default=None)
    spreading: int | str | None = msgspec.field(name="SpFact", default=None)
    frequency: float | str | None = msgspec.field(name="Frequency", default=None)
    dev_addr: str | None = msgspec.field(name="DevAddr", default=None)
    lrrid: str = msgspec.field(name="Lrrid", default="")
    lrrs: _Lrrs | None = msgspec.field(name="Lrrs", default=None)
    latitude: float | str | None = msgspec.field(name="LrrLAT", default=None)
    longitude: float | str | None = msgspec.field(name="LrrLON", default=None)
    customer_data: _CustomerData | None = msgspec.field(name="CustomerData", default=None)
    var1: int | str | None = msgspec.field(name="Var1", default=None)
    var2: int | str | None = msgspec.field(name="Var2", default=None)


_MESSAGE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BODY = msgspec.json.Decoder(_Body)


def matches(topic: str, payload: bytes) -> bool:
    return b'"DevEUI_' in payload


def parse(message: RawMessage) -> Parsed:
    """An uplink, or the event of a notification, a location or a downlink report.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    found = decode_json(_MESSAGE, message.payload)
    name = next((key for key in (_UPLINK, *_EVENTS) if key in found), None)
    if name is None:
        raise BadMessage("unknown_event", f"none of {', '.join((_UPLINK, *_EVENTS))} is there")
    body = decode_json(_BODY, found[name])
    if name == _UPLINK:
        return _uplink(body, message)
    kind = _EVENTS[name]
    if kind == "notification":
        kind = _NOTIFICATIONS.get(body.type, kind)
    event = event_of(
        message,
        NAME,
        kind,
        dev_eui=hex_eui(body.dev_eui, f"{name}.DevEUI"),
        time=parse_time(body.time, f"{name}.Time"),
        origin=_origin(body),
        inside=name,
        told=("DevEUI", "Time", "CustomerData"),
    )
    return msgspec.structs.replace(event, data=event.data | _status(body)) if kind == "status" else event


def _status(body: _Body) -> dict[str, Any]:
    """Battery and margin under the names that ChirpStack's `status` gives them."""
    battery = integer(body.var1, "DevEUI_notification.Var1")
    known = battery is not None and _EXTERNAL_POWER < battery < _NOT_TOLD
    return {
        "batteryLevel": 100 * battery / _FULL if battery is not None and known else None,
        "externalPowerSource": battery == _EXTERNAL_POWER,
        "margin": integer(body.var2, "DevEUI_notification.Var2"),
    }


def _uplink(body: _Body, message: RawMessage) -> Uplink:
    if integer(body.encryption, f"{_UPLINK}.PayloadEncryption"):
        raise still_encrypted(
            f"{_UPLINK}.PayloadEncryption", "let ThingPark hold the AppSKey, or decrypt before Quantrac"
        )
    flags = UplinkFlag(0)
    if integer(body.m_type, f"{_UPLINK}.MType") == _CONFIRMED_UP:
        flags |= UplinkFlag.CONFIRMED
    if integer(body.adr, f"{_UPLINK}.ADRbit"):
        flags |= UplinkFlag.ADR
    return Uplink(
        dedup_key=message_key(message),
        dev_eui=hex_eui(body.dev_eui, f"{_UPLINK}.DevEUI"),
        network=NAME,
        payload=decode_hex(body.payload_hex or "", f"{_UPLINK}.payload_hex"),
        time=parse_time(body.time, f"{_UPLINK}.Time"),
        f_cnt=in_range(integer(body.f_cnt, f"{_UPLINK}.FCntUp"), f"{_UPLINK}.FCntUp", 0xFFFFFFFF),
        f_port=in_range(integer(body.f_port, f"{_UPLINK}.FPort"), f"{_UPLINK}.FPort", 255),
        dev_addr=body.dev_addr.lower() if body.dev_addr else None,
        flags=flags,
        spreading_factor=within(integer(body.spreading, f"{_UPLINK}.SpFact"), *SPREADING_FACTOR),
        frequency=hertz(body.frequency, f"{_UPLINK}.Frequency"),
        gateways=_gateways(body),
        origin=_origin(body),
    )


def _gateways(body: _Body) -> tuple[Gateway, ...]:
    heard = body.lrrs.lrr if body.lrrs else []
    return tuple(
        Gateway(
            id=lrr.lrrid,
            rssi=decibels(lrr.rssi),
            snr=decibels(lrr.snr),
            # Only the place of the gateway that heard best is told.
            latitude=degrees(body.latitude, 90) if lrr.lrrid == body.lrrid else None,
            longitude=degrees(body.longitude, 180) if lrr.lrrid == body.lrrid else None,
        )
        for lrr in ([heard] if isinstance(heard, _Lrr) else heard)
    )


def _origin(body: _Body) -> dict[str, str]:
    return {"name": body.customer_data.name} if body.customer_data and body.customer_data.name else {}


ADAPTER = Adapter(NAME, matches, parse)
