"""A lithium cell: what a frame takes from it, and the voltage it shows."""

from __future__ import annotations

import numpy as np

from ..world.rain import Array

_CAPACITY_MAH = 4000.0
_SLEEP_MA = 0.008
_WAKE_MAS = 60.0  # measuring, and the two receive windows after a frame
_SEND_MA = 45.0  # an SX1262 at 16 dBm, a rounded figure of its data sheet (DS.SX1261-2, table 3-9)
_FULL_V = 3.65
_FLAT_V = 3.4
_EMPTY_V = 2.1


def used(airtime_s: Array, since_s: Array) -> Array:
    """The share of its charge that a frame of `airtime_s` and the sleep before it take."""
    ampere_seconds = _SEND_MA * airtime_s + _WAKE_MAS + _SLEEP_MA * since_s
    return ampere_seconds / 3600.0 / _CAPACITY_MAH


def voltage(charge: Array, celsius: Array | float = 25.0) -> Array:
    """Volts at a charge (a share of 1) and a temperature in °C.

    Almost flat over most of the charge, with a knee at its end, as Li-MnO₂ and Li-SOCl₂ cells have; 2 mV
    less for each degree below 25 °C. The shape is a plausible choice, no data sheet's curve.
    """
    left = np.clip(charge, 0.0, 1.0)
    flat = _FLAT_V + (_FULL_V - _FLAT_V) * left
    knee = (flat - _EMPTY_V) * np.exp(-left / 0.04)
    volts: Array = flat - knee - 0.002 * (25.0 - np.asarray(celsius))
    return volts
