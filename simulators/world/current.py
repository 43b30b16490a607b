"""The current of a tidal river: how fast its water moves, and how far it has been carried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rain import Array
from .tide import SPEEDS

_KMH = 3.6  # km/h in a m/s


@dataclass(frozen=True, slots=True)
class Current:
    """u(t) = −`seaward_ms` + Σ U·cos(ωt − g), m/s, positive upstream (flood), the same along the reach.

    `harmonics`: (constituent, speed in m/s, phase in degrees). Source of the speeds ω: `tide.SPEEDS`; a
    current without length of wave holds while the reach is short against the tide's (hundreds of km).
    """

    seaward_ms: float
    harmonics: tuple[tuple[str, float, float], ...] = ()

    def speed(self, t_h: Array) -> Array:
        """m/s, positive upstream."""
        tide = (u * np.cos(np.radians(SPEEDS[name] * t_h - g)) for name, u, g in self.harmonics)
        return sum(tide, np.full(np.shape(t_h), -self.seaward_ms))

    def moved(self, t_h: Array) -> Array:
        """km upstream since hour 0, the integral of `speed`."""
        return -self.seaward_ms * _KMH * np.asarray(t_h) + self.swung(t_h) - self.swung(np.zeros(()))

    def swung(self, t_h: Array) -> Array:
        """km that the tide alone has carried the water off its mean place: Σ U/ω·sin(ωt − g)."""
        t_h = np.asarray(t_h, dtype=np.float64)
        swings = (
            u * _KMH / np.radians(SPEEDS[name]) * np.sin(np.radians(SPEEDS[name] * t_h - g))
            for name, u, g in self.harmonics
        )
        return sum(swings, np.zeros(t_h.shape))
