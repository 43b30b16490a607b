"""Rules: what must be true for an alert, read from YAML or JSON and checked before it counts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeGuard

import msgspec
import yaml

from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_LARGEST = 1e12
_LONGEST = 366 * 86_400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_KEYS = frozenset(
    {
        *("id", "name", "metric", "channel", "where", "direction", "levels"),
        *("hysteresis", "for", "clear_for", "max_age", "quality", "enabled"),
    }
)
_WHERE_KEYS = ("stations", "kinds", "basins", "device_types")


class Level(msgspec.Struct, frozen=True):
    """One step of a ladder: from `value` on, the alert has `level` (1…5) and is called `label`."""

    level: int
    label: str
    value: float


class Where(msgspec.Struct, frozen=True):
    """Which series a rule looks at; an empty set does not choose."""

    stations: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    basins: frozenset[str] = frozenset()
    device_types: frozenset[str] = frozenset()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold rule with levels.

    `levels` None: each station's own thresholds for the metric. `hysteresis` is in the metric's unit.
    `hold` and `clear_for` (seconds of event time) are how long a value must stay beyond a level before
    the alert rises, and back below it before it falls. Transitions older than `max_age` page nobody.
    """

    id: str
    name: dict[str, str]
    metric: str
    channel: int | None = None
    where: Where = Where()
    direction: Literal["above", "below"] = "above"
    levels: tuple[Level, ...] | None = None
    hysteresis: float = 0.0
    hold: float = 0.0
    clear_for: float = 0.0
    max_age: float = 3600.0
    quality: frozenset[int] = frozenset({1, 2, 3})
    enabled: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As in a file; `parse_rule` gives the same rule again."""
        where = {key: sorted(getattr(self.where, key)) for key in _WHERE_KEYS if getattr(self.where, key)}
        return {
            "id": self.id,
            "name": self.name,
            "metric": self.metric,
            **({"channel": self.channel} if self.channel is not None else {}),
            **({"where": where} if where else {}),
            "direction": self.direction,
            "levels": [msgspec.to_builtins(level) for level in self.levels] if self.levels else "station",
            "hysteresis": self.hysteresis,
            "for": f"{self.hold:g}s",
            "clear_for": f"{self.clear_for:g}s",
            "max_age": f"{self.max_age:g}s",
            "quality": sorted(self.quality),
            "enabled": self.enabled,
        }


def read_rules(text: str, known_metrics: Collection[str] = CATALOGUE) -> list[Rule]:
    """The rules of a YAML file: ``rules:`` and a list.

    Raises:
        UsageError: one line for each fault, beginning with where it is.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"not YAML: {error}") from None
    if not isinstance(data, dict) or set(data) != {"rules"} or not isinstance(data["rules"], list):
        raise UsageError("a rules file has one key, `rules`, with a list of rules")
    rules, faults = [], []
    for index, definition in enumerate(data["rules"]):
        try:
            rules.append(parse_rule(definition, known_metrics))
        except UsageError as error:
            join = "." if isinstance(definition, Mapping) else ": "
            faults += [f"rules[{index}]{join}{line}" for line in str(error).splitlines()]
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        if rule.id in seen:
            faults.append(f"rules[{index}].id: {rule.id!r} is there twice")
        seen.add(rule.id)
    if faults:
        raise UsageError("\n".join(faults))
    return rules


def parse_rule(definition: object, known_metrics: Collection[str] = CATALOGUE) -> Rule:
    """Check one rule's definition.

    Raises:
        UsageError: one line for each fault, beginning with its path (``levels[1].value: …``).
    """
    if not isinstance(definition, Mapping):
        raise UsageError("a rule is a mapping with id, name, metric and levels")
    reader = _Reader(definition)
    rule = reader.rule(known_metrics)
    if reader.faults or rule is None:
        raise UsageError("\n".join(reader.faults))
    return rule


