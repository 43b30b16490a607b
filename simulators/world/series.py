"""Series of world time that fields are made of: the clock, red noise, and what follows another slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .field import Series, generator
from .rain import Array

_NOISE_COUNT = 4096
_STEPS_PER_MEMORY = 8


def day_angle(t_h: Array, *, start_hour: float, peak_hour: float) -> Array:
    """Radians since the daily maximum at local time `peak_hour`, when world hour 0 is at `start_hour`."""
    return 2.0 * math.pi * (start_hour + np.asarray(t_h, dtype=np.float64) - peak_hour) / 24.0


def local_hour(t_h: Array, start_hour: float) -> Array:
    """Local time of day, 0 to 24."""
    return np.mod(start_hour + np.asarray(t_h, dtype=np.float64), 24.0)


def sunlight(t_h: Array, start_hour: float) -> Array:
    """Share of the noon sun: half a sine from 6 to 18 h, as in the tropics all year; 0 at night."""
    return np.maximum(np.cos(day_angle(t_h, start_hour=start_hour, peak_hour=12.0)), 0.0)


class Noise:
    """Red noise with a standard normal marginal: (t_h) → deviates with a correlation of e^(−Δt/`memory_h`).

    A first-order autoregressive process x' = ρx + √(1−ρ²)·ε with ρ = e^(−1/8) on steps of an eighth of the
    memory, closed to a ring of 512 memories, so that it goes on for ever and no span of time has to be
    named. Between steps it is linear and scaled back to unit variance. Source: Box & Jenkins (1970), Time
    Series Analysis, section 3.2.
    """

    def __init__(self, seed: int, *key: int | str, memory_h: float) -> None:
        self._step = memory_h / _STEPS_PER_MEMORY
        rho = math.exp(-1.0 / _STEPS_PER_MEMORY)
        shocks = generator(seed, *key).normal(0.0, math.sqrt(1.0 - rho * rho), _NOISE_COUNT)
        last = 0.0
        for shock in shocks.tolist():
            last = rho * last + shock
        last /= 1.0 - rho**_NOISE_COUNT
        ring = np.empty(_NOISE_COUNT + 1)
        ring[0] = last
        for i, shock in enumerate(shocks.tolist()):
            last = rho * last + shock
            ring[i + 1] = last
        self._ring = ring
        self._rho = rho

    def __call__(self, t_h: Array) -> Array:
        steps = np.mod(np.asarray(t_h, dtype=np.float64) / self._step, _NOISE_COUNT)
        before = np.minimum(steps.astype(np.int64), _NOISE_COUNT - 1)
        w = steps - before
        mixed: Array = (1.0 - w) * self._ring[before] + w * self._ring[before + 1]
        scale: Array = np.sqrt((1.0 - w) ** 2 + w**2 + 2.0 * w * (1.0 - w) * self._rho)
        return mixed / scale


@dataclass(frozen=True, slots=True)
class Span:
    """World hours from `begin_h` to `end_h` in steps of `step_h`, for what has to be integrated in time.

    Outside it a quantity keeps its first or last value.
    """

    begin_h: float
    end_h: float
    step_h: float = 1.0 / 12.0

    @property
    def edges(self) -> Array:
        """(n + 1,) hours, both ends included."""
        count = max(round((self.end_h - self.begin_h) / self.step_h), 1)
        return self.begin_h + self.step_h * np.arange(count + 1, dtype=np.float64)

    @property
    def middles(self) -> Array:
        """(n,) hours."""
        return self.edges[:-1] + self.step_h / 2.0

    def series(self, values: Array) -> Series:
        """Linear between `values` (n + 1,) at the edges."""
        edges = self.edges
        return lambda t_h: np.interp(t_h, edges, values)

    def follow(self, target: Series, memory_h: float) -> Series:
        """What follows `target` with a lag: dy/dt = (target − y)/`memory_h`, at the target when it begins.

        Exact for a target that is constant within a step.
        """
        keep = math.exp(-self.step_h / memory_h)
        y = float(target(self.edges[:1])[0])
        values = [y]
        for aim in target(self.middles).tolist():
            y = aim + (y - aim) * keep
            values.append(y)
        return self.series(np.array(values))
