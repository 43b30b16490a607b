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
_PARAMETERS = (
    *("fail_low", "fail_high", "suspect_low", "suspect_high"),
    *("spike_suspect", "spike_fail", "spike_within", "spike_average", "rate_by", "rate_within", "rate_reach"),
    *("flat_tolerance", "flat_suspect", "flat_fail", "flat_count"),
    *("attenuated_window", "attenuated_suspect", "attenuated_fail", "attenuated_count", "gap"),
)
_Limits = Mapping[str, Floats]
"""Each of `_PARAMETERS`, by series."""


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


def evaluate(rows: npt.NDArray[np.void], plans: Sequence[Plan], wanted: Bools | None = None) -> Judged:
    """The flags of readings of `SERIES_DTYPE`, shape (n,), ordered by series, time and value.

    Those that are not `wanted` only serve the others, and what comes out for them says nothing.
    """
    outcomes = np.full((len(rows), len(Check)), _N, np.uint8)
    if len(rows):
        some = np.arange(len(rows)) if wanted is None else np.flatnonzero(wanted)
        limits = _limits(plans)
        usable = _usable(rows, limits)
        _alone(rows, limits, plans, outcomes, some)
        instants = _Instants(rows, usable, some)
        if len(instants.rows):
            with np.errstate(over="ignore", invalid="ignore"):
                _in_order(instants, limits, outcomes)
                _standing_still(instants, limits, outcomes)
                _neighbours(instants, plans, outcomes)
        _gaps(rows, limits, outcomes)
    return Judged(_combined(rows, outcomes), outcomes)


def _limits(plans: Sequence[Plan]) -> _Limits:
    made: dict[tuple[int, float | None], tuple[float, ...]] = {}
    for plan in plans:
        key = id(plan.checks), plan.interval
        if key not in made:
            made[key] = _parameters(plan.checks, plan.interval)
    table = np.array([made[id(plan.checks), plan.interval] for plan in plans], np.float64)
    return dict(zip(_PARAMETERS, np.ascontiguousarray(table.T), strict=True))


def _usable(rows: npt.NDArray[np.void], limits: _Limits) -> Bools:
    """Whether a reading may be another's neighbour."""
    value, series = rows["value"], rows["series"]
    plausible = (limits["fail_low"][series] <= value) & (value <= limits["fail_high"][series])
    said = rows["override"]
    found: Bools = np.where(said == 0, plausible, said != Quality.FAIL)
    return found


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
    rows: npt.NDArray[np.void], limits: _Limits, plans: Sequence[Plan], outcomes: Outcomes, some: Whole
) -> None:
    value, series = rows["value"][some], rows["series"][some]
    fails = ~((limits["fail_low"][series] <= value) & (value <= limits["fail_high"][series]))
    doubted = ~((limits["suspect_low"][series] <= value) & (value <= limits["suspect_high"][series]))
    outcomes[some, _COLUMN[Check.GROSS_RANGE]] = np.select([fails, doubted], [_F, _S], _P)
    for number, plan in enumerate(plans):
        if seasons := plan.checks.get(Check.CLIMATOLOGY):
            own = some[series == number]
            spans = monthly(seasons)[month(rows["time"][own])]
            found = np.where(usual(rows["value"][own], spans), _P, _S)
            outcomes[own, _COLUMN[Check.CLIMATOLOGY]] = np.where(np.isnan(spans[:, 0]), _N, found)
    outcomes[rows["restart"], _COLUMN[Check.RESTART]] = _S
    outcomes[rows["override"] != 0, _COLUMN[Check.OVERRIDE]] = _S


class _Instants:
    """The instants of usable readings, each with one value, and of the readings that are wanted (`rows`, by
    index) the value (`own`) and the instant (`of`).

    Times of different series lie far apart in `key`, which rises over all instants.
    """

    def __init__(self, every: npt.NDArray[np.void], usable: Bools, wanted: Whole) -> None:
        series, time = every["series"][usable], every["time"][usable]
        last = np.ones(len(series), bool)
        last[:-1] = (series[1:] != series[:-1]) | (time[1:] != time[:-1])
        self.rows = wanted[usable[wanted]]
        self.own = every["value"][self.rows]
        self.of = (np.cumsum(last) - last)[(np.cumsum(usable) - 1)[self.rows]]
        self.series, self.time, self.value = series[last], time[last], every["value"][usable][last]
        first = np.ones(len(self.time), bool)
        first[1:] = self.series[1:] != self.series[:-1]
        self.key: Whole = np.cumsum(np.where(first, _APART, np.diff(self.time, prepend=self.time[:1])))

    def beside(self, at: Whole, place: Whole) -> tuple[Floats, Floats]:
        """The values at these instants, and how far (µs) each is from the instant in whose place it stands.

        NaN for an instant that there is not, or of another series.
        """
        found = np.clip(at, 0, len(self.time) - 1)
        known = (at == found) & (self.series[found] == self.series[place])
        away = np.abs(self.time[found] - self.time[place]).astype(np.float64)
        return np.where(known, self.value[found], np.nan), np.where(known, away, np.nan)


