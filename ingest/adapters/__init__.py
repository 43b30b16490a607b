"""Network servers' formats. An adapter is chosen by topic and content; the first that matches parses.

The order: servers declared for a topic (whoever names a topic means it), the built-in ones, of which at most
one matches a message, then those of other distributions.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from telemetry.errors import BadMessage, SettingsError
from telemetry.model import RawMessage

from . import (
    aws_iot,
    chirpstack_v3,
    chirpstack_v4,
    chirpstack_v4_protobuf,
    everynet,
    helium,
    kerlink,
    loriot,
    milesight,
    senet,
    thingpark,
    tts_v3,
)
from .base import Adapter, Parsed, decode_json
from .plugins import load_adapters
from .settings import AdapterSettings

__all__ = ["ADAPTERS", "Adapter", "AdapterSettings", "Parsed", "configure", "parse"]

_ANY = msgspec.json.Decoder()

ADAPTERS: tuple[Adapter, ...] = (
    chirpstack_v4.ADAPTER,  # the commonest first: every message asks in this order
    tts_v3.ADAPTER,
    chirpstack_v4_protobuf.ADAPTER,
    chirpstack_v3.ADAPTER,
    thingpark.ADAPTER,
    loriot.ADAPTER,
    milesight.ADAPTER,
    kerlink.ADAPTER,
    aws_iot.ADAPTER,
    everynet.ADAPTER,
    senet.ADAPTER,
    helium.ADAPTER,
)
_in_use = ADAPTERS


def configure(settings: AdapterSettings) -> tuple[str, ...]:
    """Read the declared servers and other distributions' adapters, once, when a process starts.

    Returns one sentence for each adapter of another distribution that could not be loaded.

    Raises:
        SettingsError: the file of declared servers is wrong; names file, server, key and cure.
    """
    global _in_use
    declared = _declared(Path(settings.adapters_file)) if settings.adapters_file else ()
    plugins = load_adapters({adapter.name for adapter in (*declared, *ADAPTERS)})
    _in_use = (*declared, *ADAPTERS, *plugins.adapters)
    return plugins.problems


def _declared(path: Path) -> tuple[Adapter, ...]:
    # JSONPath and its models are loaded for those who use them.
    from .declared import declared_adapter
    from .mapping import SETTING, read_mappings

    servers = read_mappings(path)
    for name in {server.name for server in servers} & {adapter.name for adapter in ADAPTERS}:
        raise SettingsError(SETTING, f"{path}: {name!r} is built in", "Give the server another name.")
    return tuple(declared_adapter(server) for server in servers)


def parse(message: RawMessage) -> Parsed:
    """The uplink or event in this message.

    Raises:
        BadMessage: no adapter knows the format, or the one that does cannot read it.
    """
    for adapter in _in_use:
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
