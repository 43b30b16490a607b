"""A province that reports for a year: frames with six readings each, as numpy makes them. Pure, seeded.

The devices of stations report every ten minutes; the others every hour, for as many hours as make up the
number of readings that was asked for. Each device keeps time by its own quartz; what its gateway notes of a
frame differs by some milliseconds. Quantities move as they do outside and come at the sensor's resolution.
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
_HOURLY_STEPS = 6
_LONGEST_DAYS = 365
_SHARE = 0.63  # of the frames that the stations' year takes
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
    """How long each part of the province reports so that it comes to so many readings."""

    days: float
    hours: int

    @staticmethod
    def of(readings: int) -> Plan:
        frames = readings / len(METRICS)
        days = min(_LONGEST_DAYS, max(1.0, _SHARE * frames / (STATIONS * _STEPS_A_DAY)))
        others = frames - days * STATIONS * _STEPS_A_DAY
        hours = max(1, round(others / (DEVICES - STATIONS)))
        return Plan(days, min(hours, int(days * 24)))

    @property
    def steps(self) -> int:
        return round(self.days * _STEPS_A_DAY)

    @property
    def frames(self) -> int:
        return self.steps * STATIONS + self.hours * (DEVICES - STATIONS)


def frames(plan: Plan, end: int, seed: int = 1) -> Iterator[Frames]:
    """All of them, ten minutes at a time; the last come shortly before `end` (µs since 1970)."""
    rng = np.random.default_rng(seed)
    begin = end - plan.steps * STEP
    phase = rng.uniform(0, STEP, DEVICES)
    drift = rng.uniform(-_DRIFT, _DRIFT, DEVICES) * STEP
    mean = _MEAN + rng.normal(0, 1, (DEVICES, len(METRICS))) * _SPREAD
    walk = np.zeros((DEVICES, len(METRICS)))
    turn = np.arange(STATIONS, DEVICES) % _HOURLY_STEPS
    stations = np.arange(STATIONS)
    for step in range(plan.steps):
        hourly = plan.steps - step <= plan.hours * _HOURLY_STEPS
        sending = stations
        if hourly:
            sending = np.append(stations, STATIONS + np.flatnonzero(turn == step % _HOURLY_STEPS))
        passed = (phase[sending] + drift[sending] * step) % STEP
        times = begin + step * STEP + passed + rng.normal(0, _JITTER, len(sending))
        kicks = rng.normal(0, 1, (len(sending), len(METRICS))) * _WALK
        walk[sending] = walk[sending] * _RETURN + kicks
        day = np.sin(2 * np.pi * (step % _STEPS_A_DAY) / _STEPS_A_DAY)
        told = np.round((mean[sending] + walk[sending] + _SWING * day) / _RESOLUTION)
        order = np.argsort(times)
        value = np.round(told * _RESOLUTION, 2)[order]
        yield Frames(times[order].astype(np.int64), sending[order], value)
