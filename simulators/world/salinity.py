"""Salt water that comes up an estuary when the river is low and the tide is high."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .current import Current
from .field import Field, Place, Series
from .rain import Array

_LEAST_FLOW_M3S = 1.0


def conductivity(salinity: Array) -> Array:
    """µS/cm at 25 °C of diluted sea water of so many g/L: 2005·S^0.92.

    A fit of ours to the Practical Salinity Scale (UNESCO 1981, Technical Papers in Marine Science 37),
    within 5 % from 0.5 to 35 g/L.
    """
    return 2005.0 * np.maximum(salinity, 0.0) ** 0.92


@dataclass(frozen=True, slots=True)
class Estuary:
    """S = S₀·(D/D₀)^(1/K) with D/D₀ = 1 − β·(e^(x/a) − 1) and β = K·a·Q/(D₀·A₀), carried by the tide.

    x from the mouth, A₀ its section, which narrows as e^(−x/a); D₀ = `dispersion_m2s` at `usual_flow_m3s`,
    growing with √Q; K is van der Burgh's. It holds on the tide's mean; the tide shifts it by the way its
    water has gone (`Current.swung`). The balance is that of a steady flow, reached after days or weeks: hand
    in a `flow` (m³/s) that has been slowed (`Span.follow`). Source: Savenije (1993), J. Hydrology 148;
    Savenije (2012), Salinity and Tides in Alluvial Estuaries; for the Mekong, Nguyen & Savenije (2006), HESS
    10. The defaults are plausible for one branch of the Mekong, and no survey.
    """

    flow: Series
    current: Current
    sea_g_l: float = 32.0
    river_g_l: float = 0.05
    convergence_km: float = 100.0
    mouth_m2: float = 15_000.0
    burgh: float = 0.5
    dispersion_m2s: float = 600.0
    usual_flow_m3s: float = 400.0

    def salinity(self, river_km: float, t_h: Array) -> Array:
        """g/L: the sea's beyond the mouth, the river's beyond the intrusion."""
        x = np.maximum(river_km - self.current.swung(t_h), 0.0)
        left = 1.0 - self._beta(t_h) * np.expm1(x / self.convergence_km)
        salt = self.sea_g_l * np.maximum(left, 0.0) ** (1.0 / self.burgh)
        return np.maximum(salt, self.river_g_l)

    def reach(self, g_l: float, t_h: Array) -> Array:
        """km from the mouth to which water of that salinity comes: 4 g/L by Vietnamese usage. At least 0.

        Source of the 4: QĐ 18/2021/QĐ-TTg, article 5.
        """
        left: Array = (1.0 - (g_l / self.sea_g_l) ** self.burgh) / self._beta(t_h)
        reach: Array = self.convergence_km * np.log1p(left) + self.current.swung(t_h)
        return np.maximum(reach, 0.0)

    def fields(self) -> tuple[Field, ...]:
        """water.salinity, and what the salt adds to water.conductivity, at the place's `river_km`."""
        return Field("water.salinity", self._salinity), Field("water.conductivity", self._conductivity)

    def _salinity(self, place: Place, t_h: Array) -> Array:
        return self.salinity(place.river_km, t_h)

    def _conductivity(self, place: Place, t_h: Array) -> Array:
        return conductivity(self.salinity(place.river_km, t_h) - self.river_g_l)

    def _beta(self, t_h: Array) -> Array:
        flow = np.maximum(self.flow(t_h), _LEAST_FLOW_M3S)
        dispersion = self.dispersion_m2s * np.sqrt(flow / self.usual_flow_m3s)
        return self.burgh * 1000.0 * self.convergence_km * flow / (dispersion * self.mouth_m2)
