"""Moving the times in ChirpStack v4's protobuf events, for a replay that is shifted."""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf.message import DecodeError, Message

from ingest.adapters.base import event_in
from ingest.adapters.chirpstack_v4_protobuf import matches
from ingest.adapters.chirpstack_v4_schema import event_classes
from simulators.shift import Move
from telemetry.clock import SECOND, from_micros, micros


def move_times(topic: str, payload: bytes, move: Move) -> bytes | None:
    """The event with its times moved, other fields as they are; None when it is none.

    What Quantrac does not read is kept unseen: a gateway's time since the GPS epoch is not moved.
    """
    if not matches(topic, payload):
        return None
    message = _classes()[event_in(topic)]()
    try:
        message.ParseFromString(payload)
        _move(message, move)
    except (DecodeError, OverflowError, ValueError):
        return None
    return message.SerializeToString()


@functools.cache
def _classes() -> dict[str, type[Message]]:
    return event_classes()


def _move(message: Any, move: Move) -> None:
    if message.DESCRIPTOR.name == "Timestamp":
        # A time of 0 is one that was not told.
        if message.seconds > 0:
            whole, rest = divmod(message.nanos, 1000)
            moved = move(from_micros(message.seconds * SECOND + whole))
            message.seconds, whole = divmod(micros(moved), SECOND)
            message.nanos = whole * 1000 + rest
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else (value,):
                _move(one, move)