def _in_order(instants: _Instants, limits: _Limits, outcomes: Outcomes) -> None:
    spiky = np.zeros(len(instants.time), bool)
    asked = np.flatnonzero(limits["spike_within"][instants.series] > 0)
    spiky[asked] = np.isin(_spikes(instants, limits, asked, instants.value[asked]), (_S, _F))
    outcomes[instants.rows, _COLUMN[Check.SPIKE]] = _spikes(instants, limits, instants.of, instants.own)
    steady = np.maximum.accumulate(np.where(spiky, -1, np.arange(len(spiky))))
    before = np.where(instants.of > 0, steady[instants.of - 1], -1)
    earlier, ago = instants.beside(before, instants.of)
    series = instants.series[instants.of]
    most = limits["rate_by"][series] * np.maximum(1.0, ago / limits["rate_within"][series])
    found = np.where(_exceeds(np.abs(instants.own - earlier), most, instants.own), _S, _P)
    known = ago <= limits["rate_reach"][series]
    outcomes[instants.rows, _COLUMN[Check.RATE_OF_CHANGE]] = np.where(known, found, _N)


def _standing_still(instants: _Instants, limits: _Limits, outcomes: Outcomes) -> None:
    series, extremes, none = instants.series[instants.of], _Extremes(instants.value), len(instants.of)
    told = np.full(none, _N)
    for name, outcome in (("flat_suspect", _S), ("flat_fail", _F)):
        width, count = _still(instants, extremes, limits[name][series])
        known = ~np.isnan(width)
        still = known & ~_exceeds(width, limits["flat_tolerance"][series], instants.own)
        still &= count >= limits["flat_count"][series]
        told = np.select([still, known & (told == _N)], [outcome, _P], told)
    outcomes[instants.rows, _COLUMN[Check.FLAT_LINE]] = told
    width, count = _still(instants, extremes, limits["attenuated_window"][series])
    weak = [
        _exceeds(limits[f"attenuated_{name}"][series], width, instants.own) for name in ("fail", "suspect")
    ]
    enough = ~np.isnan(width) & (count >= limits["attenuated_count"][series])
    outcomes[instants.rows, _COLUMN[Check.ATTENUATED]] = np.where(enough, np.select(weak, [_F, _S], _P), _N)


def _spikes(instants: _Instants, limits: _Limits, at: Whole, value: Floats) -> npt.NDArray[np.uint8]:
    """Of values at these instants."""
    (before, since), (behind, until) = instants.beside(at - 1, at), instants.beside(at + 1, at)
    of = {
        name: limits[f"spike_{name}"][instants.series[at]]
        for name in ("within", "average", "fail", "suspect")
    }
    up, down = value - before, value - behind
    sticks_out = np.where(up * down > 0, np.minimum(np.abs(up), np.abs(down)), 0.0)
    height = np.where(of["average"] > 0, np.abs(value - (before + behind) / 2), sticks_out)
    beyond = [_exceeds(height, of[name], value) for name in ("fail", "suspect")]
    near = (since <= of["within"]) & (until <= of["within"])
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
        if len(first) * 8 < len(self._levels[0][0]):
            return self._looked_up(first, last)
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

    def _looked_up(self, first: Whole, last: Whole) -> Floats:
        """The same, of few stretches: value by value."""
        values, _ = self._levels[0]
        edges = np.column_stack([first, np.minimum(last + 1, len(values))]).ravel()
        padded = np.append(values, values[-1:])
        most, least = (ufunc.reduceat(padded, edges)[::2] for ufunc in (np.maximum, np.minimum))
        found: Floats = most - least
        return found


def _still(instants: _Instants, extremes: _Extremes, duration: Floats) -> tuple[Floats, Floats]:
    """Over `duration` (µs) or more up to each reading: how much values differ, and how many there are.

    The stretch begins with the newest instant that is that old, and not twice as old; NaN without one.
    """
    width, count = np.full(len(duration), np.nan), np.zeros(len(duration))
    asked = np.flatnonzero(duration > 0)
    key, last, lasting = instants.key, instants.of[asked], duration[asked].astype(np.int64)
    first = np.searchsorted(key, key[last] - lasting, "right") - 1
    known = first >= 0
    known &= key[last] - key[np.maximum(first, 0)] <= 2 * lasting  # series lie further apart
    asked, first, last = asked[known], first[known], last[known]
    width[asked], count[asked] = extremes.width(first, last), last - first + 1
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


def _gaps(rows: npt.NDArray[np.void], limits: _Limits, outcomes: Outcomes) -> None:
    """Whatever came counts, good or not."""
    series, time = rows["series"], rows["time"]
    longest = limits["gap"][series]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (series[1:] != series[:-1]) | (time[1:] != time[:-1])
    begins = np.ones(len(rows), bool)
    begins[1:] = series[1:] != series[:-1]
    instant = np.flatnonzero(fresh)
    silence = np.diff(time[instant], prepend=time[:1]).astype(np.float64)
    silence[begins[instant]] = np.inf
    silence = silence[np.cumsum(fresh) - 1]
    found = np.where(silence > longest, _S, _P)
    outcomes[:, _COLUMN[Check.GAP]] = np.where(np.isnan(longest), _N, found)


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
