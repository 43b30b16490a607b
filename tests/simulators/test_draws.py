"""Draws: evenly and normally spread, independent of each other and of the order of asking."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.draws import keys, normal, pairs, uniform

KEYS = keys(1, np.arange(2000, dtype=np.uint64))
NUMBERS = np.arange(50)


def test_a_draw_depends_on_its_name_alone() -> None:
    all_ = uniform(KEYS[:, None], NUMBERS[None, :], "noise")
    assert uniform(KEYS[7:8], np.array([9]), "noise")[0] == all_[7, 9]
    assert (uniform(keys(2, np.array([7], dtype=np.uint64)), 9, "noise") != all_[7, 9]).all()
    assert len(np.unique(all_)) == all_.size
    assert uniform(KEYS[:1], -3, "noise")[0] != all_[0, 3]


def test_uniform_and_normal() -> None:
    even = uniform(KEYS[:, None], NUMBERS[None, :], "noise")
    counts, _ = np.histogram(even, bins=20, range=(0.0, 1.0))
    assert counts.min() > 0.94 * even.size / 20
    assert counts.max() < 1.06 * even.size / 20
    deviates = normal(KEYS[:, None], NUMBERS[None, :], "noise")
    assert abs(deviates.mean()) < 0.01
    assert deviates.std() == pytest.approx(1.0, abs=0.01)
    assert (np.abs(deviates) < 2.0).mean() == pytest.approx(0.9545, abs=0.003)


def test_neighbours_are_unrelated() -> None:
    even = uniform(KEYS[:, None], NUMBERS[None, :], "noise")
    for first, second in (
        (even[:-1], even[1:]),
        (even[:, :-1], even[:, 1:]),
        (even, uniform(KEYS[:, None], NUMBERS[None, :], "fading")),
        (even, normal(KEYS[:, None], NUMBERS[None, :], "noise")),
    ):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.015
    square = uniform(pairs(KEYS[:300], KEYS[:300]), 0, "shadowing")
    assert abs(np.corrcoef(square.ravel(), square.T.ravel())[0, 1]) < 0.015
