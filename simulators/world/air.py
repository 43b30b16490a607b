"""Air temperature and humidity near the ground over a day, and what rain does to them."""

from __future__ import annotations

from math import cos, exp, pi, tanh

WARMEST_HOUR = 14.0
_RAIN_COOLING = 4.0


def temperature(local_hour: float, *, mean: float, swing: float, rain_mm_h: float = 0.0) -> float:
    """°C at `local_hour` (any number wraps): T = mean + swing·cos(2π(h−14)/24), less up to 4 °C in rain.

    The sine of the day with its maximum two hours after noon is the usual first approximation (Oke 1987,
    Boundary Layer Climates, section 2); the cooling 4·tanh(i / 10 mm/h) is a plausible choice, no law.
    """
    day = mean + swing * cos(2.0 * pi * (local_hour - WARMEST_HOUR) / 24.0)
    return day - _RAIN_COOLING * tanh(rain_mm_h / 10.0)


def relative_humidity(temperature_c: float, dew_point_c: float) -> float:
    """% for a temperature and a dew point, at most 100: RH = 100·e(Td)/e(T), e(x) ∝ exp(17.625x/(243.04+x)).

    Source: the Magnus form of Alduchov & Eskridge (1996), J. Applied Meteorology 35(4).
    """
    return min(100.0, 100.0 * exp(_magnus(dew_point_c) - _magnus(temperature_c)))


def _magnus(c: float) -> float:
    return 17.625 * c / (243.04 + c)
