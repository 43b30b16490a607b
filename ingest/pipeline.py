"""The heart: message → outcome → readings. Pure, so live traffic, replay and tests share it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from decoders.datalog import Logged
from decoders.javascript.calls import Call, Outcome
from decoders.normalise import Value
from decoders.normalized import Measured, read_codecs_own, read_normalized
from telemetry.clock import from_micros
from telemetry.errors import BadMessage, DecodeError, DecodeTimeout
from telemetry.model import Event, RawMessage, Reject, Uplink, UplinkFlag, message_key
from telemetry.plugin import Fields
from telemetry.store.registry import DeviceRow

from . import adapters
from .directory import Directory
from .javascript import NONE, CallKey, Outcomes
from .readers import Reader
from .text import json_of, storable

Parsed = Uplink | Event | Reject
_SIMULATED = int(UplinkFlag.SIMULATED)
_EUI_IN_TOPIC = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])", re.IGNORECASE)


class Decoded(NamedTuple):
    """What a frame says: its values, the codec's fields as JSON, who decoded it, why there is no more.

    `logged` are values of earlier times. `retry` is a reject's reason where the codec was stopped or not
    tried and may do better later; nobody counts as having decoded the frame then. `counters` are metrics that
    a normalized payload tells and the directory does not know to be told beside maps.
    """

    values: list[Value]
    fields: bytes | None
    decoded_by: str | None
    problem: str | None
    logged: Sequence[Logged] = ()
    retry: str | None = None
    counters: Collection[str] = ()


def parse(message: RawMessage, max_size: int) -> Parsed:
    """One message as an uplink, an event, or a reject that says why it is neither."""
    try:
        _check_size(message, max_size)
        return adapters.parse(message)
    except (
        Exception,
        SystemExit,
    ) as raised:  # an adapter, also somebody else's, must not stop the next message
        error = raised if isinstance(raised, BadMessage) else _stumbled(raised)
        found = _EUI_IN_TOPIC.search(message.topic)
        return Reject(
            key=message_key(message),
            reason=storable(error.reason),
            detail=storable(str(error)),
            field=None if error.field is None else storable(error.field),
            dev_eui=found.group().lower() if found else None,
        )


def _stumbled(error: BaseException) -> BadMessage:
    if isinstance(error, RecursionError):
        return BadMessage("not_json", "payload is nested too deeply")
    try:
        said = str(error)
    except Exception:  # it may come from anybody, too
        said = "says nothing that can be read"
    return BadMessage("adapter_failed", f"{type(error).__name__}: {said}")


def _check_size(message: RawMessage, max_size: int) -> None:
    size = len(message.payload)
    if size > max_size:
        raise BadMessage("too_large", f"{size} bytes, the limit is {max_size} (QUANTRAC_MAX_MESSAGE)")


def decode(
    uplink: Uplink, device: DeviceRow, directory: Directory, time: int, outcomes: Outcomes = NONE
) -> Decoded:
    """The readings of one frame under this directory; whatever is wrong with it is said, never raised.

    `time` is the one it is stored under, in µs since 1970. `outcomes` answers what `to_ask` gave for it.
    """
    reader = _reader(uplink, device, directory, time)
    if isinstance(reader, Decoded):
        return reader
    warnings: Sequence[str] = ()
    own: Outcome | None = None
    fields: Fields = {}
    try:
        if reader.codec is not None:
            fields = reader.codec.decode(uplink.f_port or 0, uplink.payload)
        elif reader.script:
            outcome = outcomes[_key(reader, uplink, device, time)]
            fields, warnings = _answer(outcome)
            own = outcome.own_normalized()
        normalised = reader.normalise(fields, device.variables)
        log = reader.datalog and reader.datalog(fields, from_micros(time), device.variables)
    except _Unanswered as error:
        return Decoded([], None, None, storable(f"{reader.codec_stamp}: {error}"), retry=error.reason)
    except DecodeError as error:
        return Decoded([], None, reader.stamp, storable(str(error)))
    except (Exception, SystemExit) as error:  # a third party's codec may raise anything, and fails alone
        return Decoded([], None, reader.stamp, storable(f"codec failed: {type(error).__name__}: {error}"))
    values, problems, kept = normalised.values, normalised.problems, None
    logged: Sequence[Logged] = ()
    counters: Collection[str] = ()
    if log:
        problems, logged = [*problems, *log.problems], log.readings
    if own is not None or uplink.normalized is not None:
        measured = _measured(own, uplink.normalized, from_micros(time), reader.mapped)
        values, logged = [*values, *measured.values], [*logged, *measured.logged]
        problems = [*problems, *measured.problems]
        counters = measured.counters() - directory.counters
    if warnings:
        problems = [*problems, *(f"warning: {warning}" for warning in warnings)]
    try:
        kept = json_of(fields) if reader.codec is not None or reader.script else None
    except Exception as error:  # the readings are sound all the same
        problems = [*problems, f"fields not kept: {type(error).__name__}: {error}"]
    told = storable("; ".join(problems)) if problems else None
    return Decoded(values, kept, reader.stamp, told, logged, counters=counters)


def _measured(own: Outcome | None, servers: object, time: datetime, mapped: frozenset[str]) -> Measured:
    """What the codec's `normalizeUplink` gave, where it has one; else what the network server sent."""
    if own is not None:
        return read_codecs_own(own, time, mapped)
    return read_normalized("normalized_payload", servers, time, mapped)


