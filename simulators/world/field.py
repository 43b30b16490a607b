"""What can be asked of a world: one quantity at a place and at any number of times."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from telemetry.catalogue import CATALOGUE

from .rain import Array

Series = Callable[[Array], Array]
"""A quantity over world hours: (t_h of any shape) → values of that shape, in any order of asking."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sensor is. Each field looks at the coordinates it needs.

    `east_km` and `north_km` count from the scenario's origin, `river_km` along its river or estuary from the
    mouth upstream, `depth_m` from the ground down.
    """

    east_km: float = 0.0
    north_km: float = 0.0
    river_km: float = 0.0
    depth_m: float = 0.0


ORIGIN = Place()


@dataclass(frozen=True, slots=True)
class Field:
    """One quantity of a world, or a part of it that `together` adds to others.

    `name` is a key of the metric catalogue, and `at(place, t_h)` gives values in that metric's unit, of the
    shape of `t_h` (world hours). ValueError for a name that the catalogue lacks.
    """

    name: str
    at: Callable[[Place, Array], Array]

    def __post_init__(self) -> None:
        if self.name not in CATALOGUE:
            raise ValueError(f"{self.name!r} is no metric of the catalogue")

    @property
    def unit(self) -> str:
        """The metric's unit, as UCUM."""
        return CATALOGUE[self.name].unit


def everywhere(name: str, series: Series) -> Field:
    """A field that is the same at all places."""
    return Field(name, lambda _, t_h: series(t_h))


def constant(value: float) -> Series:
    """The series that never changes."""
    return lambda t_h: np.full(np.shape(t_h), value)


def together(fields: Iterable[Field]) -> Mapping[str, Field]:
    """One field per quantity: parts of one name (a background, a plume, a deficit) are added up.

    A sum does not fall below the least plausible value of its metric: there is no oxygen below 0.
    """
    parts: dict[str, list[Field]] = {}
    for field in fields:
        parts.setdefault(field.name, []).append(field)
    return {name: _sum(name, found) if len(found) > 1 else found[0] for name, found in parts.items()}


def _sum(name: str, parts: list[Field]) -> Field:
    lowest = CATALOGUE[name].range[0]

    def at(place: Place, t_h: Array) -> Array:
        total: Array = np.sum([part.at(place, t_h) for part in parts], axis=0)
        return np.maximum(total, lowest)

    return Field(name, at)


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """A random stream of its own for each `key` under a seed: adding one changes no other."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.Generator(np.random.PCG64([seed, *words]))
