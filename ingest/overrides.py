"""People's words on readings, applied to a whole batch at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from telemetry.store.flags import Flags
from telemetry.store.lanes import Readings
from telemetry.store.overrides import Override

_SERIES = ("device_id", "metric_id", "channel")
_NONE = 0


class Overrides:
    """Which flag people gave to readings of which series and time; the newest word holds."""

    def __init__(self, told: Iterable[Override] = ()) -> None:
        """`told` come oldest first."""
        self._of: dict[int, list[Override]] = {}
        for one in told:
            number = one.device_id << 32 | one.metric_id << 16 | one.channel
            self._of.setdefault(number, []).append(one)
        self._known = np.array(list(self._of), np.int64)

    def __bool__(self) -> bool:
        return bool(self._of)

    def __call__(self, readings: Readings) -> Flags:
        """The flag a person gave to each reading, shape (n,); 0 where nobody did."""
        said = np.full(len(readings), _NONE, np.int16)
        device, metric, channel = (readings[name].astype(np.int64) for name in _SERIES)
        series = device << 32 | metric << 16 | channel
        rows = np.flatnonzero(np.isin(series, self._known))
        for number in np.unique(series[rows]).tolist():
            some = rows[series[rows] == number]
            time = readings["time"][some]
            for one in self._of[number]:
                said[some[(one.first <= time) & (time < one.end)]] = one.quality
        return said
