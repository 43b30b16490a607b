"""Sun on the ground under clouds, and the pressure that rises and falls twice a day."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .field import Field, Series, constant, everywhere
from .rain import Array
from .series import local_hour, sunlight

_CLEAR_W_M2 = 1098.0
_HAZY = 0.057
_TIDE_HPA = 1.16
_TIDE_PEAK_HOUR = 9.73
_OVERCAST_MM_H = 1.0


@dataclass(frozen=True, slots=True)
class Sky:
    """`cover` is the share of the sky under clouds without rain; rain closes it. For the low tropics."""

    rain_mm_h: Series = field(default=constant(0.0))
    cover: float = 0.4
    mean_hpa: float = 1009.0
    start_hour: float = 0.0

    def radiation(self, t_h: Array) -> Array:
        """W/m²: G = 1098·s·exp(−0.057/s)·(1 − 0.75·n^3.4) for a sun at the height of sine s and a cover n.

        Source: Haurwitz (1945), J. Meteorology 2(3); Kasten & Czeplak (1980), Solar Energy 24(2). That rain
        closes the sky as tanh(i / 1 mm/h) is ours.
        """
        s = np.maximum(sunlight(t_h, self.start_hour), 1e-9)
        n = self.cover + (1.0 - self.cover) * np.tanh(self.rain_mm_h(t_h) / _OVERCAST_MM_H)
        return _CLEAR_W_M2 * s * np.exp(-_HAZY / s) * (1.0 - 0.75 * n**3.4)

    def pressure(self, t_h: Array) -> Array:
        """hPa: the mean and the sun's half-day tide, 1.16·cos(2π(h − 9.73)/12), at the equator.

        Source: Haurwitz & Cowley (1973), Pure and Applied Geophysics 102.
        """
        hour = local_hour(t_h, self.start_hour)
        tide: Array = _TIDE_HPA * np.cos(2.0 * math.pi * (hour - _TIDE_PEAK_HOUR) / 12.0)
        return self.mean_hpa + tide

    def fields(self) -> tuple[Field, ...]:
        """radiation.solar and air.pressure."""
        return everywhere("radiation.solar", self.radiation), everywhere("air.pressure", self.pressure)
