"""Everynet (data API over MQTT, HTTP or WebSocket), JSON on a topic of the user's choice.

Format: https://ns.docs.everynet.io/data-api/uplink-message.html. `rx_time` is the gateway's clock, the
`time` of meta the server's, both in seconds; frequencies are in MHz. With ``duplicate=1`` every further
gateway's copy comes as a message of its own, marked `duplicate`: an event, since the first was the uplink.
"""

from __future__ import annotations

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Gateway, RawMessage, Uplink, UplinkFlag, hash_key, message_key

from .base import (
    SPREADING_FACTOR,
    Adapter,
    Parsed,
    decibels,
    decode_base64,
    decode_json,
    degrees,
    epoch,
    event_of,
    hertz,
    hex_eui,
    in_range,
    still_encrypted,
    within,
)

NAME = "everynet"


class _Meta(msgspec.Struct):
    device: str | None = None
    device_addr: str | None = None
    application: str | None = None
    gateway: str | None = None
    packet_hash: str | None = None
    time: float | None = None


class _Gps(msgspec.Struct):
    lat: float | None = None
    lng: float | None = None


class _Hardware(msgspec.Struct):
    rssi: float | None = None
    snr: float | None = None
    gps: _Gps | None = None


class _Modulation(msgspec.Struct):
    spreading: int | None = None


class _Radio(msgspec.Struct):
    freq: float | None = None
    modulation: _Modulation | None = None
    hardware: _Hardware | None = None


class _Header(msgspec.Struct):
    confirmed: bool = False
    adr: bool = False


class _Lora(msgspec.Struct):
    header: _Header | None = None


class _Params(msgspec.Struct):
    port: int | None = None
    counter_up: int | None = None
    payload: str | None = None
    encrypted_payload: str | None = None
    duplicate: bool = False
    rx_time: float | None = None
    radio: _Radio | None = None
    lora: _Lora | None = None


class _Kind(msgspec.Struct):
    type: str = ""
    meta: _Meta | None = None


class _Uplink(_Kind):
    params: _Params | None = None


_KIND = msgspec.json.Decoder(_Kind)
_UPLINK = msgspec.json.Decoder(_Uplink)


def matches(topic: str, payload: bytes) -> bool:
    return b'"meta"' in payload and b'"params"' in payload and b'"type"' in payload


def parse(message: RawMessage) -> Parsed:
    """An uplink, or the event that `type` names.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    told = decode_json(_KIND, message.payload)
    if told.meta is None:
        raise BadMessage("missing_field", "meta: missing", field="meta")
    if not told.type:
        raise BadMessage("missing_field", "type: missing", field="type")
    if told.type != "uplink":
        return _event(told.type, told.meta, message)
    params = decode_json(_UPLINK, message.payload).params
    if params is None:
        raise BadMessage("missing_field", "params: missing", field="params")
    return (
        _event("up/duplicate", told.meta, message)
        if params.duplicate
        else _uplink(told.meta, params, message)
    )


def _event(kind: str, meta: _Meta, message: RawMessage) -> Parsed:
    return event_of(
        message,
        NAME,
        kind,
        dev_eui=hex_eui(meta.device, "meta.device") if meta.device else None,
        time=epoch(meta.time, "meta.time"),
        told=("type",),
    )


def _uplink(meta: _Meta, params: _Params, message: RawMessage) -> Uplink:
    if params.payload is None and params.encrypted_payload and params.port:
        raise still_encrypted("params.encrypted_payload", "give the device's AppSKey to Everynet")
    radio = params.radio or _Radio()
    header = (params.lora.header if params.lora else None) or _Header()
    flags = UplinkFlag(0)
    if header.confirmed:
        flags |= UplinkFlag.CONFIRMED
    if header.adr:
        flags |= UplinkFlag.ADR
    return Uplink(
        # The hash is the frame's: a device that repeats a frame repeats the hash, at another time.
        dedup_key=hash_key(NAME, "up", meta.packet_hash, repr(params.rx_time))
        if meta.packet_hash and params.rx_time is not None
        else message_key(message),
        dev_eui=hex_eui(meta.device, "meta.device"),
        network=NAME,
        payload=decode_base64(params.payload or "", "params.payload"),
        time=epoch(params.rx_time, "params.rx_time"),
        ns_time=epoch(meta.time, "meta.time"),
        f_cnt=in_range(params.counter_up, "params.counter_up", 0xFFFFFFFF),
        f_port=in_range(params.port, "params.port", 255),
        dev_addr=meta.device_addr.lower() if meta.device_addr else None,
        flags=flags,
        spreading_factor=within(radio.modulation.spreading if radio.modulation else None, *SPREADING_FACTOR),
        frequency=hertz(radio.freq, "params.radio.freq"),
        gateways=(_gateway(meta.gateway, radio.hardware or _Hardware()),) if meta.gateway else (),
        origin={"application": meta.application} if meta.application else {},
    )


def _gateway(id: str, heard: _Hardware) -> Gateway:
    return Gateway(
        id=id.lower(),
        rssi=decibels(heard.rssi),
        snr=decibels(heard.snr),
        latitude=degrees(heard.gps.lat, 90) if heard.gps else None,
        longitude=degrees(heard.gps.lng, 180) if heard.gps else None,
    )


ADAPTER = Adapter(NAME, matches, parse)
