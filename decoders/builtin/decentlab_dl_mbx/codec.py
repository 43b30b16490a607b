"""Decentlab DL-MBX: ultrasonic distance to water, or snow."""

from __future__ import annotations

from ..decentlab import BATTERY, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-mbx",
    Sensor("distance", Word("distance"), Word("number_of_valid_samples", optional=True)),
    BATTERY,
)
