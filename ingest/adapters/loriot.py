"""LORIOT (application output over MQTT), JSON on a topic of the user's choice.

Format: https://docs.loriot.io/display/LNS/Uplink+Data+Message and …/Gateway+Information. `ts` is the server's
clock. A frame comes as `rx` at once and, where gateway information is switched on, again as `gw` when all
gateways have reported. Both carry the frame, its counter and the same `ts`, so both are the same uplink:
whichever is stored first stays, and no setting of the output loses or doubles a frame.
"""

from __future__ import annotations

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Gateway, RawMessage, Uplink, hash_key, message_key

from .base import (
    HIGHEST_FREQUENCY,
    MILLISECOND,
    Adapter,
    Parsed,
    decibels,
    decode_hex,
    decode_json,
    degrees,
    epoch,
    event_of,
    hex_eui,
    in_range,
    spreading_factor,
    still_encrypted,
    within,
)

NAME = "loriot"
_FRAMES = ("rx", "gw")
_HIGHEST_BATTERY = 254


class _Gw(msgspec.Struct):
    gweui: str = ""
    rssi: float | None = None
    snr: float | None = None
    lat: float | str | None = None
    lon: float | str | None = None


class _Message(msgspec.Struct):
    cmd: str = ""
    eui: str = msgspec.field(name="EUI", default="")
    ts: float | None = None
    fcnt: int | None = None
    port: int | None = None
    data: str | None = None
    encdata: str | None = None
    freq: int | None = None
    dr: str | None = None
    bat: int | None = None
    gws: list[_Gw] = []


_MESSAGE = msgspec.json.Decoder(_Message)


def matches(topic: str, payload: bytes) -> bool:
    return b'"EUI"' in payload and b'"cmd"' in payload


def parse(message: RawMessage) -> Parsed:
    """An uplink (`rx`, `gw`), or the event that `cmd` names.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    body = decode_json(_MESSAGE, message.payload)
    dev_eui = hex_eui(body.eui, "EUI")
    time = epoch(body.ts, "ts", MILLISECOND)
    if not body.cmd:
        raise BadMessage("missing_field", "cmd: missing", field="cmd")
    if body.cmd not in _FRAMES:
        return event_of(message, NAME, body.cmd, dev_eui=dev_eui, time=time, told=("cmd", "EUI", "ts"))
    if body.data is None and body.encdata:
        raise still_encrypted("encdata", "give the device's AppSKey to LORIOT")
    f_cnt = in_range(body.fcnt, "fcnt", 0xFFFFFFFF)
    return Uplink(
        dedup_key=message_key(message)
        if time is None or f_cnt is None
        else hash_key(NAME, "up", dev_eui, str(f_cnt), time.isoformat()),
        dev_eui=dev_eui,
        network=NAME,
        payload=decode_hex(body.data or "", "data"),
        time=time,
        ns_time=time,
        f_cnt=f_cnt,
        f_port=in_range(body.port, "port", 255),
        spreading_factor=spreading_factor(body.dr),
        frequency=in_range(body.freq, "freq", HIGHEST_FREQUENCY),
        gateways=tuple(_gateway(gw) for gw in body.gws),
        battery=_percent(body.bat),
    )


def _gateway(gw: _Gw) -> Gateway:
    return Gateway(
        id=gw.gweui.lower(),
        rssi=decibels(gw.rssi),
        snr=decibels(gw.snr),
        latitude=degrees(gw.lat, 90),
        longitude=degrees(gw.lon, 180),
    )


def _percent(battery: int | None) -> float | None:
    """DevStatusAns tells 1 to 254; 0 is external power, 255 "cannot measure" (LoRaWAN 1.0.4, 5.5)."""
    known = within(battery, 1, _HIGHEST_BATTERY)
    return None if known is None else 100 * known / _HIGHEST_BATTERY


ADAPTER = Adapter(NAME, matches, parse)
