"""Calibrations applied to readings, a whole batch at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from decoders.calibration import Calibration, parse_calibrations
from telemetry.catalogue import CATALOGUE
from telemetry.clock import micros
from telemetry.errors import UsageError
from telemetry.store.calibrations import CalibrationRow
from telemetry.store.lanes import Readings, with_raw

_log = structlog.get_logger()
_EVER = int(np.iinfo(np.int64).max)
Whole = npt.NDArray[np.int64]
_N = TypeVar("_N", int, npt.NDArray[np.int64])


class Held(NamedTuple):
    """A calibration and the series it is for."""

    device_id: int
    metric_id: int
    channel: int
    calibration: Calibration


def parse_rows(rows: Iterable[CalibrationRow]) -> list[Held]:
    """The calibrations of these rows; one that somebody spoilt in the table corrects nothing."""
    held = []
    for row in rows:
        try:
            (parsed,) = parse_calibrations([row.to_dict()], {row.metric})
        except UsageError as error:
            _log.warning("calibration_unusable", device_id=row.device_id, problem=str(error))
            continue
        held.append(Held(row.device_id, row.metric_id, row.channel, parsed))
    return held


def of_values(rows: Iterable[CalibrationRow]) -> Corrections:
    """Those that correct readings themselves: of a counter the increments are corrected, not the count."""
    return Corrections(
        held for held in parse_rows(rows) if CATALOGUE[held.calibration.metric].kind != "counter"
    )


class Corrections:
    """What holds for which series and when, as columns; periods of one series do not overlap."""

    def __init__(self, held: Iterable[Held] = ()) -> None:
        ordered = sorted(held, key=lambda one: (*one[:3], one.calibration.start))
        every = [one.calibration for one in ordered]
        self._series = np.array([_number(*one[:3]) for one in ordered], np.int64)
        self._known = np.unique(self._series)
        self._start = np.array([micros(one.start) for one in every], np.int64)
        self._end = np.array([_EVER if one.end is None else micros(one.end) for one in every], np.int64)
        self._gain = np.array([one.gain for one in every], np.float64)
        self._offset = np.array([one.offset for one in every], np.float64)
        self._curves = {index: one for index, one in enumerate(every) if one.points}

    def __call__(self, readings: Readings) -> Readings:
        """The readings, with `raw` when a calibration holds for some of them; else themselves."""
        if not len(self._series):
            return readings
        series = _number(*(readings[name].astype(np.int64) for name in ("device_id", "metric_id", "channel")))
        rows = np.flatnonzero(np.isin(series, self._known))
        which = self._holding(series[rows], readings["time"][rows])
        rows, which = rows[which >= 0], which[which >= 0]
        if not len(rows):
            return readings
        corrected = with_raw(readings)
        corrected["raw"][rows] = raw = readings["value"][rows]
        corrected["value"][rows] = self._correct(raw, which)
        return corrected

    def _holding(self, series: Whole, time: Whole) -> Whole:
        """Which calibration holds for each; -1 where none does."""
        count = len(self._series)
        order = np.lexsort((np.append(self._start, time), np.append(self._series, series)))
        newest = np.maximum.accumulate(np.where(order < count, order, -1))
        which = np.empty(count + len(time), np.int64)
        which[order] = newest
        which = which[count:]
        holds = (which >= 0) & (self._series[which] == series) & (time < self._end[which])
        return np.where(holds, which, -1)

    def _correct(self, raw: npt.NDArray[np.float64], which: Whole) -> npt.NDArray[np.float64]:
        with np.errstate(over="ignore"):
            value = raw * self._gain[which] + self._offset[which]
            for index in np.intersect1d(which, list(self._curves)).tolist():
                value[which == index] = self._curves[index].correct(raw[which == index])
        # Beyond every range, and JSON can tell it; and never -0.0.
        return np.nan_to_num(value) + 0.0


def _number(device: _N, metric: _N, channel: _N) -> _N:
    return device << 32 | metric << 16 | channel
