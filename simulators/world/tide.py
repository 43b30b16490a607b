"""Astronomical tide as a sum of harmonic constituents."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .rain import Array

SPEEDS = {"M2": 28.9841042, "S2": 30.0, "N2": 28.4397295, "K1": 15.0410686, "O1": 13.9430356}
"""Degrees per hour. Source: Schureman (1958), Manual of Harmonic Analysis, C&GS Spec. Publ. 98."""


def tide(t_h: Array, constituents: Iterable[tuple[str, float, float]]) -> Array:
    """Height in m above the mean at `t_h` hours: η = Σ A·cos(ω·t − g), for (name, A in m, g in degrees)."""
    heights = (a * np.cos(np.radians(SPEEDS[name] * t_h - g)) for name, a, g in constituents)
    return sum(heights, np.zeros(np.shape(t_h)))
