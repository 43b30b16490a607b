"""What is asked of a quantity's readings: the limits of quality tests, from the catalogue and from stations.

The tests are those of the IOOS QARTOD manuals (https://ioos.noaa.gov/project/qartod/), and
docs/reference/quality.md says what each does. All times are seconds, all amounts in the metric's unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Literal, TypeVar

import msgspec

from .errors import UsageError

_LONGEST = 43_200  # s: a test looks back at most twice as far, a day
_FACING = 21_600  # s: how far apart readings that are compared may lie, likewise
_LAST_LOOK = 6  # times `within`: so far back a rate of change is looked for
_T = TypeVar("_T")


class Check(IntEnum):
    """The tests, in their order; the place of each in `reading.tests` is twice its number, in bits."""

    GROSS_RANGE = 1
    CLIMATOLOGY = 2
    SPIKE = 3
    RATE_OF_CHANGE = 4
    FLAT_LINE = 5
    ATTENUATED = 6
    NEIGHBOUR = 7
    GAP = 8
    RESTART = 9
    """Of an increment: its counter began anew. The job of increments says so, and nobody else."""
    OVERRIDE = 10
    """No test: a person decided."""

    @property
    def word(self) -> str:
        """As settings and the API name it."""
        return _WORDS[self]


_WORDS = {check: check.name.lower() for check in Check}


class Outcome(IntEnum):
    """What a test found."""

    PASS = 0
    SUSPECT = 1
    FAIL = 2
    NOT_EVALUATED = 3


class _Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    def faults(self) -> list[str]:
        """What cannot be meant, each beginning with the field."""
        return []


class GrossRange(_Limits, frozen=True):
    """Fail outside `fail`, suspect outside `suspect`; both ends belong to each."""

    fail: tuple[float, float]
    suspect: tuple[float, float] | None = None

    def faults(self) -> list[str]:
        found = _span("fail", self.fail)
        if self.suspect is not None:
            found += _span("suspect", self.suspect)
            if not (self.fail[0] <= self.suspect[0] and self.suspect[1] <= self.fail[1]):
                found.append("suspect: must lie within `fail`")
        return found


class Season(_Limits, frozen=True):
    """Suspect outside `suspect` in these months (1 to 12, Vietnam's time)."""

    months: tuple[int, ...]
    suspect: tuple[float, float]

    def faults(self) -> list[str]:
        found = _span("suspect", self.suspect)
        if not self.months or not all(1 <= month <= 12 for month in self.months):
            found.append("months: numbers from 1 to 12 are needed")
        return found


class Spike(_Limits, frozen=True):
    """How far a value may stick out from the one before and the one behind it, each at most `within` away.

    `differential` takes the smaller of the two differences, and only where both have one direction, so
    that a step is none; `average` is the manual's: the difference from the mean of the two.
    """

    suspect: float
    fail: float | None = None
    within: int = 3600
    method: Literal["differential", "average"] = "differential"

    def faults(self) -> list[str]:
        return [*_rising(self.suspect, self.fail), *_seconds("within", self.within, _FACING)]


class RateOfChange(_Limits, frozen=True):
    """Suspect when a value differs from the one before by more than `by` units in `within`.

    Within that time all of `by` may happen at once; after a longer one in proportion more, and after six
    times as long nothing is compared.
    """

    by: float
    within: int

    @property
    def reach(self) -> int:
        return max(self.within, min(_LAST_LOOK * self.within, _FACING))

    def faults(self) -> list[str]:
        return [*_positive("by", self.by), *_seconds("within", self.within, _FACING)]


class FlatLine(_Limits, frozen=True):
    """No more than `tolerance` of change for `suspect` or `fail` seconds, by at least `count` readings."""

    tolerance: float
    suspect: int | None = None
    fail: int | None = None
    count: int = 5

    def faults(self) -> list[str]:
        found = (
            []
            if math.isfinite(self.tolerance) and self.tolerance >= 0
            else ["tolerance: 0 or more is needed"]
        )
        for name, value in (("suspect", self.suspect), ("fail", self.fail)):
            found += [] if value is None else _seconds(name, value, _LONGEST)
        if self.suspect is None and self.fail is None:
            found.append("suspect: after how many seconds, here or in `fail`")
        elif self.suspect is not None and self.fail is not None and self.fail <= self.suspect:
            found.append("fail: must take longer than `suspect`")
        return [*found, *_count("count", self.count, 3)]


class Attenuated(_Limits, frozen=True):
    """Within `window` seconds the greatest and the least value differ by less than `suspect` or `fail`."""

    window: int
    suspect: float | None = None
    fail: float | None = None
    count: int = 5

    def faults(self) -> list[str]:
        found = [*_seconds("window", self.window, _LONGEST), *_count("count", self.count, 3)]
        for name, value in (("suspect", self.suspect), ("fail", self.fail)):
            found += [] if value is None else _positive(name, value)
        if self.suspect is None and self.fail is None:
            found.append("suspect: how much the values must differ, here or in `fail`")
        elif self.suspect is not None and self.fail is not None and self.fail >= self.suspect:
            found.append("fail: must be less than `suspect`")
        return found


class Neighbour(_Limits, frozen=True):
    """Suspect when a value differs by more than `suspect` from the median of the other stations of the group.

    Of each of their series the nearest in time counts, at most `within` away; at least `least` are needed.
    """

    suspect: float
    within: int = 1800
    least: int = 2

    def faults(self) -> list[str]:
        found = [*_positive("suspect", self.suspect), *_seconds("within", self.within, _FACING)]
        return [*found, *_count("least", self.least, 1)]


class Gap(_Limits, frozen=True):
    """Noted when nothing came for so many of the device type's `intervals`; the reading's flag stays."""

    intervals: float = 3.0

    def faults(self) -> list[str]:
        return [] if 1 <= self.intervals <= 1000 else ["intervals: a number from 1 to 1000 is needed"]

    def seconds(self, interval: float | None) -> float | None:
        """The longest silence that is none; None where no interval is known, or it is longer than a day."""
        longest = None if interval is None else self.intervals * interval
        return None if longest is None or longest > 2 * _LONGEST else longest


class Checks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tests of a metric; what is left out holds from elsewhere, None switches a test off."""

    gross_range: GrossRange | msgspec.UnsetType = msgspec.UNSET
    climatology: tuple[Season, ...] | msgspec.UnsetType | None = msgspec.UNSET
    spike: Spike | msgspec.UnsetType | None = msgspec.UNSET
    rate_of_change: RateOfChange | msgspec.UnsetType | None = msgspec.UNSET
    flat_line: FlatLine | msgspec.UnsetType | None = msgspec.UNSET
    attenuated: Attenuated | msgspec.UnsetType | None = msgspec.UNSET
    neighbour: Neighbour | msgspec.UnsetType | None = msgspec.UNSET
    gap: Gap | msgspec.UnsetType | None = msgspec.UNSET
    source: str = ""
    certainty: str = ""

    def faults(self) -> list[str]:
        found = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, _Limits):
                found += [f"{name}.{fault}" for fault in value.faults()]
            elif isinstance(value, tuple):
                found += [f"{name}[{n}].{fault}" for n, one in enumerate(value) for fault in one.faults()]
        return found

    def over(self, other: Checks) -> Checks:
        """These, and where they say nothing the other ones."""
        told = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.structs.replace(
            other, **{k: v for k, v in told.items() if v not in (msgspec.UNSET, "")}
        )

    def get(self, check: Check) -> Any:
        """The limits of a test, None where it is not made."""
        value = getattr(self, _WORDS[check], None)
        return None if value is msgspec.UNSET or value == () else value


class StationChecks(msgspec.Struct, frozen=True):
    """A station's own: its `group` of neighbours, and by metric what differs from the catalogue."""

    group: str | None = None
    metrics: Mapping[str, Checks] = {}


def parse_station_checks(data: Mapping[str, Any], metrics: Mapping[str, Any]) -> StationChecks:
    """``{"group": "…", "metrics": {"water.level": {"spike": {"suspect": 0.5}}}}``.

    Raises:
        UsageError: one line for each fault, beginning with its field.
    """
    faults = [
        f"{key}: unknown; group and metrics are known" for key in data if key not in ("group", "metrics")
    ]
    group, told = data.get("group"), data.get("metrics", {})
    if group is not None and not (isinstance(group, str) and 0 < len(group) <= 100):
        faults.append("group: a name of at most 100 letters is needed")
    if not isinstance(told, Mapping):
        raise UsageError("\n".join([*faults, "metrics: an object is needed, by metric"]))
    found = {}
    for metric, checks in told.items():
        if metric not in metrics:
            faults.append(f"metrics.{metric}: unknown metric")
            continue
        try:
            found[metric] = made = msgspec.convert(checks, Checks)
        except msgspec.ValidationError as error:
            faults.append(f"metrics.{metric}{_told(error)}")
            continue
        faults += [f"metrics.{metric}.{fault}" for fault in made.faults()]
    if faults:
        raise UsageError("\n".join(faults))
    return StationChecks(group, found)


@lru_cache(maxsize=10_000)
def stored_station_checks(text: str) -> StationChecks:
    """Of a station's stored JSON; a metric that somebody spoilt in the table has no checks of its own."""
    data = msgspec.json.decode(text)
    found = {}
    for metric, checks in (data.get("metrics") or {}).items():
        try:
            made = msgspec.convert(checks, Checks)
        except msgspec.ValidationError:
            continue
        if not made.faults():
            found[metric] = made
    group = data.get("group")
    return StationChecks(group if isinstance(group, str) else None, found)


def _told(error: msgspec.ValidationError) -> str:
    words, _, path = str(error).partition(" - at `$")
    return f"{path.rstrip('`')}: {re.sub('^Object', 'it', words)}"


def _span(name: str, span: tuple[float, float]) -> list[str]:
    sound = all(map(math.isfinite, span)) and span[0] < span[1]
    return [] if sound else [f"{name}: [lowest, highest] is needed, the lowest first"]


def _positive(name: str, value: float) -> list[str]:
    return [] if math.isfinite(value) and value > 0 else [f"{name}: a number above 0 is needed"]


def _rising(suspect: float, fail: float | None) -> list[str]:
    found = _positive("suspect", suspect)
    if fail is not None and not (math.isfinite(fail) and fail > suspect):
        found.append("fail: must be greater than `suspect`")
    return found


def _seconds(name: str, value: int, most: int) -> list[str]:
    return [] if 1 <= value <= most else [f"{name}: seconds from 1 to {most} are needed"]


def _count(name: str, value: int, least: int) -> list[str]:
    return [] if least <= value <= 1000 else [f"{name}: a whole number from {least} to 1000 is needed"]
