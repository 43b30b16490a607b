"""From a codec's fields to values in the catalogue's units. Pure, and on the hot path."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from functools import lru_cache
from math import inf
from typing import NamedTuple

import msgspec

from telemetry.plugin import Field, Fields

from .mapping import DeviceType, MapEntry, Scalar, look_up

# Decimal as in JSON: no "1_000", no "nan" and no "0x1F", which float() or a person might take for numbers.
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LONGEST = 64
_EXACT = 2**53
_SURELY = 1e300  # a whole number below it is some float


class Value(msgspec.Struct, frozen=True, gc=False):
    """One quantity, in the unit the catalogue gives for `metric`; always finite, never -0.0."""

    metric: str
    channel: int
    value: float


class Normalised(msgspec.Struct, frozen=True):
    """The values; a sentence for each field that is no number; and the paths of fields no entry names."""

    values: list[Value]
    problems: list[str]
    unmapped: list[str]


Normalise = Callable[[Fields, Mapping[str, float]], Normalised]


class _Step(NamedTuple):
    """A map entry as the loop wants it. `path` is empty for a field at the top."""

    field: str
    path: tuple[str, ...]
    metric: str
    channel: int
    factor: float
    divisor: float
    offset: float
    variable: str | None
    absent: tuple[float | str, ...]
    conditions: tuple[tuple[tuple[str, ...], Scalar], ...]


def normalise(fields: Fields, device_type: DeviceType, variables: Mapping[str, float]) -> Normalised:
    """Values of one frame; `variables` are the device's own numbers. See `compile_mapping` for many."""
    return _compiled(device_type)(fields, variables)


def compile_mapping(device_type: DeviceType) -> Normalise:
    """`normalise` for one device type, prepared once.

    Numbers and numeric strings are scaled, booleans are 0 and 1, null and missing fields are skipped;
    anything else, NaN and the infinities are problems that name the field. Values come in the order of the
    fields.
    """
    steps: dict[str, list[_Step]] = {}
    for entry in device_type.mapping:
        if entry.records is not None:
            continue
        steps.setdefault(entry.field.partition(".")[0], []).append(_step(entry))
    used, inner = _paths(device_type.mapping)
    # Nearly all fields: one number at the top that becomes one value, whatever else the frame holds.
    alone = {
        name: (step.metric, step.channel, step.factor, step.divisor, step.offset)
        for name, (step, *more) in steps.items()
        if not (more or step.path or step.conditions or step.variable or step.absent)
    }

    def run(fields: Fields, variables: Mapping[str, float]) -> Normalised:
        values: list[Value] = []
        problems: list[str] = []
        unmapped: list[str] = []
        for name, told in fields.items():
            if (only := alone.get(name)) and (type(told) is float or type(told) is int):
                metric, channel, factor, divisor, offset = only
                if -_SURELY < told < _SURELY and -inf < (value := told * factor / divisor + offset) < inf:
                    values.append(Value(metric, channel, value))
                    continue
            if name not in used:
                _collect_unmapped(name, told, used, inner, unmapped)
            for step in steps.get(name, ()):
                field, path, metric, channel, factor, divisor, offset, variable, absent, conditions = step
                raw = look_up(fields, path) if path else told
                if raw is None:
                    continue
                if conditions and not all(look_up(fields, key) == expected for key, expected in conditions):
                    continue
                if variable is not None:
                    own = variables.get(variable)
                    if own is None:
                        continue
                    offset += own
                if type(raw) is float or type(raw) is int:
                    number: float | None = raw
                else:
                    number = _number(raw)
                if absent and (raw in absent or number in absent):
                    continue
                if number is None:
                    problems.append(f"{field}: not a number: {_shown(raw)}")
                    continue
                try:
                    # Adding the offset 0.0 also turns -0.0 into 0.0.
                    value = number * factor / divisor + offset
                except OverflowError:
                    value = inf
                if -inf < value < inf:
                    values.append(Value(metric, channel, value))
                else:
                    problems.append(f"{field}: {_shown(raw)} gives no finite {metric}")
        return Normalised(values, problems, unmapped)

    return run


_compiled = lru_cache(maxsize=1024)(compile_mapping)


def _step(entry: MapEntry) -> _Step:
    linear = entry.linear()
    path = tuple(entry.field.split("."))
    return _Step(
        entry.field,
        path if len(path) > 1 else (),
        entry.metric,
        entry.channel,
        linear.factor,
        linear.divisor,
        linear.offset,
        linear.variable,
        entry.absent,
        tuple((tuple(field.split(".")), expected) for field, expected in entry.when),
    )


def _paths(mapping: Iterable[MapEntry]) -> tuple[frozenset[str], frozenset[str]]:
    """The paths that entries name, conditions included, and the paths of what contains these."""
    used: set[str] = set()
    for entry in mapping:
        used |= {entry.records.list} if entry.records else {entry.field, *(field for field, _ in entry.when)}
    inner = {path[:at] for path in used for at, sign in enumerate(path) if sign == "."}
    return frozenset(used), frozenset(inner)


def _collect_unmapped(
    path: str, value: Field, used: Container[str], inner: Container[str], to: list[str]
) -> None:
    """Add `path`, or what is unmapped inside it when an entry names something in there."""
    if path in used:
        return
    if path in inner and isinstance(value, dict):
        for key, item in value.items():
            _collect_unmapped(f"{path}.{key}", item, used, inner, to)
    elif path in inner and isinstance(value, list):
        for index, item in enumerate(value):
            _collect_unmapped(f"{path}.{index}", item, used, inner, to)
    else:
        to.append(path)


def _number(raw: Field) -> float | None:
    if isinstance(raw, bool):
        return int(raw)
    if isinstance(raw, str) and len(raw) <= _LONGEST and _NUMBER.fullmatch(raw):
        return float(raw)
    return None


def _shown(raw: Field) -> str:
    if isinstance(raw, str):
        return repr(raw[:_LONGEST])
    if isinstance(raw, dict):
        return "an object"
    if isinstance(raw, list):
        return "a list"
    if isinstance(raw, int) and abs(raw) > _EXACT:
        return "a whole number too large"
    return repr(raw)
