"""Who takes part: a scenario's devices, and as many copies of them and their stations as are asked for."""

from __future__ import annotations

from dataclasses import replace
from math import cos, radians, sin, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.errors import UsageError

from .devices import DeviceSpec
from .stations import Station

COPY_BIT = 16
"""A copy's EUI is the original's with the copy's number added from this bit on."""
_WITHIN_KM = 3.0
_TURN = 137.50776  # degrees; the golden angle spreads points evenly over a disk
_KM_PER_DEGREE = 111.195


class Member(NamedTuple):
    """One device: the `copy`-th of its `spec`, 0 being the scenario's own."""

    spec: DeviceSpec
    copy: int

    @property
    def dev_eui(self) -> str:
        return f"{int(self.spec.dev_eui, 16) + (self.copy << COPY_BIT):016x}"

    @property
    def name(self) -> str:
        return f"{self.spec.name} {self.copy + 1}" if self.copy else self.spec.name

    @property
    def station(self) -> str:
        return copy_code(self.spec.station, self.copy)


def copy_code(station: str, copy: int) -> str:
    """The code of a station's copy."""
    return f"{station}-{copy + 1}" if copy else station


def copied(station: Station, copy: int, copies: int) -> Station:
    """A station's copy: the same levels, at a place of its own within 3 km."""
    if not copy:
        return station
    km, angle = _WITHIN_KM * sqrt(copy / copies), radians(_TURN * copy)
    return replace(
        station,
        code=copy_code(station.code, copy),
        name=f"{station.name} {copy + 1}",
        name_en=f"{station.name_en} {copy + 1}",
        latitude=station.latitude + km * cos(angle) / _KM_PER_DEGREE,
        longitude=station.longitude + km * sin(angle) / (_KM_PER_DEGREE * cos(radians(station.latitude))),
    )


def euis(specs: tuple[DeviceSpec, ...], size: int) -> NDArray[np.uint64]:
    """The EUIs of `size` members, as numbers (n,).

    Raises:
        UsageError: two would be the same.
    """
    number = np.arange(size, dtype=np.uint64)
    own = np.array([int(spec.dev_eui, 16) for spec in specs], dtype=np.uint64)
    count = np.uint64(len(specs))
    found: NDArray[np.uint64] = own[number % count] + ((number // count) << np.uint64(COPY_BIT))
    if len(np.unique(found)) < size:
        raise UsageError(
            f"devices: the EUIs of {size:,} copies would overlap; let those of the scenario's own devices "
            "differ in their last four digits alone"
        )
    return found
