"""The heart: message → outcome → readings. Pure, so live traffic, replay and tests share it."""

from __future__ import annotations

import re
from typing import NamedTuple

from decoders.normalise import Value
from telemetry.errors import BadMessage, DecodeError
from telemetry.model import Event, RawMessage, Reject, Uplink, UplinkFlag, message_key
from telemetry.store.registry import DeviceRow

from . import adapters
from .directory import Directory
from .text import json_of, storable

Outcome = Uplink | Event | Reject
_SIMULATED = int(UplinkFlag.SIMULATED)
_EUI_IN_TOPIC = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])", re.IGNORECASE)


class Decoded(NamedTuple):
    """What a frame says: its values, the codec's fields as JSON, who decoded it, why there is no more."""

    values: list[Value]
    fields: bytes | None
    decoded_by: str | None
    problem: str | None


def parse(message: RawMessage, max_size: int) -> Outcome:
    """One message as an uplink, an event, or a reject that says why it is neither."""
    try:
        _check_size(message, max_size)
        return adapters.parse(message)
    except Exception as raised:  # an adapter that stumbles over one message must not stop the next
        error = raised if isinstance(raised, BadMessage) else _stumbled(raised)
        found = _EUI_IN_TOPIC.search(message.topic)
        return Reject(
            key=message_key(message),
            reason=error.reason,
            detail=storable(str(error)),
            field=error.field,
            dev_eui=found.group().lower() if found else None,
        )


def _stumbled(error: Exception) -> BadMessage:
    if isinstance(error, RecursionError):
        return BadMessage("not_json", "payload is nested too deeply")
    return BadMessage("adapter_failed", f"{type(error).__name__}: {error}")


def _check_size(message: RawMessage, max_size: int) -> None:
    size = len(message.payload)
    if size > max_size:
        raise BadMessage("too_large", f"{size} bytes, the limit is {max_size} (QUANTRAC_MAX_MESSAGE)")


def decode(uplink: Uplink, device: DeviceRow, directory: Directory) -> Decoded:
    """The readings of one frame under this directory; whatever is wrong with it is said, never raised."""
    if device.status != "active" or device.device_type is None:
        return Decoded([], None, None, f"device is {device.status}")
    if uplink.flags & _SIMULATED and not device.simulated:
        return Decoded([], None, None, "simulated uplink of a real device: kept out of its series")
    reader = directory.readers.get(device.device_type)
    if reader is None:
        problem = directory.problems.get(device.device_type, f"device type {device.device_type} is not known")
        return Decoded([], None, None, storable(problem))
    if not uplink.payload:
        return Decoded([], None, reader.stamp, "payload: empty")
    if not uplink.f_port:
        return Decoded([], None, reader.stamp, "f_port 0: MAC commands only")
    try:
        fields = reader.codec.decode(uplink.f_port, uplink.payload)
        normalised = reader.normalise(fields, device.variables)
    except DecodeError as error:
        return Decoded([], None, reader.stamp, storable(str(error)))
    except (Exception, SystemExit) as error:  # a third party's codec may raise anything, and fails alone
        return Decoded([], None, reader.stamp, storable(f"codec failed: {type(error).__name__}: {error}"))
    problems, kept = normalised.problems, None
    try:
        kept = json_of(fields)
    except Exception as error:  # the readings are sound all the same
        problems = [*problems, f"fields not kept: {type(error).__name__}: {error}"]
    return Decoded(normalised.values, kept, reader.stamp, storable("; ".join(problems)) if problems else None)
