"""Wind at a place: speed, gusts and direction, from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .field import Field, everywhere
from .rain import Array
from .series import Noise, day_angle

_MEASURED_AT_M = 10.0
_PEAK = 2.8  # standard deviations that the highest 3 s of ten minutes lie above their mean
_PEAK_SCATTER = 0.4

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@dataclass(frozen=True, slots=True)
class WindClimate:
    """Mean speed, Weibull shape, share by which the afternoon exceeds it, and where the wind comes from.

    `turn_deg` is how far it turns clockwise in the afternoon and back at night (sea and land breeze),
    `spread_deg` the standard deviation beside that, `roughness_m` the ground's z₀.
    """

    mean_ms: float = 2.5
    shape: float = 2.0
    afternoon: float = 0.5
    from_deg: float = 225.0
    turn_deg: float = 15.0
    spread_deg: float = 20.0
    roughness_m: float = 0.1
    memory_h: float = 3.0


class Wind:
    """Ten-minute winds 10 m above the ground that go on for ever; the same seed and name, the same wind."""

    def __init__(self, climate: WindClimate, *, seed: int, name: str = "", start_hour: float = 0.0) -> None:
        self._climate = climate
        self._start_hour = start_hour
        self._speed = Noise(seed, "wind speed", name, memory_h=climate.memory_h)
        self._peak = Noise(seed, "wind peak", name, memory_h=0.5)
        self._turn = Noise(seed, "wind direction", name, memory_h=climate.memory_h)

    def speed(self, t_h: Array) -> Array:
        """m/s: Weibull at every hour of the day, u = c·(−ln(1 − Φ(z)))^(1/k), z red noise.

        c follows the day with its maximum at 14 h. Source: Justus et al. (1978), J. Applied Meteorology
        17(3), for the Weibull; Brown, Katz & Murphy (1984), J. Climate and Applied Meteorology 23(8), for
        the transformed autoregression.
        """
        c = self._climate
        z = self._speed(t_h)
        standard: Array = -np.log(0.5 * _erfc(z / math.sqrt(2.0)))
        day = 1.0 + c.afternoon * np.cos(self._afternoon(t_h))
        scale: Array = day * c.mean_ms / math.gamma(1.0 + 1.0 / c.shape)
        return scale * np.power(standard, 1.0 / c.shape)

    def gust(self, t_h: Array) -> Array:
        """m/s, highest 3 s of ten minutes: u·(1 + g/ln(10/z₀)) with a peak factor g of 2.8 ± 0.4.

        Source: Wieringa (1973), Boundary-Layer Meteorology 3; WMO-No. 8, volume I, chapter 5.
        """
        peak = np.maximum(_PEAK + _PEAK_SCATTER * self._peak(t_h), 0.0)
        return self.speed(t_h) * (1.0 + peak / math.log(_MEASURED_AT_M / self._climate.roughness_m))

    def direction(self, t_h: Array) -> Array:
        """Degrees from north, clockwise, that the wind comes from; 0 to 360."""
        c = self._climate
        turn = c.turn_deg * np.cos(self._afternoon(t_h)) + c.spread_deg * self._turn(t_h)
        return np.mod(c.from_deg + turn, 360.0)

    def fields(self) -> tuple[Field, ...]:
        """wind.speed, wind.gust and wind.direction."""
        return (
            everywhere("wind.speed", self.speed),
            everywhere("wind.gust", self.gust),
            everywhere("wind.direction", self.direction),
        )

    def _afternoon(self, t_h: Array) -> Array:
        return day_angle(t_h, start_hour=self._start_hour, peak_hour=14.0)
