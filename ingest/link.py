"""How good a radio link is, told from its frame counters. Pure; docs/reference/link.md has the rules.

Everything is worked out from pairs of frames that follow each other in time, so the result depends on what
is stored and on nothing else: not on the order of arrival, not on how the stream was cut.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from telemetry.clock import micros

HOUR = 3_600_000_000  # µs
MAX_FCNT_GAP = 16_384
"""Most frames believed lost in one go: LoRaWAN 1.0.2 Regional Parameters, MAX_FCNT_GAP of every band."""
SILENCE = timedelta(days=31)
REPEAT = timedelta(minutes=10)
SWAP, SWAP_WITHIN = 8, timedelta(minutes=1)
WRAP, WRAP_LOSS = 65_536, 256
FASTEST = timedelta(seconds=1)
"""A class A device waits for its second receive window, two seconds, before it sends again."""
JOIN_TOLERANCE = timedelta(seconds=10)
"""ChirpStack tells of a join together with the first frame after it, so it may come just behind that."""

HourOf = tuple[int, int]
"""(device_id, hours since 1970-01-01 UTC)."""


class Step(NamedTuple):
    """From one frame of a device to the next. `moved`: both addresses are known and differ; `joined`: a join
    event lies between.
    """

    device_id: int
    before: datetime
    at: datetime
    f_before: int
    f_cnt: int
    moved: bool
    known: bool
    joined: bool


class Kind(Enum):
    """What a step is; the number of frames missing goes with `NEXT` and `SWAPPED`."""

    NEXT = "next"
    SWAPPED = "swapped"
    REPEAT = "repeat"
    RESET = "reset"
    REJOIN = "rejoin"
    ANEW = "anew"


def judge(step: Step) -> tuple[Kind, int]:
    """The kind of a step and how many frames are missing in it.

    Negative with `SWAPPED`: the steps around one that goes back count too many, and their sum is right.
    """
    apart, rise = step.at - step.before, step.f_cnt - step.f_before
    if apart > SILENCE:
        return Kind.ANEW, 0
    if step.moved or (step.joined and (rise <= 0 or not step.known)):
        return Kind.REJOIN, 0
    if rise == 0:
        return (Kind.REPEAT if apart <= REPEAT else Kind.RESET), 0
    if -SWAP <= rise < 0 and apart <= SWAP_WITHIN:
        return Kind.SWAPPED, rise - 1
    if rise < 0 and step.f_before < WRAP and rise + WRAP <= WRAP_LOSS:
        rise += WRAP
    if rise < 0 or rise > MAX_FCNT_GAP or (rise > SWAP + 1 and apart < FASTEST * rise):
        return Kind.RESET, 0
    return Kind.NEXT, rise - 1


class Outages:
    """When we did not listen: spans in µs, in any order, overlapping or not."""

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(spans):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of them that lie from `start` until before `end`."""
        for n in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[n] >= end:
                return
            yield max(self._starts[n], start), min(self._ends[n], end)


def spread(before: int, at: int, missing: int, outages: Outages) -> Iterator[tuple[int, int, int]]:
    """(hour, lost on air, lost by us) of frames missing between two moments (µs).

    They are presumed evenly spaced. Those presumed within an outage were lost by us. What is presumed in the
    hour of the frame before counts in the hour after it, so no frame to come changes an hour that had some.
    """
    last = at // HOUR
    at = max(at, before + 1)
    span = at - before

    def presumed_before(moment: int) -> int:
        return min(max(-(-(moment - before) * (missing + 1) // span) - 1, 0), missing)

    start = before
    for hour in range(min(before // HOUR + 1, last), last + 1):
        end = at if hour == last else (hour + 1) * HOUR
        lost = presumed_before(end) - presumed_before(start)
        by_us = sum(presumed_before(b) - presumed_before(a) for a, b in outages.within(start, end))
        if lost:
            yield hour, lost - by_us, by_us
        start = end


@dataclass(slots=True)
class Tally:
    """What the counters say of one device in one hour."""

    received: int = 0
    lost_on_air: int = 0
    lost_by_us: int = 0
    resets: int = 0
    rejoins: int = 0


def tally(steps: Iterable[Step], frames: Mapping[HourOf, int], outages: Outages) -> dict[HourOf, Tally]:
    """The hours of `frames` (how many were stored) and those in which some are missing.

    `steps` may leave out those to the next counter in the same session, from which nothing follows.
    """
    hours = {key: Tally(number) for key, number in frames.items()}
    for step in steps:
        kind, missing = judge(step)
        at = micros(step.at)
        mine = hours[step.device_id, at // HOUR]
        if kind is Kind.REPEAT:
            mine.received -= 1
        elif kind is Kind.RESET:
            mine.resets += 1
        elif kind is Kind.REJOIN:
            mine.rejoins += 1
        elif kind is Kind.SWAPPED:
            mine.lost_on_air += missing
        elif missing:
            for hour, on_air, by_us in spread(micros(step.before), at, missing, outages):
                lost = hours.setdefault((step.device_id, hour), Tally())
                lost.lost_on_air += on_air
                lost.lost_by_us += by_us
    for one in hours.values():
        one.lost_on_air = max(one.lost_on_air, 0)
    return hours


class Status(NamedTuple):
    """Of a DevStatusAns: battery in %, None on external power or when not told; demodulation margin in dB."""

    battery: float | None
    margin: int | None


def read_status(data: Mapping[str, Any]) -> Status:
    """What a ChirpStack status event says.

    Its battery level is 0 when the device runs on external power or does not know, never when the battery
    is empty: that is 1 of 254 (LoRaWAN 1.0.4, 5.5). The oldest v4 leaves out a margin of 0.
    """
    level, margin = data.get("batteryLevel"), data.get("margin", 0)
    silent = data.get("externalPowerSource") is True or data.get("batteryLevelUnavailable") is True
    told = isinstance(level, int | float) and not isinstance(level, bool) and 0 < level <= 100 and not silent
    sound = isinstance(margin, int) and not isinstance(margin, bool) and -128 <= margin <= 127
    return Status(float(level) if told and level is not None else None, margin if sound else None)


def union(groups: Iterable[Sequence[str]]) -> list[str]:
    """Every name once, in order."""
    return sorted({name for group in groups for name in group if name})
