"""ChirpStack v4, protobuf marshaler (integration/mqtt with ``json=false``), on the same topics as JSON.

An event is turned into the JSON that ChirpStack would have sent and read as that, so one event is one uplink
whichever marshaler brought it.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, message_key

from . import chirpstack_v4
from .base import Adapter, Parsed, event_in

NAME = "chirpstack-v4-protobuf"
_FIRST_BYTES = (b"\x0a", b"\x08", b"\x12")
"""Tags of an event's first field: a text or message 1, a number 1 (txack), or field 2 where 1 is zero."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Teller = Callable[[Any], Any]


def matches(topic: str, payload: bytes) -> bool:
    return (
        payload[:1] in _FIRST_BYTES
        and not payload.lstrip().startswith(b"{")  # a line break is the tag of a text 1
        and event_in(topic) in chirpstack_v4.EVENTS
    )


def parse(message: RawMessage) -> Parsed:
    """One message of the event topics.

    Raises:
        BadMessage: no such protobuf message, or a field that is missing or wrong, under its JSON name.
    """
    kind = event_in(message.topic)
    event, tell = _readers()[kind]
    try:
        body = tell(event.FromString(message.payload))
    except DecodeError as error:
        raise BadMessage(
            "not_protobuf",
            f"payload is no {kind!r} event of ChirpStack v4 in protobuf: {error}; version 3 is read with "
            'marshaler="json_v3"',
        ) from None
    as_json = RawMessage(message.topic, msgspec.json.encode(body), message.received_at)
    parsed = chirpstack_v4.parse(as_json)
    if isinstance(parsed, Event) and parsed.dedup_key == message_key(as_json):
        return msgspec.structs.replace(parsed, dedup_key=message_key(message))
    return parsed


@functools.cache
def _readers() -> dict[str, tuple[type[Message], _Teller]]:
    """Built when the first such message comes: most installations never see one."""
    from .chirpstack_v4_schema import event_classes

    return {
        kind: (event, _message(event.DESCRIPTOR, defaults=kind != "up"))
        for kind, event in event_classes().items()
    }


def _message(descriptor: Any, *, defaults: bool = False) -> _Teller:
    """What tells a message as JSON, without what is zero; with `defaults` its own fields even then."""
    if descriptor.name == "Timestamp":
        return _time
    if descriptor.name == "Duration":
        return _duration
    inner = [(f.name, f.json_name, _field(f)) for f in descriptor.fields if f.has_presence]
    plain = [(f.name, f.json_name, _field(f)) for f in descriptor.fields if not f.has_presence]

    def tell(message: Message) -> dict[str, Any]:
        told = {}
        for name, json_name, teller in plain:
            value = getattr(message, name)
            if value or defaults:
                told[json_name] = teller(value)
        for name, json_name, teller in inner:
            if message.HasField(name):
                told[json_name] = teller(getattr(message, name))
        return told

    return tell


def _field(field: Any) -> _Teller:
    if field.message_type is not None and field.message_type.name == "Entry":
        return lambda entries: {entry.key: entry.value for entry in entries}
    one = _one(field)
    return (lambda values: [one(value) for value in values]) if field.is_repeated else one


def _one(field: Any) -> _Teller:
    if field.message_type is not None:
        return _message(field.message_type)
    if field.enum_type is not None:
        names = {value.number: value.name.partition("__")[2] for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda data: base64.b64encode(data).decode()
    return _shortest if field.type == FieldDescriptor.TYPE_FLOAT else lambda value: value


def _shortest(value: float) -> float:
    """The shortest number that is this one in 32 bits, as JSON tells it: 9.8, not 9.800000190734863."""
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return float(f"{value:.9g}")


def _time(message: Any) -> str:
    seconds, nanos = message.seconds, message.nanos
    # What is no time is told as a text that is none: the reader of the JSON knows what depends on it.
    return f"{_second(seconds)}.{nanos:09d}Z" if 0 <= nanos < 1_000_000_000 else f"{seconds} s {nanos} ns"


@functools.lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
    except OverflowError:
        return f"{seconds} s"


def _duration(message: Any) -> str:
    return f"{message.seconds + message.nanos / 1e9:.9f}".rstrip("0").rstrip(".") + "s"


ADAPTER = Adapter(NAME, matches, parse)
