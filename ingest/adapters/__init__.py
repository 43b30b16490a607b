"""Network servers' formats. An adapter is chosen by topic and content; the first that matches parses."""

from __future__ import annotations

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import RawMessage

from . import chirpstack_v4, tts_v3
from .base import Adapter, Parsed, decode_json

__all__ = ["ADAPTERS", "Adapter", "Parsed", "parse"]

_ANY = msgspec.json.Decoder()

ADAPTERS: tuple[Adapter, ...] = (chirpstack_v4.ADAPTER, tts_v3.ADAPTER)


def parse(message: RawMessage) -> Parsed:
    """The uplink or event in this message.

    Raises:
        BadMessage: no adapter knows the format, or the one that does cannot read it.
    """
    for adapter in ADAPTERS:
        if adapter.matches(message.topic, message.payload):
            return adapter.parse(message)
    raise _unknown(message)


def _unknown(message: RawMessage) -> BadMessage:
    """Why no adapter took it, as told as possible."""
    payload = message.payload.lstrip()
    if not payload:
        return BadMessage("empty", "payload is empty")
    if payload[:1] not in (b"{", b"["):
        return BadMessage("not_json", f"payload starts with {payload[:16]!r}, which is no JSON object")
    decode_json(_ANY, payload)
    parts = message.topic.split("/")
    if b'"deviceInfo"' in payload and len(parts) >= 2 and parts[-2] == "event":
        return BadMessage(
            "unknown_event", f"ChirpStack event {parts[-1]!r} is none Quantrac knows", field="topic"
        )
    if parts[-1] in chirpstack_v4.EVENTS and parts[0] == "application":
        return BadMessage("missing_field", "deviceInfo: missing", field="deviceInfo")
    if parts[0] == "v3":
        return BadMessage("missing_field", "end_device_ids: missing", field="end_device_ids")
    return BadMessage("unknown_format", f"no adapter knows messages of topic {message.topic[:200]!r}")
