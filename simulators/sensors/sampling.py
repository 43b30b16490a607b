"""The scene on a grid of minutes, so that reading it off costs the same for one device and for 100,000."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..world.field import Series
from ..world.rain import Array

STEP_S = 60.0
_PAGE = 360  # steps that are worked out at a time


class Grid:
    """Rows of series, linear between full minutes of world time."""

    def __init__(self) -> None:
        self._series: list[Series] = []
        self._page: int | None = None
        self._values = np.empty((0, _PAGE + 1))

    def add(self, series: Series) -> int:
        """The row of one more series."""
        self._series.append(series)
        self._page = None
        return len(self._series) - 1

    def at(self, rows: NDArray[np.int64], at_s: Array) -> Array:
        """Values of rows (n,) at world seconds (n,), all within one minute."""
        if not len(at_s):
            return np.empty(0)
        step = int(at_s.min() // STEP_S)
        page, column = divmod(step, _PAGE)
        if page != self._page:
            self._turn(page)
        before, after = self._values[rows, column], self._values[rows, column + 1]
        share = at_s / STEP_S - step
        return before + (after - before) * share

    def _turn(self, page: int) -> None:
        hours = (page * _PAGE + np.arange(_PAGE + 1)) * STEP_S / 3600.0
        self._values = np.array([series(hours) for series in self._series])
        self._page = page
