"""A province that reports for a year: frames with six readings each, as numpy makes them. Pure, seeded.

Two hundred stations report every ten minutes and seven hundred devices every hour, from the first day to the
last, so that the tables grow and what is written stays alike. All others are new: one frame of each at the
end. Each device keeps time by its own quartz; what its gateway notes of a frame differs by some milliseconds.
Quantities move as they do outside and come at the sensor's resolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

METRICS = (
    "water.level",
    "water.temperature",
    "air.temperature",
    "air.humidity",
    "air.pressure",
    "battery.voltage",
)
STATIONS, DEVICES, SITES = 200, 10_000, 1000
STEP = 600_000_000  # µs
_STEPS_A_DAY = 144
_HOURLY, _HOURLY_STEPS = 700, 6  # devices, and steps between two frames of one
_NEW = DEVICES - STATIONS - _HOURLY
_JITTER = 5_000.0  # µs, of a gateway's receipt
_DRIFT = 20e-6  # of a quartz, at most

# Of each metric: resolution, mean, its spread between places, daily swing, step of its random walk.
_RESOLUTION = np.array([0.01, 0.1, 0.1, 0.5, 0.1, 0.01])
_MEAN = np.array([12.0, 27.0, 27.0, 80.0, 1008.0, 3.6])
_SPREAD = np.array([8.0, 1.5, 1.5, 6.0, 2.0, 0.05])
_SWING = np.array([0.05, 0.8, 4.0, 12.0, 1.5, 0.0])
_WALK = np.array([0.004, 0.03, 0.12, 0.5, 0.06, 0.0005])
_RETURN = 0.995  # towards the mean, a step


class Frames(NamedTuple):
    """Frames in order of time: µs since 1970 and device (0 …), shape (n,); values, shape (n, 6)."""

    time: npt.NDArray[np.int64]
    device: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """For how many steps the province reports so that it comes to so many readings; a day at least."""

    steps: int

    @staticmethod
    def of(readings: int) -> Plan:
        frames = readings / len(METRICS) - _NEW
        return Plan(max(_STEPS_A_DAY, round(frames / (STATIONS + _HOURLY / _HOURLY_STEPS))))

    @property
    def frames(self) -> int:
        """Without those of new devices."""
        rounds, rest = divmod(self.steps, _HOURLY_STEPS)
        hourly = rounds * _HOURLY + np.count_nonzero(np.arange(_HOURLY) % _HOURLY_STEPS < rest)
        return int(self.steps * STATIONS + hourly)


def frames(plan: Plan, end: int, seed: int = 1) -> Iterator[Frames]:
    """All of them, ten minutes at a time, the new devices' apart; they end at `end` (µs since 1970)."""
    rng = np.random.default_rng(seed)
    begin = end - (plan.steps + 1) * STEP
    phase = rng.uniform(0, STEP, DEVICES)
    drift = rng.uniform(-_DRIFT, _DRIFT, DEVICES) * STEP
    mean = _MEAN + rng.normal(0, 1, (DEVICES, len(METRICS))) * _SPREAD
    walk = np.zeros((DEVICES, len(METRICS)))
    turn = np.arange(_HOURLY) % _HOURLY_STEPS
    stations, new = np.arange(STATIONS), np.arange(STATIONS + _HOURLY, DEVICES)
    for step in range(plan.steps + 1):
        hourly = STATIONS + np.flatnonzero(turn == step % _HOURLY_STEPS)
        sending = np.append(stations, hourly) if step < plan.steps else new
        passed = (phase[sending] + drift[sending] * step) % STEP
        times = begin + step * STEP + passed + rng.normal(0, _JITTER, len(sending))
        kicks = rng.normal(0, 1, (len(sending), len(METRICS))) * _WALK
        walk[sending] = walk[sending] * _RETURN + kicks
        day = np.sin(2 * np.pi * (step % _STEPS_A_DAY) / _STEPS_A_DAY)
        told = np.round((mean[sending] + walk[sending] + _SWING * day) / _RESOLUTION)
        order = np.argsort(times)
        value = np.round(told * _RESOLUTION, 2)[order]
        yield Frames(times[order].astype(np.int64), sending[order], value)
