"""The readings of many frames gathered column by column, so that numpy builds their rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from decoders.normalise import Value
from telemetry.store.lanes import READING_DTYPE, Readings

from .directory import Directory


class Columns:
    """Collects values frame by frame; `array` flags them and lays them out."""

    def __init__(self, directory: Directory) -> None:
        self._ids = directory.metric_ids
        self._gross_range = directory.gross_range
        self._frames: list[tuple[int, int, int, int]] = []
        self._metrics: list[int] = []
        self._channels: list[int] = []
        self._values: list[float] = []

    def add(self, time: int, uplink_id: int, device_id: int, values: Iterable[Value]) -> None:
        """The values of one frame; `time` in µs since 1970."""
        ids, before = self._ids, len(self._values)
        for value in values:
            self._metrics.append(ids[value.metric])
            self._channels.append(value.channel)
            self._values.append(value.value)
        self._frames.append((time, uplink_id, device_id, len(self._values) - before))

    def array(self) -> Readings:
        """All of them, of `READING_DTYPE`.

        Raises:
            OverflowError: a channel that its column cannot hold.
        """
        readings = np.empty(len(self._values), READING_DTYPE)
        readings["metric_id"], readings["channel"] = self._metrics, self._channels
        readings["value"] = self._values
        frames = np.array(self._frames, np.int64).reshape(-1, 4)
        for name, column in zip(("time", "uplink_id", "device_id"), frames.T, strict=False):
            readings[name] = np.repeat(column, frames[:, 3])
        readings["quality"] = self._gross_range(readings["metric_id"], readings["value"])
        return readings
