"""Decentlab DL-CTD10B: the DL-CTD10's frame, with conductivity in steps of 2 µS/cm."""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-ctd10b",
    Sensor(
        "water",
        Word("water_depth", zero=MIDDLE),
        Word("temperature", 10, MIDDLE),
        Word("electrical_conductivity", 0.5),
        Word("freezing_flag", optional=True),
    ),
    BATTERY,
)
