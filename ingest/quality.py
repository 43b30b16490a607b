"""Quality tests that need one reading alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from telemetry.catalogue import CATALOGUE, checks_of
from telemetry.checks import Check, Checks, GrossRange, Season, StationChecks
from telemetry.model import Quality
from telemetry.store.lanes import Readings
from telemetry.store.overrides import Override
from telemetry.store.registry import Stay

from .overrides import Overrides

Floats = npt.NDArray[np.float64]
_HOURS_AHEAD = 7 * 3_600_000_000  # µs: Vietnam's time, without summer time
_NOWHERE = StationChecks()


class SingleReading:
    """QARTOD's gross range and climatology tests, for readings of many metrics and stations at once;
    before both goes what a person said."""

    def __init__(
        self,
        metric_ids: Mapping[str, int],
        stays: Sequence[Stay] = (),
        overrides: Iterable[Override] = (),
    ) -> None:
        """`stays` are where devices were, none of a device at two stations at once; elsewhere the catalogue's
        checks hold. `overrides` come oldest first."""
        self._said = Overrides(overrides)
        kinds = list({id(kind): kind for kind in (_NOWHERE, *(stay.checks for stay in stays))}.values())
        self._stays = _Stays(stays, kinds)
        size = max(metric_ids.values(), default=0) + 1
        spans = np.full((4, len(kinds), size), np.inf)
        spans[[0, 2]] = -np.inf
        self._season = np.full((len(kinds), size), -1, np.int32)
        seasons: list[Floats] = []
        for number, kind in enumerate(kinds):
            spans[:, number], self._season[number] = spans[:, 0], self._season[0]
            asked = kind.metrics if number else CATALOGUE
            for metric in asked.keys() & metric_ids.keys():
                checks, id_ = checks_of(metric, kind), metric_ids[metric]
                spans[:, number, id_] = span_limits(checks)
                self._season[number, id_] = -1
                if checks.get(Check.CLIMATOLOGY):
                    self._season[number, id_] = len(seasons)
                    seasons.append(monthly(checks.get(Check.CLIMATOLOGY)))
        self._low, self._high, self._suspect_low, self._suspect_high = spans
        self._suspects = bool(np.isfinite(spans[2:]).any())
        self._months = np.array(seasons).reshape(-1, 12, 2)

    def __call__(self, readings: Readings) -> npt.NDArray[np.int16]:
        """The flag of each reading, shape (n,)."""
        metric, value = readings["metric_id"], readings["value"]
        if len(self._low) == 1:
            at: tuple[npt.NDArray[np.integer] | int, ...] = 0, metric
        else:
            at = self._stays.kinds_of(readings["device_id"], readings["time"]), metric
        plausible = (self._low[at] <= value) & (value <= self._high[at])
        flags = np.where(plausible, np.int16(Quality.GOOD), np.int16(Quality.FAIL))
        doubted = ~plausible
        if self._suspects:
            doubted = ~((self._suspect_low[at] <= value) & (value <= self._suspect_high[at]))
        if len(self._months):
            season = self._season[at]
            rows = np.flatnonzero(season >= 0)
            doubted[rows] |= ~usual(value[rows], self._months[season[rows], month(readings["time"][rows])])
        flags[plausible & doubted] = Quality.SUSPECT
        if self._said:
            said = self._said(readings)
            flags = np.where(said != 0, said, flags)
        return flags


class _Stays:
    """Which of some kinds of checks hold for a device at a time: the first, unless it was at a station."""

    def __init__(self, stays: Sequence[Stay], kinds: Sequence[StationChecks]) -> None:
        numbers = {id(kind): number for number, kind in enumerate(kinds)}
        every = sorted(stays, key=lambda stay: (stay.device_id, stay.first))
        self._devices = np.array([stay.device_id for stay in every], np.int64)
        self._ends = np.array([stay.end for stay in every], np.int64)
        self._kinds = np.array([numbers[id(stay.checks)] for stay in every], np.int64)
        begins = np.array([stay.first for stay in every], np.int64)
        self._moments = np.unique(begins)
        self._keys = self._key(self._devices, begins)

    def kinds_of(
        self, devices: npt.NDArray[np.integer], times: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Their numbers; `times` in µs since 1970."""
        stay = np.searchsorted(self._keys, self._key(devices, times), "right") - 1
        there = (stay >= 0) & (self._devices[stay] == devices) & (times < self._ends[stay])
        return np.where(there, self._kinds[stay], 0)

    def _key(self, devices: npt.NDArray[np.integer], times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Orders by device, then by how many of the moments had come."""
        come = np.searchsorted(self._moments, times, "right")
        return devices.astype(np.int64) * (len(self._moments) + 1) + come


def span_limits(checks: Checks) -> tuple[float, float, float, float]:
    """Below the first and above the second fail, below the third and above the fourth suspect."""
    gross: GrossRange | None = checks.get(Check.GROSS_RANGE)
    if gross is None:
        return -np.inf, np.inf, -np.inf, np.inf
    return (*gross.fail, *(gross.suspect or (-np.inf, np.inf)))


def monthly(seasons: tuple[Season, ...]) -> Floats:
    """The lowest and the highest usual value of each month, shape (12, 2); NaN where none is given."""
    found = np.full((12, 2), np.nan)
    for season in seasons:
        found[[number - 1 for number in season.months]] = season.suspect
    return found


def month(time: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0 to 11, in Vietnam; `time` in µs since 1970."""
    here = (time + _HOURS_AHEAD).astype("datetime64[us]")
    found: npt.NDArray[np.int64] = here.astype("datetime64[M]").astype(np.int64) % 12
    return found


def usual(value: Floats, span: Floats) -> npt.NDArray[np.bool_]:
    """Whether each value lies in its span, of shape (n, 2); where none is given, all do."""
    found: npt.NDArray[np.bool_] = ~((value < span[:, 0]) | (value > span[:, 1]))
    return found
