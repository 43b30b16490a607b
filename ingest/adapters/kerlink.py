"""Kerlink Wanesy Management Center (push over MQTT or HTTP), JSON.

Format: Wanesy's API migration guide. Times are milliseconds, `gwRecvTime` the gateway's and `recvTime` the
server's; `ulFrequency` is in MHz; `id` is the server's own name of the message.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Gateway, RawMessage, Uplink, UplinkFlag, hash_key, message_key

from .base import (
    MILLISECOND,
    Adapter,
    Parsed,
    decibels,
    decode_base64,
    decode_hex,
    decode_json,
    epoch,
    event_of,
    hertz,
    hex_eui,
    in_range,
    spreading_factor,
    still_encrypted,
)

NAME = "kerlink-wmc"


class _EndDevice(msgspec.Struct, rename="camel"):
    dev_eui: str = ""
    dev_addr: str | None = None


class _Gw(msgspec.Struct, rename="camel"):
    gw_eui: str = ""
    rssi: float | None = None
    snr: float | None = None


class _Message(msgspec.Struct, rename="camel"):
    id: str = ""
    end_device: _EndDevice | None = None
    f_port: int | None = None
    f_cnt_up: int | None = None
    adr: bool = False
    confirmed: bool = False
    encrypted: bool = False
    payload: str | None = None
    encoding_type: Literal["HEXA", "BASE64"] = "HEXA"
    recv_time: float | None = None
    gw_recv_time: float | None = None
    ul_frequency: float | None = None
    data_rate: str | None = None
    gw_info: list[_Gw] | None = None


_MESSAGE = msgspec.json.Decoder(_Message)


def matches(topic: str, payload: bytes) -> bool:
    return b'"endDevice"' in payload


def parse(message: RawMessage) -> Parsed:
    """An uplink (``dataUp``), or the event of a downlink's fate (``dataDownEvent``).

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    body = decode_json(_MESSAGE, message.payload)
    if body.end_device is None:
        raise BadMessage("missing_field", "endDevice: missing", field="endDevice")
    dev_eui = hex_eui(body.end_device.dev_eui, "endDevice.devEui")
    ns_time = epoch(body.recv_time, "recvTime", MILLISECOND)
    if body.f_cnt_up is None:
        return event_of(message, NAME, "down", dev_eui=dev_eui, time=ns_time, told=("endDevice",))
    if body.encrypted:
        raise still_encrypted("encrypted", "give the device's AppSKey to Wanesy")
    decode = decode_hex if body.encoding_type == "HEXA" else decode_base64
    flags = UplinkFlag(0)
    if body.confirmed:
        flags |= UplinkFlag.CONFIRMED
    if body.adr:
        flags |= UplinkFlag.ADR
    return Uplink(
        dedup_key=hash_key(NAME, "up", body.id) if body.id else message_key(message),
        dev_eui=dev_eui,
        network=NAME,
        payload=decode(body.payload or "", "payload"),
        time=epoch(body.gw_recv_time, "gwRecvTime", MILLISECOND) or ns_time,
        ns_time=ns_time,
        f_cnt=in_range(body.f_cnt_up, "fCntUp", 0xFFFFFFFF),
        f_port=in_range(body.f_port, "fPort", 255),
        dev_addr=body.end_device.dev_addr.lower() if body.end_device.dev_addr else None,
        flags=flags,
        spreading_factor=spreading_factor(body.data_rate),
        frequency=hertz(body.ul_frequency, "ulFrequency"),
        gateways=tuple(
            Gateway(id=gw.gw_eui.lower(), rssi=decibels(gw.rssi), snr=decibels(gw.snr))
            for gw in body.gw_info or []
        ),
    )


ADAPTER = Adapter(NAME, matches, parse)
