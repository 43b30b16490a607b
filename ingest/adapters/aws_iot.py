"""AWS IoT Core for LoRaWAN (rule to a topic of the user's choice), JSON.

Format: https://docs.aws.amazon.com/iot-wireless/latest/developerguide/lorawan-uplink-metadata-format.html.
Numbers such as `Frequency` are texts; that page itself shows ``Fport``, a DevEui without its leading zero and
Snr and Rssi in each other's place, so these are read too.
"""

from __future__ import annotations

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Gateway, RawMessage, Uplink, UplinkFlag, message_key

from .base import (
    HIGHEST_FREQUENCY,
    SPREADING_FACTOR,
    Adapter,
    Parsed,
    decibels,
    decode_base64,
    decode_json,
    hex_eui,
    in_range,
    integer,
    parse_time,
    within,
)

NAME = "aws-iot-lorawan"
_IN = "WirelessMetadata.LoRaWAN"
_LOWEST_SNR = -25.0  # dB; SF12 is demodulated down to -20 (Semtech SX1276, table 13)


class _Gateway(msgspec.Struct, rename="pascal"):
    gateway_eui: str = ""
    rssi: float | str | None = None
    snr: float | str | None = None


class _Lorawan(msgspec.Struct, rename="pascal"):
    dev_eui: str = ""
    dev_addr: str | None = None
    f_cnt: int | str | None = None
    f_port: int | str | None = None
    fport: int | str | None = None
    frequency: int | str | None = None
    spreading_factor: int | str | None = None
    m_type: str = ""
    adr: bool = msgspec.field(name="ADR", default=False)
    timestamp: str | None = None
    gateways: list[_Gateway] | None = None


class _Metadata(msgspec.Struct):
    lorawan: _Lorawan | None = msgspec.field(name="LoRaWAN", default=None)


class _Message(msgspec.Struct, rename="pascal"):
    wireless_device_id: str = ""
    payload_data: str | None = None
    wireless_metadata: _Metadata | None = None


_MESSAGE = msgspec.json.Decoder(_Message)


def matches(topic: str, payload: bytes) -> bool:
    return b'"WirelessMetadata"' in payload


def parse(message: RawMessage) -> Parsed:
    """An uplink; other messages are not sent to a device's destination.

    Raises:
        BadMessage: names the field that is missing or wrong.
    """
    body = decode_json(_MESSAGE, message.payload)
    up = body.wireless_metadata.lorawan if body.wireless_metadata else None
    if up is None:
        raise BadMessage("missing_field", f"{_IN}: missing", field=_IN)
    flags = UplinkFlag(0)
    if up.m_type == "ConfirmedDataUp":
        flags |= UplinkFlag.CONFIRMED
    if up.adr:
        flags |= UplinkFlag.ADR
    time = parse_time(up.timestamp, f"{_IN}.Timestamp")
    f_port = integer(up.f_port if up.f_port is not None else up.fport, f"{_IN}.FPort")
    frequency = integer(up.frequency, f"{_IN}.Frequency")
    return Uplink(
        dedup_key=message_key(message),
        dev_eui=hex_eui(f"0{up.dev_eui}" if len(up.dev_eui) == 15 else up.dev_eui, f"{_IN}.DevEui"),
        network=NAME,
        payload=decode_base64(body.payload_data or "", "PayloadData"),
        time=time,
        ns_time=time,
        f_cnt=in_range(integer(up.f_cnt, f"{_IN}.FCnt"), f"{_IN}.FCnt", 0xFFFFFFFF),
        f_port=in_range(f_port, f"{_IN}.FPort", 255),
        dev_addr=up.dev_addr.lower() if up.dev_addr else None,
        flags=flags,
        spreading_factor=within(integer(up.spreading_factor, f"{_IN}.SpreadingFactor"), *SPREADING_FACTOR),
        frequency=in_range(frequency, f"{_IN}.Frequency", HIGHEST_FREQUENCY),
        gateways=tuple(_gateway(gateway) for gateway in up.gateways or []),
        origin={"name": body.wireless_device_id} if body.wireless_device_id else {},
    )


def _gateway(told: _Gateway) -> Gateway:
    rssi, snr = decibels(told.rssi), decibels(told.snr)
    if rssi is not None and snr is not None and rssi > 0 and snr < _LOWEST_SNR:
        rssi, snr = snr, rssi
    return Gateway(id=told.gateway_eui.lower(), rssi=rssi, snr=snr)


ADAPTER = Adapter(NAME, matches, parse)
