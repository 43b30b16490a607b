"""Decentlab DL-PM: particulate matter (µg/m³, 1/cm³, nm), temperature, humidity and air pressure (Pa).

The particle sensor is off without its 5 V supply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from telemetry.plugin import DecodeError, Field

from ..decentlab import BATTERY, Decentlab, Sensor, Word

_COUNTS = [
    Word(f"pm{size}_number_concentration", 10, optional=True) for size in ("0_5", "1_0", "2_5", "4", "10")
]


class _Climate(NamedTuple):
    """The sensor's own formula: all words span `span` units, beginning at `low`."""

    name: str
    low: float
    span: float
    words: int = 1

    def read(self, raw: int) -> float:
        return self.span * raw / 65536 + self.low

    def write(self, fields: Mapping[str, Field]) -> int:
        value = fields.get(self.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DecodeError(f"{self.name}: a number is needed, got {value!r}")
        if not self.low <= value <= self.low + self.span:
            raise DecodeError(f"{self.name}: {value} is outside {self.low:g} to {self.low + self.span:g}")
        return min(round((value - self.low) * 65536 / self.span), 0xFFFF)


CODEC = Decentlab(
    "decentlab-dl-pm",
    BATTERY,
    Sensor(
        "particles",
        Word("pm1_0_mass_concentration", 10, optional=True),
        Word("pm2_5_mass_concentration", 10),
        Word("pm4_mass_concentration", 10, optional=True),
        Word("pm10_mass_concentration", 10),
        Word("typical_particle_size", optional=True),
        *_COUNTS,
    ),
    Sensor("climate", _Climate("air_temperature", -46.85, 175.72), _Climate("air_humidity", -6, 125)),
    Sensor("pressure", Word("barometric_pressure", 0.5)),
)
