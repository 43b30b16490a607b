"""The quality tests over series of readings, many series at once. Pure.

What comes out for a reading depends on the readings within its `reach`, on what people said of them and on
the settings; never on when or in which order they came. A reading outside its gross range, or failed by a
person, is nobody's neighbour. Of several values at one time the greatest is.
docs/reference/quality.md has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.checks import Attenuated, Check, Checks, FlatLine, Outcome, Spike
from telemetry.model import Quality
from telemetry.store.flags import Flags, Outcomes

from .quality import Floats, month, monthly, span_limits, usual

Whole = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SERIES_DTYPE = np.dtype(
    [
        ("series", "<i4"),  # index of its plan
        ("time", "<i8"),  # µs since 1970
        ("value", "<f8"),
        ("restart", "?"),  # an increment whose counter began anew
        ("override", "<i2"),  # the flag a person gave it, 0 without
    ]
)
_SECOND = 1_000_000
_APART = 10 * 86_400 * _SECOND  # between series that are laid behind each other
_ROUNDING = 1e-9  # 20.1 - 20.0 is no more than 0.1
_COLUMN = {check: n for n, check in enumerate(Check)}
_P, _S, _F, _N = (np.uint8(outcome) for outcome in Outcome)
_PARAMETERS = np.dtype(
    [
        *((name, "<f8") for name in ("fail_low", "fail_high", "suspect_low", "suspect_high")),
        *((name, "<f8") for name in ("spike_suspect", "spike_fail", "spike_within", "spike_average")),
        *((name, "<f8") for name in ("rate_by", "rate_within", "rate_reach")),
        *((name, "<f8") for name in ("flat_tolerance", "flat_suspect", "flat_fail", "flat_count")),
        *((name, "<f8") for name in ("attenuated_window", "attenuated_suspect", "attenuated_fail")),
        *((name, "<f8") for name in ("attenuated_count", "gap")),
    ]
)


class Plan(NamedTuple):
    """What is asked of one series. `interval` (s) is how often its device reports, None where nobody knows.

    `neighbours` are the series of other stations of the group, by their index among the plans.
    """

    checks: Checks
    interval: float | None = None
    neighbours: Sequence[int] = ()


class Judged(NamedTuple):
    """Of each reading the final flag, shape (n,), and what each test found."""

    quality: Flags
    outcomes: Outcomes


def reach(checks: Checks, interval: float | None) -> tuple[int, int]:
    """How far back and ahead (µs) readings decide on one; no more than a day."""
    back, ahead = [0.0], [0.0]
    spike, rate = checks.get(Check.SPIKE), checks.get(Check.RATE_OF_CHANGE)
    beside = spike.within if spike else 0
    back.append(beside + (rate.reach if rate else 0))
    ahead.append(beside)
    if flat := checks.get(Check.FLAT_LINE):
        back.append(2 * max(flat.suspect or 0, flat.fail or 0))
    if attenuated := checks.get(Check.ATTENUATED):
        back.append(2 * attenuated.window)
    if neighbour := checks.get(Check.NEIGHBOUR):
        back.append(neighbour.within)
        ahead.append(neighbour.within)
    if gap := checks.get(Check.GAP):
        back.append(gap.seconds(interval) or 0)
    return round(max(back) * _SECOND), round(max(ahead) * _SECOND)


def evaluate(rows: npt.NDArray[np.void], plans: Sequence[Plan]) -> Judged:
    """The flags of readings of `SERIES_DTYPE`, shape (n,), ordered by series, time and value."""
    outcomes = np.full((len(rows), len(Check)), _N, np.uint8)
    if len(rows):
        limits = _limits(plans)
        of = limits[rows["series"]]
        _alone(rows, of, plans, outcomes)
        failed = outcomes[:, _COLUMN[Check.GROSS_RANGE]] == _F
        told = rows["override"]
        usable = np.where(told == 0, ~failed, told != Quality.FAIL)
        instants = _Instants(rows, usable)
        if len(instants.time):
            with np.errstate(over="ignore", invalid="ignore"):
                _in_order(instants, limits, outcomes)
                _neighbours(instants, plans, outcomes)
        _gaps(rows, of, outcomes)
    return Judged(_combined(rows, outcomes), outcomes)


def _limits(plans: Sequence[Plan]) -> npt.NDArray[np.void]:
    made: dict[tuple[int, float | None], tuple[float, ...]] = {}
    for plan in plans:
        key = id(plan.checks), plan.interval
        if key not in made:
            made[key] = _parameters(plan.checks, plan.interval)
    return np.array([made[id(plan.checks), plan.interval] for plan in plans], _PARAMETERS)


def _parameters(checks: Checks, interval: float | None) -> tuple[float, ...]:
    """A test that is not made has NaN for its limits, which nothing exceeds."""
    none = float("nan")
    spike, rate, flat = (checks.get(c) for c in (Check.SPIKE, Check.RATE_OF_CHANGE, Check.FLAT_LINE))
    attenuated, gap = checks.get(Check.ATTENUATED), checks.get(Check.GAP)
    silence = gap.seconds(interval) if gap else None
    return (
        *span_limits(checks),
        *(_of_spike(spike) if spike else (none,) * 4),
        *((rate.by, rate.within * _SECOND, rate.reach * _SECOND) if rate else (none,) * 3),
        *(_of_flat(flat) if flat else (none,) * 4),
        *(_of_attenuated(attenuated) if attenuated else (none,) * 4),
        _some(silence, _SECOND),
    )  # fmt: skip


def _some(value: float | None, unit: float = 1.0) -> float:
    return float("nan") if value is None else value * unit


def _of_spike(limits: Spike) -> tuple[float, ...]:
    average = limits.method == "average"
    return limits.suspect, _some(limits.fail), limits.within * _SECOND, average


def _of_flat(limits: FlatLine) -> tuple[float, ...]:
    return limits.tolerance, _some(limits.suspect, _SECOND), _some(limits.fail, _SECOND), limits.count


def _of_attenuated(limits: Attenuated) -> tuple[float, ...]:
    return limits.window * _SECOND, _some(limits.suspect), _some(limits.fail), limits.count


def _alone(
    rows: npt.NDArray[np.void], of: npt.NDArray[np.void], plans: Sequence[Plan], outcomes: Outcomes
) -> None:
    value = rows["value"]
    fails = ~((of["fail_low"] <= value) & (value <= of["fail_high"]))
    doubted = ~((of["suspect_low"] <= value) & (value <= of["suspect_high"]))
    outcomes[:, _COLUMN[Check.GROSS_RANGE]] = np.select([fails, doubted], [_F, _S], _P)
    seasonal = {n: plan.checks.get(Check.CLIMATOLOGY) for n, plan in enumerate(plans)}
    for number, seasons in seasonal.items():
        if seasons:
            some = np.flatnonzero(rows["series"] == number)
            spans = monthly(seasons)[month(rows["time"][some])]
            found = np.where(usual(value[some], spans), _P, _S)
            outcomes[some, _COLUMN[Check.CLIMATOLOGY]] = np.where(np.isnan(spans[:, 0]), _N, found)
    outcomes[rows["restart"], _COLUMN[Check.RESTART]] = _S
    outcomes[rows["override"] != 0, _COLUMN[Check.OVERRIDE]] = _S


class _Instants:
    """The usable readings (`rows`, by index) and the instants they are of; each instant has one value.

    `of` is the instant of each usable reading. Times of different series lie far apart in `key`, which rises
    over all instants.
    """

    def __init__(self, every: npt.NDArray[np.void], usable: Bools) -> None:
        self.rows = np.flatnonzero(usable)
        readings = every[self.rows]
        self.own = readings["value"]
        series, time = readings["series"], readings["time"]
        last = np.ones(len(readings), bool)
        last[:-1] = (series[1:] != series[:-1]) | (time[1:] != time[:-1])
        self.of = np.cumsum(last) - last
        self.series, self.time, self.value = series[last], time[last], self.own[last]
        first = np.ones(len(self.time), bool)
        first[1:] = self.series[1:] != self.series[:-1]
        gaps = np.diff(self.time, prepend=self.time[:1])
        self.key: Whole = np.cumsum(np.where(first, _APART, gaps))

    def beside(self, at: Whole) -> tuple[Floats, Floats]:
        """The values at these instants, and how far (µs) each is from the one in whose place it stands.

        NaN for an instant that there is not, or of another series.
        """
        place = np.arange(len(self.time))
        found = np.clip(at, 0, len(self.time) - 1)
        known = (at == found) & (self.series[found] == self.series)
        away = np.abs(self.time[found] - self.time[place]).astype(np.float64)
        return np.where(known, self.value[found], np.nan), np.where(known, away, np.nan)


def _in_order(instants: _Instants, limits: npt.NDArray[np.void], outcomes: Outcomes) -> None:
    of, place = limits[instants.series], np.arange(len(instants.time))
    before, since = instants.beside(place - 1)
    behind, until = instants.beside(place + 1)

    def note(check: Check, found: npt.NDArray[np.uint8]) -> None:
        outcomes[instants.rows, _COLUMN[check]] = found

    near = (since <= of["spike_within"]) & (until <= of["spike_within"])
    spiky = _spikes(instants.value, before, behind, near, of) != _P
    own = of[instants.of]
    note(
        Check.SPIKE,
        _spikes(instants.own, before[instants.of], behind[instants.of], near[instants.of], own),
    )
    spiky &= near
    steady = np.maximum.accumulate(np.where(spiky, -1, place))
    earlier, ago = instants.beside(np.concatenate([[-1], steady[:-1]]))
    earlier, ago = earlier[instants.of], ago[instants.of]
    most = own["rate_by"] * np.maximum(1.0, ago / own["rate_within"])
    found = np.where(_exceeds(np.abs(instants.own - earlier), most, instants.own), _S, _P)
    note(Check.RATE_OF_CHANGE, np.where(ago <= own["rate_reach"], found, _N))
    extremes = _Extremes(instants.value)
    flat = [_still(instants, extremes, of[f"flat_{name}"]) for name in ("suspect", "fail")]
    told = np.full(len(place), _N)
    for (width, count), outcome in zip(flat, (_S, _F), strict=True):
        known = ~np.isnan(width)
        still = known & ~_exceeds(width, of["flat_tolerance"], instants.value) & (count >= of["flat_count"])
        told = np.select([still, known & (told == _N)], [outcome, _P], told)
    note(Check.FLAT_LINE, told[instants.of])
    width, count = _still(instants, extremes, of["attenuated_window"])
    weak = [_exceeds(of[f"attenuated_{name}"], width, instants.value) for name in ("fail", "suspect")]
    enough = ~np.isnan(width) & (count >= of["attenuated_count"])
    note(Check.ATTENUATED, np.where(enough, np.select(weak, [_F, _S], _P), _N)[instants.of])


def _spikes(
    value: Floats, before: Floats, behind: Floats, near: Bools, of: npt.NDArray[np.void]
) -> npt.NDArray[np.uint8]:
    up, down = value - before, value - behind
    sticks_out = np.where(up * down > 0, np.minimum(np.abs(up), np.abs(down)), 0.0)
    height = np.where(of["spike_average"] > 0, np.abs(value - (before + behind) / 2), sticks_out)
    beyond = [_exceeds(height, of[f"spike_{name}"], value) for name in ("fail", "suspect")]
    found: npt.NDArray[np.uint8] = np.where(near, np.select(beyond, [_F, _S], _P), _N)
    return found


def _exceeds(value: Floats, limit: Floats, scale: Floats) -> Bools:
    """Whether it does by more than sums of such values are rounded."""
    found: Bools = value > limit + _ROUNDING * (1 + np.abs(scale))
    return found


class _Extremes:
    """The greatest and the least of any stretch of values, in two looks each (a sparse table)."""

    def __init__(self, values: Floats) -> None:
        self._levels = [(values, values)]

    def width(self, first: Whole, last: Whole) -> Floats:
        """The greatest less the least from `first` to `last`, both included."""
        length = last - first + 1
        level = np.frexp(length.astype(np.float64))[1] - 1
        while len(self._levels) <= level.max(initial=0):
            most, least = self._levels[-1]
            half = 1 << (len(self._levels) - 1)
            self._levels.append(
                (np.maximum(most[:-half], most[half:]), np.minimum(least[:-half], least[half:]))
            )
        width = np.empty(len(first))
        for number in np.unique(level).tolist():
            some = np.flatnonzero(level == number)
            most, least = self._levels[number]
            begin, end = first[some], last[some] - (1 << number) + 1
            width[some] = np.maximum(most[begin], most[end]) - np.minimum(least[begin], least[end])
        return width


def _still(instants: _Instants, extremes: _Extremes, duration: Floats) -> tuple[Floats, Floats]:
    """Over `duration` (µs) or more up to each instant: how much its values differ, and how many there are.

    The stretch begins with the newest instant that is that old, and not twice as old; NaN without one.
    """
    width, count = np.full(len(duration), np.nan), np.zeros(len(duration))
    asked = np.flatnonzero(duration > 0)
    key, lasting = instants.key, duration[asked].astype(np.int64)
    first = np.searchsorted(key, key[asked] - lasting, "right") - 1
    known = first >= 0
    known &= key[asked] - key[np.maximum(first, 0)] <= 2 * lasting  # series lie further apart
    asked, first = asked[known], first[known]
    width[asked], count[asked] = extremes.width(first, asked), asked - first + 1
    return width, count


def _neighbours(instants: _Instants, plans: Sequence[Plan], outcomes: Outcomes) -> None:
    edges = np.searchsorted(instants.series, np.arange(len(plans) + 1))
    for number, plan in enumerate(plans):
        limits = plan.checks.get(Check.NEIGHBOUR)
        begin, end = edges[number], edges[number + 1]
        if limits is None or not plan.neighbours or begin == end:
            continue
        time = instants.time[begin:end]
        beside = [
            _nearest(instants, slice(edges[other], edges[other + 1]), time, limits.within * _SECOND)
            for other in plan.neighbours
        ]
        middle = _median(np.stack(beside), limits.least)
        some = np.flatnonzero((instants.of >= begin) & (instants.of < end))
        own, middle = instants.own[some], middle[instants.of[some] - begin]
        far = _exceeds(np.abs(own - middle), np.full(len(own), limits.suspect), own)
        found = np.where(np.isnan(middle), _N, np.where(far, _S, _P))
        outcomes[instants.rows[some], _COLUMN[Check.NEIGHBOUR]] = found


def _nearest(instants: _Instants, some: slice, time: Whole, within: int) -> Floats:
    """The values of a series nearest in time, of two as near the earlier; NaN where none is near."""
    there, value = instants.time[some], instants.value[some]
    if not len(there):
        return np.full(len(time), np.nan)
    behind = np.searchsorted(there, time)
    before = np.maximum(behind - 1, 0)
    behind = np.minimum(behind, len(there) - 1)
    nearest = np.where(np.abs(time - there[before]) <= np.abs(there[behind] - time), before, behind)
    return np.where(np.abs(there[nearest] - time) <= within, value[nearest], np.nan)


def _median(values: Floats, least: int) -> Floats:
    """Of each column; NaN where less than `least` are known."""
    count = np.sum(~np.isnan(values), axis=0)
    ordered = np.sort(values, axis=0)  # NaN comes last
    column = np.arange(values.shape[1])
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1)
    middle = (ordered[low, column] + ordered[high, column]) / 2
    found: Floats = np.where(count >= least, middle, np.nan)
    return found


def _gaps(rows: npt.NDArray[np.void], of: npt.NDArray[np.void], outcomes: Outcomes) -> None:
    """Whatever came counts, good or not."""
    series, time = rows["series"], rows["time"]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (series[1:] != series[:-1]) | (time[1:] != time[:-1])
    begins = np.ones(len(rows), bool)
    begins[1:] = series[1:] != series[:-1]
    instant = np.flatnonzero(fresh)
    silence = np.diff(time[instant], prepend=time[:1]).astype(np.float64)
    silence[begins[instant]] = np.inf
    silence = silence[np.cumsum(fresh) - 1]
    found = np.where(silence > of["gap"], _S, _P)
    outcomes[:, _COLUMN[Check.GAP]] = np.where(np.isnan(of["gap"]), _N, found)


_JUDGING = [_COLUMN[check] for check in Check if check not in (Check.GAP, Check.OVERRIDE)]


def _combined(rows: npt.NDArray[np.void], outcomes: Outcomes) -> Flags:
    """The worst that a test found, unless a person decided; a gap harms nothing that came after it."""
    judging = outcomes[:, _JUDGING]
    fails, doubted = (judging == _F).any(axis=1), (judging == _S).any(axis=1)
    flags = np.select([fails, doubted], [int(Quality.FAIL), int(Quality.SUSPECT)], int(Quality.GOOD))
    return np.where(rows["override"] != 0, rows["override"], flags).astype(np.int16)


def outcomes_of(outcomes: npt.NDArray[np.uint8]) -> Mapping[Check, Outcome]:
    """One row of `Judged.outcomes`, by test."""
    return {check: Outcome(outcomes[column]) for check, column in _COLUMN.items()}
