"""The readings of many frames gathered column by column, so that numpy builds their rows. Pure."""

from __future__ import annotations

import numpy as np

from telemetry.clock import SECOND, micros
from telemetry.store.lanes import READING_DTYPE, Readings

from .directory import Directory
from .pipeline import Decoded


class Columns:
    """Collects values frame by frame; `array` lays them out, corrected and flagged.

    `logging` are the devices that tell of earlier times, `counters` those of `Decoded`.
    """

    def __init__(self, directory: Directory) -> None:
        self._ids = directory.metric_ids
        self._correct = directory.corrections
        self._flags = directory.flags
        self._frames: list[tuple[int, int, int, int]] = []
        self._metrics: list[int] = []
        self._channels: list[int] = []
        self._values: list[float] = []
        self.logging: set[int] = set()
        self.counters: set[str] = set()

    def add(self, time: int, uplink_id: int, device_id: int, decoded: Decoded) -> None:
        """The values of one frame, and those it tells of earlier times; `time` in µs since 1970."""
        ids, before = self._ids, len(self._values)
        for value in decoded.values:
            self._metrics.append(ids[value.metric])
            self._channels.append(value.channel)
            self._values.append(value.value)
        self._frames.append((time, uplink_id, device_id, len(self._values) - before))
        if decoded.logged:
            self.logging.add(device_id)
        if decoded.counters:
            self.counters.update(decoded.counters)
        for one in decoded.logged:
            self._metrics.append(ids[one.metric])
            self._channels.append(one.channel)
            self._values.append(one.value)
            self._frames.append((micros(one.time), uplink_id, device_id, 1))

    def array(self) -> Readings:
        """All of them, of `READING_DTYPE`, or `CORRECTED_DTYPE` where a calibration holds; at whole seconds.

        Raises:
            OverflowError: a channel that its column cannot hold.
        """
        readings = np.empty(len(self._values), READING_DTYPE)
        readings["metric_id"], readings["channel"] = self._metrics, self._channels
        readings["value"] = self._values
        frames = np.array(self._frames, np.int64).reshape(-1, 4)
        for name, column in zip(("time", "uplink_id", "device_id"), frames.T, strict=False):
            readings[name] = np.repeat(column, frames[:, 3])
        readings["time"] -= readings["time"] % SECOND
        corrected = self._correct(readings)
        corrected["quality"] = self._flags(corrected)
        return corrected
