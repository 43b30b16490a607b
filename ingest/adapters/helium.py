"""Helium Console (HTTP and MQTT integration), JSON on a topic of the user's choice.

Format: https://docs.helium.com/console/integrations/json-schema. `reported_at` is the router's clock, in
milliseconds, in older versions in seconds. `id` names the device, not the message.
"""

from __future__ import annotations

import msgspec

from telemetry.model import Gateway, RawMessage, Uplink, message_key

from .base import (
    MILLISECOND,
    SECOND,
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
    spreading_factor,
)

NAME = "helium-console"
_MILLISECONDS_FROM = 1e11
"""As seconds this is the year 5138, as milliseconds 1973."""


class _Hotspot(msgspec.Struct):
    id: str = ""
    name: str = ""
    frequency: float | None = None
    rssi: float | None = None
    snr: float | None = None
    spreading: str | None = None
    lat: float | str | None = None
    long: float | str | None = None


class _Message(msgspec.Struct):
    type: str = "uplink"
    dev_eui: str = ""
    name: str = ""
    devaddr: str | None = None
    fcnt: int | None = None
    port: int | None = None
    payload: str | None = None
    reported_at: float | None = None
    hotspots: list[_Hotspot] = []


_MESSAGE = msgspec.json.Decoder(_Message)


def matches(topic: str, payload: bytes) -> bool:
    return b'"hotspots"' in payload and b'"dev_eui"' in payload


def parse(message: RawMessage) -> Parsed:
    """An uplink, or the event that `type` names.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    body = decode_json(_MESSAGE, message.payload)
    unit = MILLISECOND if (body.reported_at or 0) >= _MILLISECONDS_FROM else SECOND
    reported = epoch(body.reported_at, "reported_at", unit)
    dev_eui = hex_eui(body.dev_eui, "dev_eui")
    origin = {"name": body.name} if body.name else {}
    if body.type != "uplink":
        return event_of(
            message, NAME, body.type, dev_eui=dev_eui, time=reported, origin=origin, told=("dev_eui", "name")
        )
    first = body.hotspots[0] if body.hotspots else _Hotspot()
    return Uplink(
        dedup_key=message_key(message),
        dev_eui=dev_eui,
        network=NAME,
        payload=decode_base64(body.payload or "", "payload"),
        time=reported,
        ns_time=reported,
        f_cnt=in_range(body.fcnt, "fcnt", 0xFFFFFFFF),
        f_port=in_range(body.port, "port", 255),
        dev_addr=body.devaddr.lower() if body.devaddr else None,
        spreading_factor=spreading_factor(first.spreading),
        frequency=hertz(first.frequency, "hotspots[0].frequency"),
        gateways=tuple(_gateway(hotspot) for hotspot in body.hotspots),
        origin=origin,
    )


def _gateway(hotspot: _Hotspot) -> Gateway:
    return Gateway(
        id=hotspot.id or hotspot.name,
        rssi=decibels(hotspot.rssi),
        snr=decibels(hotspot.snr),
        latitude=degrees(hotspot.lat, 90),
        longitude=degrees(hotspot.long, 180),
    )


ADAPTER = Adapter(NAME, matches, parse)
