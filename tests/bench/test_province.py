"""The province of the store's benchmark has the size it was asked for, and its frames come in order."""

from __future__ import annotations

import numpy as np
import pytest

from bench.province import DEVICES, METRICS, STATIONS, STEP, Plan, frames

_END = 1_800_000_000_000_000


@pytest.mark.parametrize("readings", [1_000_000, 10_000_000, 100_000_000])
def test_the_plan_comes_to_what_was_asked_for(readings: int) -> None:
    assert Plan.of(readings).frames * len(METRICS) == pytest.approx(readings, rel=0.06)


def test_every_device_reports_and_time_goes_on() -> None:
    plan = Plan.of(400_000)
    found = list(frames(plan, _END))
    assert sum(len(step.time) for step in found[:-1]) == plan.frames
    assert len(found[-1].time) == DEVICES - len(set(np.concatenate([step.device for step in found[:-1]])))
    assert set(np.concatenate([step.device for step in found]).tolist()) == set(range(DEVICES))
    for step in found:
        assert (np.diff(step.time) >= 0).all()
        assert step.value.shape == (len(step.time), len(METRICS))
    newest = max(int(step.time[-1]) for step in found)
    assert _END - STEP < newest < _END + STEP


def test_the_same_seed_gives_the_same_province() -> None:
    plan = Plan.of(400_000)
    one, two = (next(frames(plan, _END, seed=7)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert len(one.time) >= STATIONS
