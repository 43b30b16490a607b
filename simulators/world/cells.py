"""Monsoon rain as cells that are born, drift with the wind and die."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .field import ORIGIN, Field, Place, generator
from .rain import Array
from .series import Span

_SHAPE = 4.0  # of the gamma that radii, lives and depths are drawn from: a coefficient of variation of 1/2


@dataclass(frozen=True, slots=True)
class Spell:
    """A time in which cells are born, evenly over a disk: `births_per_h` on the whole of it, on average.

    Each has a radius (standard deviation) of `radius_km`, lives `life_h` and brings `depth_mm` at its
    moving centre, all three means of gamma distributions; it drifts to the east and north in km/h.
    """

    onset_h: float
    duration_h: float
    births_per_h: float
    depth_mm: float
    radius_km: float = 5.0
    life_h: float = 1.5
    drift_east_kmh: float = 15.0
    drift_north_kmh: float = 10.0
    around: Place = ORIGIN
    within_km: float = 60.0


class Cell(NamedTuple):
    """Born at a time and place; `peak_mm_h` is the rain at its centre in the middle of its life."""

    born_h: float
    east_km: float
    north_km: float
    radius_km: float
    life_h: float
    peak_mm_h: float
    drift_east_kmh: float
    drift_north_kmh: float

    @property
    def volume_mm_km2(self) -> float:
        """All the rain it brings: ∫∫∫ i dx dy dt = π·σ²·i₀·L."""
        return math.pi * self.radius_km**2 * self.peak_mm_h * self.life_h


def born(spells: Sequence[Spell], *, seed: int) -> tuple[Cell, ...]:
    """The cells of all spells: Poisson in time and place, each spell from a random stream of its own."""
    streams = (generator(seed, "cells", index) for index in range(len(spells)))
    return tuple(cell for spell, rng in zip(spells, streams, strict=True) for cell in _cells(spell, rng))


class RainCells:
    """Rain of cells: i(x, t) = Σ i₀·sin²(π·a/L)·exp(−|x − x₀ − v·a|²/2σ²) over cells of age 0 ≤ a ≤ L.

    Source: the Gaussian drifting cells of Waymire, Gupta & Rodríguez-Iturbe (1984), Water Resources
    Research 20(10); the sin² life cycle in place of their exponential decay is ours: it grows as well as
    fades, and ends. Totals are counted over `span`, before which nothing fell.
    """

    def __init__(self, cells: Sequence[Cell], span: Span) -> None:
        self._columns = np.array(cells, dtype=np.float64).reshape(-1, len(Cell._fields)).T
        self._span = span
        self._sums = functools.cache(self._summed)

    def rate(self, east_km: Array, north_km: Array, t_h: Array) -> Array:
        """mm/h at places (p,) and times (t,): shape (p, t)."""
        east, north = (np.asarray(axis, dtype=np.float64)[:, None] for axis in (east_km, north_km))
        times = np.asarray(t_h, dtype=np.float64)
        births, east_0, north_0, radius, life, peak, drift_e, drift_n = self._columns
        age = times[:, None] - births
        when, cell = np.nonzero((age > 0.0) & (age < life))
        out = np.zeros((len(east), len(times)))
        if len(when):
            a = age[when, cell]
            dx = east - (east_0[cell] + drift_e[cell] * a)
            dy = north - (north_0[cell] + drift_n[cell] * a)
            centre = peak[cell] * np.sin(math.pi * a / life[cell]) ** 2
            each = centre * np.exp((dx**2 + dy**2) / (-2.0 * radius[cell] ** 2))
            starts = np.flatnonzero(np.diff(when, prepend=-1))
            out[:, when[starts]] = np.add.reduceat(each, starts, axis=1)
        return out

    def mean_rate(self, centre: Place, radius_km: float, t_h: Array, *, rings: int = 12) -> Array:
        """mm/h on average over a disk, shape (t,): Gauss–Legendre in r² times evenly spaced angles.

        `rings` must grow with the disk's radius over a cell's: 12 are good to 1 % up to about 6.
        """
        nodes, weights = np.polynomial.legendre.leggauss(rings)
        r = radius_km * np.sqrt((nodes + 1.0) / 2.0)
        angles = 2.0 * math.pi * (np.arange(2 * rings) + 0.5) / (2 * rings)
        east = centre.east_km + np.outer(r, np.cos(angles)).ravel()
        north = centre.north_km + np.outer(r, np.sin(angles)).ravel()
        share = np.repeat(weights / 2.0, 2 * rings) / (2 * rings)
        mean: Array = share @ self.rate(east, north, t_h)
        return mean

    def depths(self, centre: Place, radius_km: float, *, rings: int = 12) -> Array:
        """mm on average over a disk in each step of the span, shape (n,): as `river.runoff` takes it."""
        return self.mean_rate(centre, radius_km, self._span.middles, rings=rings) * self._span.step_h

    def total(self, place: Place, t_h: Array) -> Array:
        """mm fallen at a place since the span began; never falls."""
        return np.interp(t_h, self._span.edges, self._sums(place.east_km, place.north_km))

    def fields(self) -> tuple[Field, ...]:
        """rain.rate and rain.total."""
        return Field("rain.rate", self._at), Field("rain.total", self.total)

    def _at(self, place: Place, t_h: Array) -> Array:
        times = np.asarray(t_h, dtype=np.float64)
        east, north = np.array([place.east_km]), np.array([place.north_km])
        rates: Array = self.rate(east, north, times.ravel())[0].reshape(times.shape)
        return rates

    def _summed(self, east_km: float, north_km: float) -> Array:
        rates = self.rate(np.array([east_km]), np.array([north_km]), self._span.middles)[0]
        return np.concatenate([[0.0], np.cumsum(rates * self._span.step_h)])


def _cells(spell: Spell, rng: np.random.Generator) -> list[Cell]:
    count = int(rng.poisson(spell.births_per_h * spell.duration_h))
    times = np.sort(spell.onset_h + spell.duration_h * rng.random(count))
    r = spell.within_km * np.sqrt(rng.random(count))
    angle = 2.0 * math.pi * rng.random(count)
    means = spell.radius_km, spell.life_h, spell.depth_mm
    radius, life, depth = (mean * rng.gamma(_SHAPE, 1.0 / _SHAPE, count) for mean in means)
    east, north = spell.around.east_km + r * np.cos(angle), spell.around.north_km + r * np.sin(angle)
    drift = (np.full(count, kmh) for kmh in (spell.drift_east_kmh, spell.drift_north_kmh))
    columns = (times, east, north, radius, life, 2.0 * depth / life, *drift)
    return [Cell(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
