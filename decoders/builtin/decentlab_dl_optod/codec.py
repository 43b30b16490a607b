"""Decentlab DL-OPTOD: dissolved oxygen (optical) and water temperature."""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-optod",
    Sensor(
        "oxygen",
        Word("status", optional=True),
        Word("temperature", 100, MIDDLE),
        Word("oxygen_saturation", 100, MIDDLE),
        Word("oxygen_concentration", 100, MIDDLE),
        Word("oxygen_concentration_alt", 100, MIDDLE),
    ),
    BATTERY,
)
