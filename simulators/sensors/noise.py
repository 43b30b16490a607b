"""How far off a working sensor is, by what it measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..world.rain import Array


class Noise(NamedTuple):
    """Standard deviation of single readings: `absolute` in the metric's unit, and a share of the value."""

    absolute: float
    share: float = 0.0

    def sd(self, value: Array) -> Array:
        """Of values of any shape."""
        return self.absolute + self.share * abs(value)


NOISE: Mapping[str, Noise] = {
    "water.level": Noise(0.004),
    "water.depth": Noise(0.004),
    "water.temperature": Noise(0.05),
    "water.ph": Noise(0.02),
    "water.dissolved_oxygen": Noise(0.05),
    "water.oxygen_saturation": Noise(0.6),
    "water.conductivity": Noise(1.0, 0.005),
    "water.turbidity": Noise(0.3, 0.02),
    "water.ammonium": Noise(0.02, 0.03),
    "water.cod": Noise(0.5, 0.03),
    "water.salinity": Noise(0.02, 0.005),
    "rain.total": Noise(0.0),
    "rain.interval": Noise(0.0),
    "rain.rate": Noise(0.0, 0.03),
    "air.temperature": Noise(0.1),
    "air.humidity": Noise(0.8),
    "air.pressure": Noise(0.1),
    "air.pm1": Noise(0.5, 0.05),
    "air.pm2_5": Noise(0.5, 0.05),
    "air.pm4": Noise(0.5, 0.05),
    "air.pm10": Noise(1.0, 0.05),
    "wind.speed": Noise(0.05, 0.03),
    "wind.gust": Noise(0.05, 0.03),
    "wind.direction": Noise(3.0),
    "radiation.solar": Noise(2.0, 0.02),
    "soil.moisture": Noise(0.2),
    "structure.displacement": Noise(0.1),
    "structure.pore_pressure": Noise(0.1),
    "tilt.x": Noise(0.005),
    "tilt.y": Noise(0.005),
}
"""Orders of size from data sheets of common field sensors, chosen by us; the share is of the reading."""

_USUAL = Noise(0.0, 0.01)


def noise_of(metric: str) -> Noise:
    """That of a metric; one hundredth of the reading where the table has none."""
    return NOISE.get(metric, _USUAL)
