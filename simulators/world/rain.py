"""Rain over a basin: storms with a triangular hyetograph, roughened by noise that keeps their depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def triangle_cdf(x: Array, peak: float) -> Array:
    """Share of a storm's depth that has fallen by the fraction `x` (any shape) of its duration.

    A triangular hyetograph with its peak at the fraction `peak` (0 < peak < 1):
    F(x) = x²/p up to the peak, 1 − (1−x)²/(1−p) after it. Source: Yen & Chow (1980), Design hyetographs
    for small drainage structures, J. Hydraulics Division ASCE 106(6).
    """
    x = np.clip(x, 0.0, 1.0)
    return np.where(x <= peak, x**2 / peak, 1.0 - (1.0 - x) ** 2 / (1.0 - peak))


def storm_depths(
    edges_h: Array,
    *,
    onset_h: float,
    duration_h: float,
    depth_mm: float,
    peak: float,
    roughness: float,
    rng: np.random.Generator,
) -> Array:
    """Rain of one storm in each time step, in mm; shape (n,) for `edges_h` of shape (n + 1,), in hours.

    The steps are those of the triangle times lognormal noise exp(N(0, `roughness`)), scaled back so that
    a storm wholly inside the edges brings exactly `depth_mm`.
    """
    fallen = triangle_cdf((edges_h - onset_h) / duration_h, peak)
    smooth = np.diff(fallen)
    inside = float(smooth.sum())
    noise = np.exp(rng.normal(0.0, roughness, smooth.shape))
    rough = smooth * noise
    total = float(rough.sum())
    if total == 0.0:
        return np.zeros_like(smooth)
    return rough * (depth_mm * inside / total)
