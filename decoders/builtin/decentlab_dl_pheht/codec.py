"""Decentlab DL-PHEHT: pH, redox potential and water temperature."""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-pheht",
    Sensor(
        "ph",
        Word("status", optional=True),
        Word("temperature", 100, MIDDLE),
        Word("ph", 100, MIDDLE),
        Word("redox", 10, MIDDLE),
        Word("ph_mv", 10, MIDDLE),
    ),
    BATTERY,
)
