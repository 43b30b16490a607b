"""A slope that creeps, speeds up while it is wet, and fails."""

from __future__ import annotations

import numpy as np

from .field import Field, Series, everywhere
from .rain import Array
from .series import Span

_FAILED_MM_H = 1000.0
_FALL_H = 1.0 / 60.0


class Slope:
    """Tertiary creep by the inverse-velocity law: d(1/v)/dt = −A·g, so 1/v falls on a straight line to 0.

    g = (w − `critical`)/(1 − `critical`), at least 0, of the soil's wetness w, and A = 1/(`onset_mm_h` ·
    `hours_to_failure`): from the first, a soil wholly wet fails after so many hours. The slope moves at
    g/(1/v), never slower than `rest_mm_h`; strength that it has lost stays lost when it dries. At 1 m/h it
    has failed, and slides `runout_mm` in a minute. Source: Fukuzono (1985), 4th Int. Conf. Landslides,
    Tokyo; Voight (1988), Nature 332, v̇ = A·v^α with α = 2. `depth_m` is the lever of the tilt.
    """

    def __init__(
        self,
        wetness: Series,
        span: Span,
        *,
        critical: float = 0.6,
        onset_mm_h: float = 0.5,
        hours_to_failure: float = 24.0,
        rest_mm_h: float = 0.005,
        runout_mm: float = 5000.0,
        depth_m: float = 2.0,
    ) -> None:
        self._depth_mm = 1000.0 * depth_m
        edges, step = span.edges, span.step_h
        load = np.clip((wetness(span.middles) - critical) / (1.0 - critical), 0.0, 1.0)
        used = np.concatenate([[0.0], np.cumsum(load) * step]) / hours_to_failure
        failed = 1.0 - onset_mm_h / _FAILED_MM_H
        last = int(np.searchsorted(used, failed)) - 1
        self.failure_h: float | None = None
        """World hour of the failure, the truth a detector is measured by; None if it holds."""
        if last < len(load):
            self.failure_h = float(edges[last] + step * (failed - used[last]) / (used[last + 1] - used[last]))
            edges = np.append(edges[: last + 1], self.failure_h)
            used = np.append(used[: last + 1], failed)
            load = load[: last + 1]
        # ∫ g·dt/(1/v) over a step is the logarithm of what 1/v shrank by, over A.
        creep = -onset_mm_h * hours_to_failure * np.diff(np.log1p(-used))
        moved = np.maximum(creep, rest_mm_h * np.diff(edges))
        self._edges = edges
        self._moved = np.concatenate([[0.0], np.cumsum(moved)])
        self._speeds = np.maximum(load * onset_mm_h / (1.0 - (used[1:] + used[:-1]) / 2.0), rest_mm_h)
        self._runout_mm = runout_mm

    def displacement(self, t_h: Array) -> Array:
        """mm down the slope since the span began; never falls."""
        t = np.asarray(t_h, dtype=np.float64)
        crept: Array = np.interp(t, self._edges, self._moved)
        if self.failure_h is None:
            return crept
        fallen: Array = np.clip((t - self.failure_h) / _FALL_H, 0.0, 1.0)
        return crept + self._runout_mm * fallen

    def speed(self, t_h: Array) -> Array:
        """mm/h, the mean of a step; 0 outside the span, and after the failure (which is no creep)."""
        t = np.asarray(t_h, dtype=np.float64)
        step = np.searchsorted(self._edges, t, side="right") - 1
        inside = (t >= self._edges[0]) & (t < self._edges[-1])
        return np.where(inside, self._speeds[np.clip(step, 0, len(self._speeds) - 1)], 0.0)

    def tilt(self, t_h: Array) -> Array:
        """Degrees that a pole through the moving layer leans over: arctan of displacement over depth."""
        return np.degrees(np.arctan(self.displacement(t_h) / self._depth_mm))

    def fields(self) -> tuple[Field, ...]:
        """structure.displacement and tilt.y (the slope falls along y)."""
        return everywhere("structure.displacement", self.displacement), everywhere("tilt.y", self.tilt)