def to_ask(uplink: Uplink, device: DeviceRow, directory: Directory, time: int) -> tuple[CallKey, Call] | None:
    """What `decode` needs a JavaScript codec's answer to; None where it needs none."""
    if uplink.dev_eui not in directory.scripted:
        return None
    reader = _reader(uplink, device, directory, time)
    if isinstance(reader, Decoded) or not reader.script:
        return None
    variables = {name: str(value) for name, value in device.variables.items()}
    call = Call(reader.script, "decode_uplink", uplink.f_port or 0, uplink.payload, time, variables)
    return _key(reader, uplink, device, time), call


class _Unanswered(DecodeTimeout):
    """The codec was stopped or not tried; `reason` is that of the reject."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("; ".join(outcome.errors))
        self.reason = f"codec_{outcome.failure}"


def _reader(uplink: Uplink, device: DeviceRow, directory: Directory, time: int) -> Reader | Decoded:
    """What reads the frame, or that it is not to be read, and why."""
    if device.status != "active" or device.device_type is None:
        return Decoded([], None, None, f"device is {device.status}")
    if uplink.flags & _SIMULATED and not device.simulated:
        return Decoded([], None, None, "simulated uplink of a real device: kept out of its series")
    reader = directory.readers.get(device.device_type)
    if reader is None:
        other = directory.other_reader(device.device_type, device.firmware, time)
        if isinstance(other, str):
            return Decoded([], None, None, storable(other))
        reader = other
    if reader.codec is None and not reader.script and uplink.normalized is None:
        return Decoded([], None, None, f"device type {device.device_type} has no codec")
    if not uplink.payload:
        return Decoded([], None, reader.stamp, "payload: empty")
    if not uplink.f_port:
        return Decoded([], None, reader.stamp, "f_port 0: MAC commands only")
    return reader


def _key(reader: Reader, uplink: Uplink, device: DeviceRow, time: int) -> CallKey:
    return CallKey(reader.script, device.id, uplink.f_port or 0, uplink.payload, time)


def _answer(outcome: Outcome) -> tuple[Fields, Sequence[str]]:
    """The fields, and the codec's warnings."""
    if outcome.retryable:
        raise _Unanswered(outcome)
    if outcome.errors:
        raise DecodeError("; ".join(outcome.errors))
    return outcome.data or {}, outcome.warnings