class _Reader:
    """Collects every fault instead of stopping at the first."""

    def __init__(self, data: Mapping[Any, Any]) -> None:
        self.data = data
        self.faults: list[str] = []

    def rule(self, known_metrics: Collection[str]) -> Rule | None:
        for key in self.data:
            if key not in _KEYS:
                near = difflib.get_close_matches(str(key), _KEYS, n=1)
                self.faults.append(f"{key}: no such key{f' (did you mean {near[0]!r}?)' if near else ''}")
        id_ = self.data.get("id")
        if not isinstance(id_, str) or not _ID.fullmatch(id_):
            self.faults.append("id: lower-case letters, digits and '-' are needed, at most 63")
        metric = self.data.get("metric")
        if not isinstance(metric, str) or metric not in known_metrics:
            near = difflib.get_close_matches(str(metric), known_metrics, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            self.faults.append(f"metric: unknown metric {metric!r}{hint}")
        direction = self.data.get("direction", "above")
        if direction not in ("above", "below"):
            self.faults.append("direction: 'above' or 'below' is needed")
        made = {
            "name": self._name(),
            "channel": self._channel(),
            "where": self._where(),
            "levels": self._levels(direction),
            "hysteresis": self._hysteresis(),
            "hold": self._duration("for", 0),
            "clear_for": self._duration("clear_for", 0),
            "max_age": self._duration("max_age", 3600),
            "quality": self._quality(),
            "enabled": self._enabled(),
        }
        if self.faults:
            return None
        return Rule(id=str(id_), metric=str(metric), direction=direction, **made)  # type: ignore[arg-type]

    def _name(self) -> dict[str, str]:
        name = self.data.get("name")
        if isinstance(name, str) and name:
            return {"vi": name, "en": name}
        if isinstance(name, dict) and name.get("vi") and all(isinstance(v, str) for v in name.values()):
            return {"vi": name["vi"], "en": name.get("en") or name["vi"]}
        self.faults.append("name: a text, or {vi: …, en: …}, is needed")
        return {}

    def _channel(self) -> int | None:
        channel = self.data.get("channel")
        if channel is None or (type(channel) is int and 0 <= channel <= 32767):
            return channel
        self.faults.append(f"channel: {_shown(channel)} is no channel number")
        return None

    def _where(self) -> Where:
        where = self.data.get("where", {})
        if not isinstance(where, dict):
            self.faults.append("where: a mapping is needed")
            return Where()
        chosen: dict[str, frozenset[str]] = {}
        for key, values in where.items():
            if key not in _WHERE_KEYS:
                self.faults.append(f"where.{key}: no such key; there are {', '.join(_WHERE_KEYS)}")
            elif not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
                self.faults.append(f"where.{key}: a list of names is needed")
            else:
                chosen[key] = frozenset(values)
        return Where(**chosen)

    def _levels(self, direction: str) -> tuple[Level, ...] | None:
        levels = self.data.get("levels")
        if levels == "station":
            return None
        if not isinstance(levels, list) or not levels:
            self.faults.append("levels: 'station' (each station's own thresholds) or a list is needed")
            return None
        try:
            return ladder_of(levels, direction)
        except UsageError as error:
            self.faults += [f"levels{line}" for line in str(error).splitlines()]
            return None

    def _hysteresis(self) -> float:
        value = self.data.get("hysteresis", 0)
        if _is_number(value) and value >= 0:
            return float(value)
        self.faults.append(f"hysteresis: {_shown(value)} is not a number from 0 on")
        return 0.0

    def _duration(self, key: str, default: float) -> float:
        value = self.data.get(key, default)
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        seconds = float(match[1]) * _SECONDS[match[2]] if match else value
        if _is_number(seconds) and 0 <= seconds <= _LONGEST:
            return float(seconds)
        self.faults.append(f"{key}: {_shown(value)} is no duration up to 366d; write 90s, 10m, 6h or 2d")
        return 0.0

    def _quality(self) -> frozenset[int]:
        value = self.data.get("quality", [1, 2, 3])
        if isinstance(value, list) and value and all(type(v) is int and 1 <= v <= 4 for v in value):
            return frozenset(value)
        self.faults.append(
            "quality: a list of the flags 1 good, 2 not evaluated, 3 suspect, 4 fail is needed"
        )
        return frozenset()

    def _enabled(self) -> bool:
        value = self.data.get("enabled", True)
        if not isinstance(value, bool):
            self.faults.append(f"enabled: {value!r} is neither true nor false")
        return bool(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    """A finite number that a sensor could mean; JSON and YAML also bring 10**400 and NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _shown(value: object) -> str:
    return "that number" if isinstance(value, int | float) and not _is_number(value) else repr(value)[:80]


def ladder_of(levels: Iterable[Any], direction: str) -> tuple[Level, ...]:
    """Levels as a ladder, lowest first; further keys of an entry (source, certainty) are left alone.

    Raises:
        UsageError: faults whose lines begin with ``[index].key``.
    """
    made: list[Level] = []
    faults: list[str] = []
    for index, entry in enumerate(levels):
        level, value = (entry.get("level"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if type(level) is not int or not 1 <= level <= 5:
            faults.append(f"[{index}].level: a whole number from 1 to 5 is needed")
        elif not _is_number(value):
            faults.append(f"[{index}].value: a number is needed")
        else:
            made.append(Level(level, str(entry.get("label") or level), float(value)))
    made.sort(key=lambda step: step.level)
    sign = 1 if direction == "above" else -1
    for lower, higher in pairwise(made):
        if lower.level == higher.level:
            faults.append(f": level {lower.level} is there twice")
        elif sign * higher.value <= sign * lower.value:
            faults.append(f": level {higher.level} must lie {direction} level {lower.level}")
    if faults:
        raise UsageError("\n".join(faults))
    return tuple(made)


def ladder_faults(levels: Sequence[Any], directions: Sequence[str] = ("above", "below")) -> list[str]:
    """Why `levels` are a ladder in none of the directions; nothing when they are in one.

    Which direction counts is for a rule to say; a station's levels may rise or fall.
    """
    found: list[list[str]] = []
    for direction in directions:
        try:
            ladder_of(levels, direction)
        except UsageError as error:
            found.append(str(error).splitlines())
        else:
            return []
    both = [line for line in found[0] if all(line in other for other in found)]
    return both or [f": with the level the values must rise, or fall, all the way; got {shown_steps(levels)}"]


def shown_steps(levels: Sequence[Any]) -> str:
    """Levels and their values, for a message."""
    steps = sorted(levels, key=lambda step: int(step["level"]))
    return ", ".join(f"level {step['level']} at {step['value']:g}" for step in steps)
