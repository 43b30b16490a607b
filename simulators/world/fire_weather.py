"""Days of a dry season in the forest: heat, dryness, wind, and the moisture of what lies on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import air
from .field import Field, Series, constant, everywhere
from .rain import Array
from .series import Noise, Span

_RAIN_SOAKED = 60.0  # % that fuel tends to in rain
_KMH = 3.6


class Noon(NamedTuple):
    """What the Fire Weather Index asks of a day at noon: °C, %, km/h, and mm in the 24 hours before."""

    temperature_c: float
    humidity: float
    wind_kmh: float
    rain_mm: float


def equilibrium_moisture(celsius: Array, humidity: Array) -> Array:
    """% of dry weight that fine dead fuel comes to, by temperature and relative humidity in %.

    Source: Simard (1968), The moisture content of forest fuels I, Forest Fire Research Institute FF-X-14,
    as in Cohen & Deeming (1985), USDA PSW-82.
    """
    f, h = np.asarray(celsius) * 1.8 + 32.0, np.asarray(humidity, dtype=np.float64)
    dry = 0.03229 + 0.281073 * h - 0.000578 * h * f
    middle = 2.22749 + 0.160107 * h - 0.014784 * f
    moist = 21.0606 + 0.005565 * h**2 - 0.00035 * h * f - 0.483199 * h
    moisture: Array = np.select([h < 10.0, h < 50.0], [dry, middle], moist)
    return np.maximum(moisture, 0.0)


@dataclass(frozen=True, slots=True)
class DrySeason:
    """Mean and half range of the day's temperature, dew point, its fall per day without rain, and scatter.

    The defaults are plausible for Cát Tiên in March, no climatology. `fuel_memory_h` is the time lag of the
    fuel (1 h: litter; 10 h: twigs).
    """

    mean_c: float = 28.5
    swing_c: float = 7.0
    dew_point_c: float = 18.0
    drying_c_day: float = 0.0
    scatter_c: float = 0.8
    fuel_memory_h: float = 10.0


class FireWeather:
    """The air and the fuel of a dry season, over `span`; the air goes on beyond it, with its dew point held.

    Temperature and humidity after `air`, with red noise of two days' memory on temperature and dew point;
    the moisture m of the fuel follows dm/dt = (E − m)/τ to its equilibrium E, or to 60 % in rain (ours).
    Source of the time lag: Byram (1963), as in Fosberg (1970), Forest Science 16(1).
    """

    def __init__(
        self,
        season: DrySeason,
        span: Span,
        *,
        wind_ms: Series,
        rain_mm_h: Series | None = None,
        seed: int,
        start_hour: float = 0.0,
    ) -> None:
        self._season = season
        self._span = span
        self._wind = wind_ms
        self._rain = rain_mm_h or constant(0.0)
        self._start_hour = start_hour
        self._warmer = Noise(seed, "fire weather", "temperature", memory_h=48.0)
        self._moister = Noise(seed, "fire weather", "dew point", memory_h=48.0)
        fallen = np.cumsum(np.maximum(self._rain(span.middles), 0.0)) * span.step_h
        self._fallen = span.series(np.concatenate([[0.0], fallen]))
        self.fuel_moisture = span.follow(self._aim, season.fuel_memory_h)

    def temperature(self, t_h: Array) -> Array:
        """°C."""
        s = self._season
        hour = self._start_hour + np.asarray(t_h, dtype=np.float64)
        day = air.temperature(hour, mean=s.mean_c, swing=s.swing_c, rain_mm_h=self._rain(t_h))
        return day + s.scatter_c * self._warmer(t_h)

    def humidity(self, t_h: Array) -> Array:
        """%, 0 to 100."""
        s = self._season
        days = (np.clip(t_h, self._span.begin_h, self._span.end_h) - self._span.begin_h) / 24.0
        dew = s.dew_point_c - s.drying_c_day * days + s.scatter_c * self._moister(t_h)
        return air.relative_humidity(self.temperature(t_h), dew)

    def noon(self, day: int) -> Noon:
        """The inputs of the FWI at 12 h local time of the `day`-th day (0: the one of world hour 0)."""
        t = np.array([24.0 * day + 12.0 - self._start_hour])
        rain = self._fallen(t) - self._fallen(t - 24.0)
        values = (self.temperature(t), self.humidity(t), _KMH * self._wind(t), rain)
        return Noon(*(float(value[0]) for value in values))

    def fields(self) -> tuple[Field, ...]:
        """air.temperature, air.humidity and fire.fuel_moisture; wind and rain are fields of their own."""
        return (
            everywhere("air.temperature", self.temperature),
            everywhere("air.humidity", self.humidity),
            everywhere("fire.fuel_moisture", self.fuel_moisture),
        )

    def _aim(self, t_h: Array) -> Array:
        dry = equilibrium_moisture(self.temperature(t_h), self.humidity(t_h))
        return np.where(self._rain(t_h) > 0.0, _RAIN_SOAKED, dry)
