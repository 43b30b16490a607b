"""Decentlab DL-ATM41: weather station with sun, rain, wind, air and lightning in one head.

`precipitation` (mm) and the lightning strikes are those since the message before.
"""

from __future__ import annotations

from ..decentlab import BATTERY, MIDDLE, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-atm41",
    Sensor(
        "weather",
        Word("solar_radiation", zero=MIDDLE),
        Word("precipitation", 1000, MIDDLE),
        Word("lightning_strike_count", zero=MIDDLE),
        Word("lightning_average_distance", zero=MIDDLE),
        Word("wind_speed", 100, MIDDLE),
        Word("wind_direction", 10, MIDDLE),
        Word("maximum_wind_speed", 100, MIDDLE),
        Word("air_temperature", 10, MIDDLE),
        Word("vapor_pressure", 100, MIDDLE),
        Word("atmospheric_pressure", 100, MIDDLE),
        Word("relative_humidity", 10, MIDDLE),
        Word("sensor_temperature_internal", 10, MIDDLE),
        Word("x_orientation_angle", 10, MIDDLE),
        Word("y_orientation_angle", 10, MIDDLE),
        Word("compass_heading", zero=MIDDLE),
        Word("north_wind_speed", 100, MIDDLE),
        Word("east_wind_speed", 100, MIDDLE),
    ),
    BATTERY,
)
