"""Decentlab DL-SMTP: soil moisture and temperature at up to eight depths, 0 the uppermost."""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-smtp",
    Sensor(
        "profile",
        *(
            word
            for depth in range(8)
            for word in (
                Word(f"soil_moisture_at_depth_{depth}", 500, 2500),
                Word(f"soil_temperature_at_depth_{depth}", 100, MIDDLE),
            )
        ),
    ),
    BATTERY,
)
