"""Sensors that fail: what one says instead of what it measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..truths import FaultSpec
from ..world.rain import Array

_SPIKES = 0.1  # of a spiking sensor's readings


def distorted(
    fault: FaultSpec, values: Array, at_h: Array, deviation: Array, begin: Callable[[], float], luck: Array
) -> Array:
    """`values` (n,) of the faulty sensor at world hours `at_h`, all within the fault's time.

    `deviation` (n,) is how far each is off by noise, `begin` the truth when the fault began, and `luck`
    (n,) evenly random between 0 and 1.
    """
    amount = fault.amount or 0.0
    if fault.kind == "stuck":
        return np.full_like(values, begin())
    if fault.kind == "bias":
        return values + amount
    if fault.kind == "drift":
        return values + amount * (at_h - fault.begins_h) / 24.0
    if fault.kind == "noise":
        return values + (amount - 1.0) * deviation
    assert fault.kind == "spike"
    return values + np.where(luck < _SPIKES, amount, 0.0)
