"""The scene on a grid of minutes, so that reading it off costs the same for one device and for 100,000."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..world.field import Series
from ..world.rain import Array

STEP_S = 60.0
_AHEAD = 360  # steps that are worked out at a time


class Grid:
    """Rows of series, linear between full minutes of world time."""

    def __init__(self) -> None:
        self._series: list[Series] = []
        self._first = 0
        self._values = np.empty((0, 0))

    def add(self, series: Series) -> int:
        """The row of one more series."""
        self._series.append(series)
        self._values = np.empty((0, 0))
        return len(self._series) - 1

    def at(self, rows: NDArray[np.int64], at_s: Array) -> Array:
        """Values of rows (n,) at world seconds (n,), which lie near each other."""
        if not len(at_s):
            return np.empty(0)
        step = np.floor(at_s / STEP_S).astype(np.int64)
        first, last = int(step.min()), int(step.max()) + 1
        if first < self._first or last >= self._first + self._values.shape[1]:
            self._work_out(first, max(last - first + 1, _AHEAD))
        column = step - self._first
        before, after = self._values[rows, column], self._values[rows, column + 1]
        return before + (after - before) * (at_s / STEP_S - step)

    def _work_out(self, first: int, count: int) -> None:
        hours = (first + np.arange(count, dtype=np.float64)) * STEP_S / 3600.0
        self._values = np.array([series(hours) for series in self._series])
        self._first = first
