"""What a message that came by HTTP would have been called on MQTT. Pure.

The same event has the same bytes on both ways, so with the same topic it has the same identity and is stored
once. Events without an id of their own are told apart by topic and bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

import msgspec

from ..adapters.tts_v3 import _EVENT_BODIES

UNKNOWN = "?"
"""Stands for what the message does not tell; it becomes a reject then."""
EVENT = re.compile(r"[a-z]{1,32}")
TTS_EVENTS = {"uplink_message": "up", **{body: event for event, body in _EVENT_BODIES}}
_LEVEL = re.compile(r"[\w.-]{1,64}", re.ASCII)
_EUI = re.compile(r"[0-9a-fA-F]{16}")
_SANDBOX = ".cloud.thethings.network"
_CLOUD = ".cloud.thethings.industries"


class _Device(NamedTuple):
    application: object
    dev_eui: object


class _DeviceInfo(msgspec.Struct, rename="camel"):
    application_id: str | None = None
    dev_eui: str | None = None


class _ChirpStack(msgspec.Struct):
    """Version 4 has `deviceInfo`, version 3 the other two."""

    device_info: _DeviceInfo | None = msgspec.field(default=None, name="deviceInfo")
    application_id: str | int | None = msgspec.field(default=None, name="applicationID")
    dev_eui: str | None = msgspec.field(default=None, name="devEUI")


class _ApplicationIds(msgspec.Struct):
    application_id: str | None = None


class TtsIds(msgspec.Struct):
    """`end_device_ids` of The Things Stack."""

    device_id: str | None = None
    application_ids: _ApplicationIds | None = None

    @property
    def application(self) -> str | None:
        return self.application_ids.application_id if self.application_ids else None


_CHIRPSTACK = msgspec.json.Decoder(_ChirpStack)
_TTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TTS_IDS = msgspec.json.Decoder(TtsIds)


def chirpstack_topic(event: str, body: bytes, *, binary: bool) -> str:
    """``application/{application}/device/{DevEUI}/event/{event}``, of version 4 or 3, JSON or protobuf."""
    try:
        device = _of_protobuf(body) if binary else _of_json(body)
    except (ValueError, RecursionError):
        device = _Device(None, None)
    return f"application/{_level(device.application)}/device/{_eui(device.dev_eui)}/event/{event}"


def tts_topic(body: bytes, tenant: str, told: str = "") -> str:
    """``v3/{application}@{tenant}/devices/{device}/{event}``; the open-source server has no tenant.

    The message itself says which event it is; `told`, the path it was posted to, counts where it cannot.
    """
    ids, event = TtsIds(), told if told in TTS_EVENTS.values() else "up"
    try:
        parts = _TTS.decode(body)
        event = next((event for name, event in TTS_EVENTS.items() if name in parts), event)
        ids = _TTS_IDS.decode(parts["end_device_ids"])
    except (ValueError, KeyError, RecursionError):
        pass
    return tts_device_topic(ids.application, tenant, ids.device_id, event)


def tts_device_topic(application: str | None, tenant: str, device: str | None, event: str) -> str:
    """The same of known parts."""
    whose = f"{_level(application)}@{_level(tenant)}" if tenant else _level(application)
    return f"v3/{whose}/devices/{_level(device)}/{event}"


def tenant_of(domain: str) -> str:
    """The tenant that ``X-Tts-Domain`` names: of the Sandbox and the Cloud; empty elsewhere."""
    host = domain.partition(":")[0].lower()
    if host.endswith(_SANDBOX):
        return "ttn"
    labels = host.removesuffix(_CLOUD).split(".")
    return labels[0] if host.endswith(_CLOUD) and len(labels) == 2 else ""


def _of_json(body: bytes) -> _Device:
    found = _CHIRPSTACK.decode(body)
    if found.device_info is not None:
        return _Device(found.device_info.application_id, found.device_info.dev_eui)
    return _Device(found.application_id, found.dev_eui)


def _of_protobuf(body: bytes) -> _Device:
    """Field 3 (of `log` 2) is version 4's device_info: application 3, DevEUI 8; version 3 has 1 and 4."""
    fields = _protobuf(body)
    for number in (3, 2):
        try:
            info = _protobuf(fields.get(number))
        except ValueError:
            continue
        if _EUI.fullmatch(_text(info.get(8))):
            return _Device(_text(info.get(3)), _text(info.get(8)))
    eui = fields.get(4)
    return _Device(fields.get(1), eui.hex() if isinstance(eui, bytes) and len(eui) == 8 else None)


def _protobuf(data: int | bytes | None) -> dict[int, int | bytes]:
    """The last value of each field of a message, unread; fields of fixed width are passed over.

    Format: https://protobuf.dev/programming-guides/encoding/

    Raises:
        ValueError: no such message.
    """
    if not isinstance(data, bytes):
        raise ValueError("no message")  # noqa: TRY004  # of bytes that came from outside
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            found[number], at = _varint(data, at)
            continue
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, len(data) + 1), at)
        if at + size > len(data):
            raise ValueError("cut off, or no protobuf")
        if kind == 2:
            found[number] = data[at : at + size]
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no varint")


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _level(value: object) -> str:
    """One level of a topic, which nobody can make two of."""
    text = str(value) if isinstance(value, str | int) else ""
    return text if _LEVEL.fullmatch(text) else UNKNOWN


def _eui(value: object) -> str:
    """As topics write it: lower-case hex. The marshaler `json` of version 3 writes base64."""
    text = value if isinstance(value, str) else ""
    if _EUI.fullmatch(text):
        return text.lower()
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return UNKNOWN
    return decoded.hex() if len(decoded) == 8 else UNKNOWN
