"""What an outfall lets go into a tidal river: it travels with the tide, spreads, decays and uses oxygen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .current import Current
from .field import Field, Place
from .rain import Array

OXYGEN_PER_NITROGEN = 4.57
"""g of oxygen that nitrifies 1 g of N. Source: Chapra (1997), Surface Water-Quality Modeling, lecture 23."""

CONDUCTIVITY_PER_SALT = 1.0 / 0.64
"""µS/cm per mg/L of dissolved salts. Source: Hem (1985), USGS Water-Supply Paper 2254: 0.55 to 0.75."""

_PUFF_H = 0.25
_DISPERSION = 3.6e-3  # km²/h in a m²/s


@dataclass(frozen=True, slots=True)
class Release:
    """kg let go evenly between two hours: ammonium as N, COD (of which a share rots), dissolved salts."""

    onset_h: float
    duration_h: float
    ammonium_kg: float = 0.0
    cod_kg: float = 0.0
    salt_kg: float = 0.0


@dataclass(frozen=True, slots=True)
class Reach:
    """A channel of constant section. Rates per day; `outfall_width_km` is a release's first spread.

    `degradable` is the share of the COD that rots (ultimate BOD), at the rate `decay`.
    """

    current: Current
    section_m2: float
    outfall_km: float
    dispersion_m2s: float = 100.0
    outfall_width_km: float = 0.2
    nitrification: float = 0.15
    decay: float = 0.25
    degradable: float = 0.6
    reaeration: float = 0.6


class Discharge:
    """Releases as Gaussian puffs of a quarter of an hour each; concentrations above the background.

    Each is C = M/(A·√(2π)·s)·exp(−(x − x₀ − ξ)²/2s²)·f(τ) at the age τ, with s² = s₀² + 2Dτ and ξ the way
    its water has gone with the current: exact for ∂C/∂t + u(t)·∂C/∂x = D·∂²C/∂x² − kC in an endless
    channel. f is e^(−kτ) for what decays at k, and for the oxygen it costs k/(kₐ − k)·(e^(−kτ) − e^(−kₐτ)).
    Source: Fischer et al. (1979), Mixing in Inland and Coastal Waters, section 2; Streeter & Phelps
    (1925), US Public Health Bulletin 146.
    """

    def __init__(self, reach: Reach, releases: Sequence[Release]) -> None:
        self._reach = reach
        puffs = [puff for release in releases for puff in _puffs(release)]
        self._times, self._nitrogen, self._cod, self._salt = np.array(puffs).reshape(-1, 4).T

    def ammonium(self, river_km: float, t_h: Array) -> Array:
        """mg/L of N."""
        return self._spread(self._nitrogen, river_km, t_h, lambda d: np.exp(-self._reach.nitrification * d))

    def cod(self, river_km: float, t_h: Array) -> Array:
        """mg/L."""
        r = self._reach
        return self._spread(self._cod, river_km, t_h, lambda d: 1.0 - r.degradable * -np.expm1(-r.decay * d))

    def conductivity(self, river_km: float, t_h: Array) -> Array:
        """µS/cm."""
        return CONDUCTIVITY_PER_SALT * self._spread(self._salt, river_km, t_h, np.ones_like)

    def oxygen_deficit(self, river_km: float, t_h: Array) -> Array:
        """mg/L of oxygen that rot and nitrification have taken and the air not yet given back."""
        r, nitrogen = self._reach, OXYGEN_PER_NITROGEN * self._nitrogen
        rot = self._spread(self._cod, river_km, t_h, lambda d: sag(d, r.decay, r.reaeration))
        used = self._spread(nitrogen, river_km, t_h, lambda d: sag(d, r.nitrification, r.reaeration))
        return r.degradable * rot + used

    def fields(self) -> tuple[Field, ...]:
        """water.ammonium, .cod, .conductivity and the (negative) part of .dissolved_oxygen, at `river_km`."""
        return (
            Field("water.ammonium", lambda place, t_h: self.ammonium(place.river_km, t_h)),
            Field("water.cod", lambda place, t_h: self.cod(place.river_km, t_h)),
            Field("water.conductivity", lambda place, t_h: self.conductivity(place.river_km, t_h)),
            Field("water.dissolved_oxygen", self._oxygen),
        )

    def _oxygen(self, place: Place, t_h: Array) -> Array:
        return -self.oxygen_deficit(place.river_km, t_h)

    def _spread(self, mass: Array, river_km: float, t_h: Array, left: Callable[[Array], Array]) -> Array:
        r = self._reach
        t = np.asarray(t_h, dtype=np.float64)[..., None]
        age = np.maximum(t - self._times, 0.0)
        way = r.current.moved(t) - r.current.moved(self._times)
        variance = r.outfall_width_km**2 + 2.0 * r.dispersion_m2s * _DISPERSION * age
        shape = np.exp((river_km - r.outfall_km - way) ** 2 / (-2.0 * variance))
        per_kg = shape / (r.section_m2 * np.sqrt(2.0 * math.pi * variance))  # 1 kg/(m²·km) is 1 mg/L
        made: Array = np.where(t > self._times, per_kg * left(age / 24.0), 0.0) @ mass
        return made


def sag(days: Array, decay: float, reaeration: float) -> Array:
    """Oxygen missing per unit of demand at the start: k/(kₐ−k)·(e^(−kt) − e^(−kₐt)); k·t·e^(−kt) if equal."""
    gap = reaeration - decay
    if abs(gap) < 1e-9:
        return decay * days * np.exp(-decay * days)
    return decay / gap * (np.exp(-decay * days) - np.exp(-reaeration * days))


def _puffs(release: Release) -> list[tuple[float, float, float, float]]:
    count = max(math.ceil(release.duration_h / _PUFF_H), 1)
    nitrogen, cod, salt = (kg / count for kg in (release.ammonium_kg, release.cod_kg, release.salt_kg))
    step_h = release.duration_h / count
    return [(release.onset_h + (i + 0.5) * step_h, nitrogen, cod, salt) for i in range(count)]
