"""Smoke of a fire, drifting with the wind and spreading as the air's stability lets it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .field import ORIGIN, Field, Place, Series
from .rain import Array
from .series import sunlight

SMOKE_G_PER_KG: Mapping[str, float] = MappingProxyType(
    {"air.pm1": 7.7, "air.pm2_5": 9.1, "air.pm4": 11.0, "air.pm10": 18.5, "air.co": 93.0}
)
"""From a kg of dry tropical forest. Source: Akagi et al. (2011), Atmos. Chemistry and Physics 11, table 1;
PM1 is 85 % of PM2.5 (Reid et al. 2005, ibid. 5: 80 to 90 %), PM4 is ours."""

# Per class A..F: σy = a·x/√(1+0.0001x) and σz = b·x·(1+c·x)^d, x and σ in m.
_A = np.array([0.22, 0.16, 0.11, 0.08, 0.06, 0.04])
_B = np.array([0.20, 0.12, 0.08, 0.06, 0.03, 0.016])
_C = np.array([0.0, 0.0, 0.0002, 0.0015, 0.0003, 0.0003])
_D = np.array([0.0, 0.0, -0.5, -0.5, -1.0, -1.0])
_LEAST_WIND_MS = 0.5
_STRONG, _SLIGHT = 0.7, 0.35  # shares of the noon sun


def stability(wind_ms: Array, sun: Array) -> Array:
    """Pasquill's class, A = 0 to F = 5, by wind at 10 m and share of the noon sun (0: clear night).

    Source: Pasquill (1961), The Meteorological Magazine 90, the less stable where two classes stand.
    """
    u = np.asarray(wind_ms, dtype=np.float64)
    strong = np.select([u < 3.0, u < 5.0], [0, 1], 2)
    moderate = np.select([u < 2.0, u < 5.0, u < 6.0], [0, 1, 2], 3)
    slight = np.select([u < 2.0, u < 5.0], [1, 2], 3)
    night = np.select([u < 3.0, u < 5.0], [5, 4], 3)
    return np.select([sun > _STRONG, sun > _SLIGHT, sun > 0.0], [strong, moderate, slight], night)


def spread(downwind_m: Array, classes: Array) -> tuple[Array, Array]:
    """σy and σz in m, for open country and 0.1 to 10 km. Source: Briggs (1973), ATDL Contribution 79."""
    x = np.asarray(downwind_m, dtype=np.float64)
    a, b, c, d = _A[classes], _B[classes], _C[classes], _D[classes]
    return a * x / np.sqrt(1.0 + 0.0001 * x), b * x * (1.0 + c * x) ** d


def gaussian(
    downwind_m: Array,
    crosswind_m: Array,
    up_m: Array,
    *,
    wind_ms: Array,
    classes: Array,
    height_m: float,
    lid_m: Array,
) -> Array:
    """g/m³ per g/s let go at `height_m`, reflected by the ground; 0 upwind.

    C = 1/(2π·u·σy·σz)·exp(−y²/2σy²)·(exp(−(z−h)²/2σz²) + exp(−(z+h)²/2σz²)), with σz at most 0.8 of the
    lid, where the smoke fills the layer evenly. Source: Turner (1970), Workbook of Atmospheric Dispersion
    Estimates, US EPA AP-26.
    """
    near = np.maximum(downwind_m, 1.0)
    sy, sz = spread(near, classes)
    sz = np.minimum(sz, 0.8 * lid_m)
    across = np.exp(crosswind_m**2 / (-2.0 * sy**2))
    narrow = -2.0 * sz**2
    upright = np.exp((up_m - height_m) ** 2 / narrow) + np.exp((up_m + height_m) ** 2 / narrow)
    dilution = 2.0 * math.pi * np.maximum(wind_ms, _LEAST_WIND_MS) * sy * sz
    return np.where(downwind_m >= 1.0, across * upright / dilution, 0.0)


@dataclass(frozen=True, slots=True)
class Fire:
    """Burns `peak_kg_s` of dry fuel at its height, b·sin²(π·(t−onset)/duration), half of that on average.

    Its smoke leaves from `height_m` above the ground. The plume stands in balance with the wind of the
    hour at once. `wind_from` in degrees; `lid_m`: the mixing height, as `City.mixing_height`.
    """

    wind_ms: Series
    wind_from: Series
    lid_m: Series
    onset_h: float
    duration_h: float
    peak_kg_s: float
    place: Place = ORIGIN
    height_m: float = 100.0
    start_hour: float = 0.0

    def burning(self, t_h: Array) -> Array:
        """kg/s."""
        share = np.clip((np.asarray(t_h) - self.onset_h) / self.duration_h, 0.0, 1.0)
        return self.peak_kg_s * np.sin(math.pi * share) ** 2

    def dilution(self, place: Place, t_h: Array) -> Array:
        """g/m³ at the ground per g/s let go."""
        to = np.radians(self.wind_from(t_h) + 180.0)
        east = 1000.0 * (place.east_km - self.place.east_km)
        north = 1000.0 * (place.north_km - self.place.north_km)
        wind = self.wind_ms(t_h)
        return gaussian(
            east * np.sin(to) + north * np.cos(to),
            east * np.cos(to) - north * np.sin(to),
            np.zeros(np.shape(t_h)),
            wind_ms=wind,
            classes=stability(wind, sunlight(t_h, self.start_hour)),
            height_m=self.height_m,
            lid_m=self.lid_m(t_h),
        )

    def fields(self) -> tuple[Field, ...]:
        """What the smoke adds to air.pm1, .pm2_5, .pm4, .pm10 and .co, in µg/m³."""
        return tuple(self._field(name, 1e6 * factor) for name, factor in SMOKE_G_PER_KG.items())

    def _field(self, name: str, ug_per_kg: float) -> Field:
        return Field(name, lambda place, t_h: ug_per_kg * self.burning(t_h) * self.dilution(place, t_h))
