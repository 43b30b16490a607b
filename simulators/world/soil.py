"""Soil on a slope: rain soaks in, plants drink, water seeps from layer to layer and stands on the rock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .field import Field, Series
from .rain import Array
from .series import Span, sunlight

_WATER_KN_M3 = 9.81


@dataclass(frozen=True, slots=True)
class SoilType:
    """Volume fractions of water when full, at field capacity and at wilting; conductivity in mm/h when full.

    `entry_kpa` and `b` are those of ψ = ψₑ·(θ/θₛ)^−b.
    """

    full: float
    field_capacity: float
    wilting: float
    conductivity_mm_h: float
    entry_kpa: float
    b: float


CLAY_LOAM = SoilType(0.476, 0.36, 0.20, 8.8, -6.2, 8.52)
"""Source: Clapp & Hornberger (1978), Water Resources Research 14(4), table 2; capacity and wilting ours."""


@dataclass(frozen=True, slots=True)
class Balance:
    """mm over the whole span; `stored` is what the soil holds more at the end than at the start."""

    rain: float
    runoff: float
    evaporated: float
    drained: float
    stored: float


class Soil:
    """Layers as buckets. Above field capacity each drains at K = Kₛ·(θ/θₛ)^(2b+3), if there is room below.

    Rain enters as fast as Kₛ and the room in the top layer allow, the rest runs off. The sun evaporates
    `evaporation_mm_day` from the top layer, less as it dries to wilting. The rock takes the share `leak`
    of what the lowest layer would drain. No water is made or lost (`balance`). Source: Campbell (1974),
    Soil Science 117(6), for K and ψ; the buckets after Manabe (1969), Monthly Weather Review 97(11).
    """

    def __init__(
        self,
        rain_mm_h: Series,
        span: Span,
        *,
        soil: SoilType = CLAY_LOAM,
        layers_m: Sequence[float] = (0.2, 0.3, 0.5, 1.0),
        start: float = 0.30,
        evaporation_mm_day: float = 4.0,
        leak: float = 0.02,
        slope_deg: float = 0.0,
        start_hour: float = 0.0,
    ) -> None:
        self._soil = soil
        self._bottoms = np.cumsum(layers_m)
        self._cos2 = math.cos(math.radians(slope_deg)) ** 2
        rain = np.maximum(rain_mm_h(span.middles), 0.0) * span.step_h
        drink = evaporation_mm_day * math.pi / 24.0 * sunlight(span.middles, start_hour) * span.step_h
        depths = [1000.0 * metres for metres in layers_m]
        water = [start * depth for depth in depths]
        rows = [list(water)]
        runoff = evaporated = drained = 0.0
        for fallen, thirst in zip(rain.tolist(), drink.tolist(), strict=True):
            drained += self._seep(water, depths, span.step_h, leak)
            room = soil.full * depths[0] - water[0]
            soaked = min(fallen, soil.conductivity_mm_h * span.step_h, room)
            free = max(water[0] - soil.wilting * depths[0], 0.0)
            drunk = min(thirst * free / ((soil.field_capacity - soil.wilting) * depths[0]), thirst, free)
            water[0] += soaked - drunk
            runoff += fallen - soaked
            evaporated += drunk
            rows.append(list(water))
        held = np.array(rows)
        self.balance = Balance(
            float(rain.sum()), runoff, evaporated, drained, float(held[-1].sum() - held[0].sum())
        )
        self._moisture = [span.series(column) for column in (held / depths).T]
        self._table = span.series(self._standing(held / depths, np.array(layers_m)))

    def moisture(self, depth_m: float, t_h: Array) -> Array:
        """% by volume in the layer at that depth."""
        return 100.0 * self._layer(depth_m)(t_h)

    def potential(self, depth_m: float, t_h: Array) -> Array:
        """kPa, negative: the drier, the lower."""
        return self._soil.entry_kpa * (self._layer(depth_m)(t_h) / self._soil.full) ** -self._soil.b

    def wetness(self, t_h: Array) -> Array:
        """Share of the soil's depth that water standing on the rock fills, 0 to 1."""
        return self._table(t_h) / float(self._bottoms[-1])

    def pore_pressure(self, depth_m: float, t_h: Array) -> Array:
        """kPa under the water table, with flow along the slope: γ·h·cos²β; 0 above it.

        Source: the infinite slope of Skempton & DeLory (1957), 4th Int. Conf. Soil Mechanics, volume 2.
        """
        above = self._table(t_h) - (float(self._bottoms[-1]) - depth_m)
        return _WATER_KN_M3 * self._cos2 * np.maximum(above, 0.0)

    def fields(self) -> tuple[Field, ...]:
        """soil.moisture, soil.water_potential and structure.pore_pressure, at the place's `depth_m`."""
        return (
            Field("soil.moisture", lambda place, t_h: self.moisture(place.depth_m, t_h)),
            Field("soil.water_potential", lambda place, t_h: self.potential(place.depth_m, t_h)),
            Field("structure.pore_pressure", lambda place, t_h: self.pore_pressure(place.depth_m, t_h)),
        )

    def _layer(self, depth_m: float) -> Series:
        return self._moisture[min(int(np.searchsorted(self._bottoms, depth_m)), len(self._moisture) - 1)]

    def _seep(self, water: list[float], depths: list[float], step_h: float, leak: float) -> float:
        """Let each layer drain, the lowest first; mm lost to the rock."""
        soil, lost = self._soil, 0.0
        for i in reversed(range(len(water))):
            free = max(water[i] - soil.field_capacity * depths[i], 0.0)
            share = water[i] / (soil.full * depths[i])
            out = min(soil.conductivity_mm_h * step_h * share ** (2.0 * soil.b + 3.0), free)
            if i == len(water) - 1:
                out = lost = leak * out
            else:
                out = min(out, soil.full * depths[i + 1] - water[i + 1])
                water[i + 1] += out
            water[i] -= out
        return lost

    def _standing(self, moisture: Array, layers_m: Array) -> Array:
        """m of standing water: each layer's share over field capacity, as far as those below are full."""
        drainable = self._soil.full - self._soil.field_capacity
        share = np.clip((moisture - self._soil.field_capacity) / drainable, 0.0, 1.0)[:, ::-1]
        table: Array = np.cumprod(share, axis=1) @ layers_m[::-1]
        return table
