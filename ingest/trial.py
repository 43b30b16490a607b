"""Trying a codec on one payload: what ingest would make of it, and what the codec said. Stores nothing."""

from __future__ import annotations

import base64
import binascii
import re
import time as clocks
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from decoders.datalog import compile_datalog
from decoders.javascript.calls import Call, Failure, Outcome
from decoders.javascript.workers import JsWorkers
from decoders.mapping import DeviceType
from decoders.normalise import compile_mapping
from decoders.normalized import read_codecs_own
from decoders.registry import Script
from telemetry.catalogue import CATALOGUE
from telemetry.clock import micros
from telemetry.errors import DecodeError, UsageError
from telemetry.plugin import Codec, Fields
from telemetry.store.lanes import READING_DTYPE

from .quality import SingleReading
from .text import json_of

LONGEST = 4096  # bytes; a LoRaWAN frame carries 242 at most, a tunnelled one little more

_NUMBERS = {metric: number for number, metric in enumerate(CATALOGUE)}
_flags = SingleReading(_NUMBERS)


class TriedMetric(msgspec.Struct, frozen=True):
    """One reading as it would be stored: `value` in `unit`, `quality` after QARTOD."""

    time: datetime
    metric: str
    channel: int
    value: float
    unit: str
    quality: int


class Trial(msgspec.Struct):
    """`fields` is None when there are `errors`; `failure` is set when the codec gave no answer at all.

    `problems` are fields that the map could not use, `unmapped` those it does not name; both are empty, like
    `metrics` but for those of `normalized`, when no device type was given. `normalized` is what the codec's
    `normalizeUplink` gave. `micros` is the time of the call in µs.
    """

    fields: dict[str, Any] | None
    metrics: list[TriedMetric]
    problems: list[str]
    unmapped: list[str]
    warnings: list[str]
    errors: list[str]
    console: list[str]
    failure: Failure | None
    micros: int
    normalized: Any = None


def read_payload(text: str) -> bytes:
    """A payload as a person pastes it: hex (blanks, ``:`` and ``0x`` allowed), else base64.

    What could be both is hex.

    Raises:
        UsageError: it is neither, or longer than 4,096 bytes.
    """
    plain = re.sub(r"[\s:]", "", text).removeprefix("0x")
    try:
        data = bytes.fromhex(plain)
    except ValueError:
        try:
            data = base64.b64decode(plain, validate=True)
        except (binascii.Error, ValueError):
            raise UsageError(
                f"payload: {text[:100]!r} is neither hex nor base64; write two digits a byte, as in 0b450b05"
            ) from None
    if len(data) > LONGEST:
        raise UsageError(f"payload: {len(data)} bytes; {LONGEST} are allowed")
    return data


def call_native(codec: Codec, f_port: int, payload: bytes) -> Outcome:
    """A Python codec's answer in the form of a JavaScript one's."""
    start = clocks.perf_counter_ns()
    try:
        outcome = Outcome(data=codec.decode(f_port, payload))
    except DecodeError as error:
        outcome = Outcome(errors=[str(error)])
    except (Exception, SystemExit) as error:  # a third party's codec may raise anything
        outcome = Outcome(errors=[f"{type(error).__name__}: {error}"], failure="threw")
    outcome.micros = (clocks.perf_counter_ns() - start) // 1000
    return outcome


def call_script(
    workers: JsWorkers,
    script: Script,
    f_port: int,
    payload: bytes,
    time: datetime,
    variables: Mapping[str, Any],
) -> Outcome:
    """A JavaScript codec's answer; `time` is when the frame came. `script` must have its source.

    The codec sees `variables` as texts, as ingest hands them over.
    """
    assert script.source is not None
    key = workers.add(script.source, fresh=script.fresh)
    texts = {name: str(value) for name, value in variables.items()}
    return workers.run([Call(key, "decode_uplink", f_port, payload, micros(time), texts)])[0]


def judge(
    outcome: Outcome, device_type: DeviceType | None, time: datetime, variables: Mapping[str, Any]
) -> Trial:
    """What becomes of a codec's answer for a frame of `time`, mapped and flagged as ingest does it."""
    trial = Trial(
        fields=None,
        metrics=[],
        problems=[],
        unmapped=[],
        warnings=outcome.warnings,
        errors=outcome.errors,
        console=outcome.console,
        failure=outcome.failure,
        micros=outcome.micros,
    )
    if trial.errors:
        return trial
    fields = outcome.data or {}
    try:
        trial.fields = msgspec.json.decode(json_of(fields), type=dict[str, Any])
        readings = [] if device_type is None else _mapped(trial, fields, device_type, time, variables)
        if (own := outcome.own_normalized()) is not None:
            readings += _normalized(trial, own, device_type, time)
        trial.metrics = _flagged(readings)
    except Exception as error:  # a third party's codec may return anything
        trial.fields = None
        trial.errors = [f"what the codec returned cannot be used: {type(error).__name__}: {error}"]
    return trial


_Reading = tuple[datetime, str, int, float]


def _mapped(
    trial: Trial, fields: Fields, device_type: DeviceType, time: datetime, variables: Mapping[str, Any]
) -> list[_Reading]:
    numbers = {name: _number(value) for name, value in variables.items()}
    own = {name: number for name, number in numbers.items() if number is not None}
    found = compile_mapping(device_type)(fields, own)
    readings = [(time, one.metric, one.channel, one.value) for one in found.values]
    trial.problems, trial.unmapped = list(found.problems), list(found.unmapped)
    if read := compile_datalog(device_type):
        log = read(fields, time, own)
        readings += [(one.time, one.metric, one.channel, one.value) for one in log.readings]
        trial.problems += log.problems
    return readings


def _normalized(trial: Trial, own: Outcome, device_type: DeviceType | None, time: datetime) -> list[_Reading]:
    mapped = frozenset(entry.metric for entry in device_type.mapping) if device_type else frozenset()
    found = read_codecs_own(own, time, mapped)
    trial.normalized = own.data
    trial.problems, trial.unmapped = trial.problems + found.problems, trial.unmapped + found.unmapped
    return [
        *((time, one.metric, one.channel, one.value) for one in found.values),
        *((one.time, one.metric, one.channel, one.value) for one in found.logged),
    ]


def _flagged(readings: Sequence[_Reading]) -> list[TriedMetric]:
    rows = np.zeros(len(readings), READING_DTYPE)
    rows["metric_id"] = [_NUMBERS[metric] for _, metric, _, _ in readings]
    rows["time"], rows["value"] = [micros(at) for at, *_ in readings], [value for *_, value in readings]
    flags = _flags(rows)
    return [
        TriedMetric(at, metric, channel, value, CATALOGUE[metric].unit, int(flag))
        for (at, metric, channel, value), flag in zip(readings, flags, strict=True)
    ]


def _number(value: Any) -> float | None:
    """A finite number, also when written as a text: what a device's variable may be."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None
