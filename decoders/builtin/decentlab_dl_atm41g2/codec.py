"""Decentlab DL-ATM41G2: weather station, second generation, with a counter of rain.

`precipitation` (mm) and the lightning strikes are those since the message before.
"""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-atm41g2",
    Sensor(
        "weather",
        Word("solar_radiation", 10, MIDDLE),
        Word("precipitation", 1000),
        Word("lightning_strike_count", zero=MIDDLE),
        Word("lightning_average_distance", zero=MIDDLE),
        Word("wind_speed", 100, MIDDLE),
        Word("wind_direction", 10, MIDDLE),
        Word("maximum_wind_speed", 100, MIDDLE),
        Word("air_temperature", 10, MIDDLE),
        Word("vapor_pressure", 100, MIDDLE),
        Word("barometric_pressure", 100, MIDDLE),
        Word("relative_humidity", 10, MIDDLE),
        Word("internal_temperature", 10, MIDDLE),
        Word("tilt_angle_x_orientation", 10, MIDDLE),
        Word("tilt_angle_y_orientation", 10, MIDDLE),
        Word("precipitation_electrical_conductivity", zero=MIDDLE),
        Word("cumulative_precipitation", 1000, words=2),
    ),
    BATTERY,
)
