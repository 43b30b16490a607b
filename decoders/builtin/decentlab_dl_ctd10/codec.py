"""Decentlab DL-CTD10: depth of the water over the sensor, its temperature and conductivity."""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-ctd10",
    Sensor(
        "water",
        Word("water_depth", zero=MIDDLE),
        Word("temperature", 10, MIDDLE),
        Word("electrical_conductivity"),
        Word("freezing_flag", optional=True),
    ),
    BATTERY,
)
