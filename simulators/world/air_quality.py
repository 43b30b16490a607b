"""A city's air: traffic into a box that the day lifts, the wind airs and the rain washes; regional haze."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from .field import Field, Series, constant, everywhere
from .rain import Array
from .series import day_angle, local_hour

PER_PPB = {"air.o3": 1.963, "air.no2": 1.881}
"""µg/m³ in a ppb at 25 °C and 1013 hPa: molar mass over 24.47 L."""

_LEAST_WIND_MS = 0.5
_PEAKS = ((7.5, 1.25, 1.6), (17.75, 1.75, 1.6))  # hour, width in h, height over the night's share
_NIGHT = 0.4
_MEAN = _NIGHT + sum(height * width * math.sqrt(2.0 * math.pi) / 24.0 for _, width, height in _PEAKS)


@dataclass(frozen=True, slots=True)
class Pollutant:
    """Mean emission in µg/(m²·s), concentration outside in µg/m³, what haze brings of it per µg of PM2.5.

    `washed` is its share of `washout`: fine particles slip between drops that catch the coarse. What is
    `within` it, the finer particles, comes on top.
    """

    emission: float
    outside: float
    in_haze: float = 0.0
    washed: float = 0.0
    within: str | None = None


USUAL: Mapping[str, Pollutant] = MappingProxyType(
    {
        "air.pm1": Pollutant(0.25, 10.0, in_haze=0.8, washed=0.25),
        "air.pm2_5": Pollutant(0.35, 14.0, in_haze=1.0, washed=0.25),
        "air.pm4": Pollutant(0.12, 4.0, in_haze=0.08, washed=0.6, within="air.pm2_5"),
        "air.pm10": Pollutant(0.23, 8.0, in_haze=0.17, washed=0.9, within="air.pm4"),
        "air.no2": Pollutant(0.40, 6.0),
        "air.co": Pollutant(12.0, 250.0, in_haze=10.0),
    }
)
"""Plausible for a big city of the south: chosen to give its usual daily means, not an inventory."""


@dataclass(frozen=True, slots=True)
class Haze:
    """Smoke from far away, in µg/m³ of PM2.5: rises within `ramp_h`, stays, and goes as it came."""

    onset_h: float
    duration_h: float
    pm2_5: float
    ramp_h: float = 8.0

    def __call__(self, t_h: Array) -> Array:
        """µg/m³ at world hours."""
        t = np.asarray(t_h, dtype=np.float64)
        up = np.clip((t - self.onset_h) / self.ramp_h, 0.0, 1.0)
        down = np.clip((self.onset_h + self.duration_h - t) / self.ramp_h, 0.0, 1.0)
        share = np.minimum(up, down)
        return self.pm2_5 * share**2 * (3.0 - 2.0 * share)


def traffic(t_h: Array, start_hour: float = 0.0) -> Array:
    """Share of the mean emission: Gaussian peaks at 7:30 and 17:45, daily mean 1. Ours, no count."""
    hour = local_hour(t_h, start_hour)
    share = np.full(hour.shape, _NIGHT)
    for at, width, height in _PEAKS:
        away = np.abs(hour - at)
        share += height * np.exp(np.minimum(away, 24.0 - away) ** 2 / (-2.0 * width**2))
    return share / _MEAN


def washout(rain_mm_h: Array) -> Array:
    """Share of the particles that rain takes in a second: Λ = 8.4e−5·R^0.79. Source: Sportisse (2007),
    A review of parameterizations for modelling dry deposition and scavenging, Atmospheric Environment 41(13).
    """
    return 8.4e-5 * np.maximum(rain_mm_h, 0.0) ** 0.79


@dataclass(frozen=True, slots=True)
class City:
    """C = (q/H + a·C₀)/(a + Λ): a well-mixed box in balance, aired at a = u/`box_km`, washed at Λ.

    q is the emission of the hour, H the mixing height, C₀ the air outside with its haze; all in balance at
    once, though a box of 20 km takes two to four hours. Source: Lettau (1970) and Hanna (1971), as in
    Seinfeld & Pandis (2016), Atmospheric Chemistry and Physics, section 25.
    """

    wind_ms: Series
    rain_mm_h: Series = field(default=constant(0.0))
    haze: Series = field(default=constant(0.0))
    pollutants: Mapping[str, Pollutant] = field(default_factory=lambda: USUAL)
    box_km: float = 20.0
    night_m: float = 220.0
    day_m: float = 1500.0
    ozone_ppb: float = 28.0
    photochemical_ppb: float = 30.0
    start_hour: float = 0.0

    def mixing_height(self, t_h: Array) -> Array:
        """m: `night_m` under the nocturnal inversion, half a sine from 7 to 19 h up to `day_m`.

        Source: the shape of Stull (1988), Boundary Layer Meteorology, figure 1.7; the sine is ours.
        """
        day = np.maximum(np.cos(day_angle(t_h, start_hour=self.start_hour, peak_hour=13.0)), 0.0)
        return self.night_m + (self.day_m - self.night_m) * day

    def concentration(self, name: str, t_h: Array) -> Array:
        """µg/m³ of one of `pollutants`."""
        p = self.pollutants[name]
        aired = np.maximum(self.wind_ms(t_h), _LEAST_WIND_MS) / (1000.0 * self.box_km)
        lost = p.washed * washout(self.rain_mm_h(t_h))
        emitted = p.emission * traffic(t_h, self.start_hour) / self.mixing_height(t_h)
        outside = p.outside + p.in_haze * self.haze(t_h)
        own = (emitted + aired * outside) / (aired + lost)
        return own if p.within is None else own + self.concentration(p.within, t_h)

    def ozone(self, t_h: Array) -> Array:
        """µg/m³: what NO₂ leaves of the oxidant, O₃ = Oₓ − NO₂ in ppb, with Oₓ risen by the sun to 14 h.

        Source: Clapp & Jenkin (2001), Atmospheric Environment 35(36).
        """
        sun = np.maximum(np.cos(day_angle(t_h, start_hour=self.start_hour, peak_hour=14.0)), 0.0)
        oxidant = self.ozone_ppb + self.photochemical_ppb * sun
        no2 = self.concentration("air.no2", t_h) / PER_PPB["air.no2"]
        return PER_PPB["air.o3"] * np.maximum(oxidant - no2, 1.0)

    def fields(self) -> tuple[Field, ...]:
        """The pollutants, and air.o3."""
        return (*(self._field(name) for name in self.pollutants), everywhere("air.o3", self.ozone))

    def _field(self, name: str) -> Field:
        return everywhere(name, lambda t_h: self.concentration(name, t_h))
