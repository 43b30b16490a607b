"""What decoding again makes of readings: which stay, which go, which are new. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from telemetry.model import Quality
from telemetry.store.lanes import Readings, uncorrected

_SLOT = ("uplink_id", "metric_id", "channel", "time")
_VALUE = ("value", "raw")


class Difference(NamedTuple):
    """`gone` are held and have to go, `new` have to be stored; all of `CORRECTED_DTYPE`.

    A reading that keeps its value is in neither, so its flags stay what they are, whoever set them.
    """

    gone: Readings
    new: Readings

    @property
    def frames(self) -> set[int]:
        """The uplinks whose readings change, by id."""
        return {*self.gone["uplink_id"].tolist(), *self.new["uplink_id"].tolist()}

    def told(self) -> Readings:
        """What followers of the lanes are told: the new ones, and those that vanished as missing."""
        where = {slot[1:] for slot in _rows(self.new, _SLOT)}
        vanished = self.gone[np.array([slot[1:] not in where for slot in _rows(self.gone, _SLOT)], bool)]
        vanished["value"], vanished["quality"] = 0.0, int(Quality.MISSING)
        return np.concatenate([uncorrected(self.new), uncorrected(vanished)])


def compare(held: Readings, fresh: Readings) -> Difference:
    """Readings of the same frames, of `CORRECTED_DTYPE`: as they are stored, and as they ought to be."""
    was, now = _values(held), _values(fresh)
    return Difference(
        held[np.array([was[slot] != now.get(slot) for slot in _rows(held, _SLOT)], bool)],
        fresh[np.array([now[slot] != was.get(slot) for slot in _rows(fresh, _SLOT)], bool)],
    )


def _values(readings: Readings) -> dict[tuple[Any, ...], list[tuple[Any, ...]]]:
    """What each slot holds, in order: a map may give one series two values at a time."""
    found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for slot, (value, raw) in zip(_rows(readings, _SLOT), _rows(readings, _VALUE), strict=True):
        found.setdefault(slot, []).append((value, "" if raw != raw else repr(raw)))  # NaN equals nothing
    for values in found.values():
        values.sort()
    return found


def _rows(readings: Readings, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return list(zip(*(readings[name].tolist() for name in names), strict=True))
