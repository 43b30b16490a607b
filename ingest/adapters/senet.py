"""Senet, JSON on a topic of the user's choice.

Format: https://docs.senetco.io/ap/api, default fields. `freq` is in MHz and, like the other fields about
radio, optional.
"""

from __future__ import annotations

import msgspec

from telemetry.model import Gateway, RawMessage, Uplink, message_key

from .base import (
    Adapter,
    Parsed,
    decibels,
    decode_hex,
    decode_json,
    hertz,
    hex_eui,
    in_range,
    parse_time,
    required,
)

NAME = "senet"


class _Message(msgspec.Struct, rename="camel"):
    dev_eui: str = ""
    gw_eui: str | None = None
    port: int | None = None
    seqno: int | None = None
    pdu: str | None = None
    txtime: str | None = None
    freq: float | None = None
    rssi: float | None = None
    snr: float | None = None


_MESSAGE = msgspec.json.Decoder(_Message)


def matches(topic: str, payload: bytes) -> bool:
    return b'"pdu"' in payload and b'"seqno"' in payload


def parse(message: RawMessage) -> Parsed:
    """An uplink.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    body = decode_json(_MESSAGE, message.payload)
    return Uplink(
        dedup_key=message_key(message),
        dev_eui=hex_eui(body.dev_eui, "devEui"),
        network=NAME,
        payload=decode_hex(body.pdu or "", "pdu"),
        time=parse_time(body.txtime, "txtime"),
        f_cnt=in_range(required(body.seqno, "seqno"), "seqno", 0xFFFFFFFF),
        f_port=in_range(body.port, "port", 255),
        frequency=hertz(body.freq, "freq"),
        gateways=(Gateway(id=body.gw_eui.lower(), rssi=decibels(body.rssi), snr=decibels(body.snr)),)
        if body.gw_eui
        else (),
    )


ADAPTER = Adapter(NAME, matches, parse)
