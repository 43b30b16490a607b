"""Air temperature and humidity near the ground over a day, and what rain does to them."""

from __future__ import annotations

import math

import numpy as np

from .rain import Array

WARMEST_HOUR = 14.0
_RAIN_COOLING = 4.0


def temperature(local_hour: Array, *, mean: float, swing: float, rain_mm_h: Array | float = 0.0) -> Array:
    """°C at `local_hour` (any number wraps): T = mean + swing·cos(2π(h−14)/24), less up to 4 °C in rain.

    The sine of the day with its maximum two hours after noon is the usual first approximation (Oke 1987,
    Boundary Layer Climates, section 2); the cooling 4·tanh(i / 10 mm/h) is a plausible choice, no law.
    """
    day = mean + swing * np.cos(2.0 * math.pi * (local_hour - WARMEST_HOUR) / 24.0)
    cooled: Array = day - _RAIN_COOLING * np.tanh(np.asarray(rain_mm_h) / 10.0)
    return cooled


def relative_humidity(temperature_c: Array, dew_point_c: Array | float) -> Array:
    """% for a temperature and a dew point, at most 100: RH = 100·e(Td)/e(T), e(x) ∝ exp(17.625x/(243.04+x)).

    Source: the Magnus form of Alduchov & Eskridge (1996), J. Applied Meteorology 35(4).
    """
    return np.minimum(100.0, 100.0 * np.exp(_magnus(dew_point_c) - _magnus(temperature_c)))


def _magnus(c: Array | float) -> Array | float:
    return 17.625 * c / (243.04 + c)
