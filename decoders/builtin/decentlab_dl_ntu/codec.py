"""Decentlab DL-NTU: turbidity (optical) and water temperature."""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-ntu",
    Sensor(
        "turbidity",
        Word("status", optional=True),
        Word("temperature", 100, MIDDLE),
        Word("turbidity_in_ntu", 10),
        Word("turbidity_in_fnu", 10, optional=True),
        Word("turbidity_in_mg_l", 10, optional=True),
    ),
    BATTERY,
)
