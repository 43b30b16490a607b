"""Passages of a level: their bounds, what is sure of them, and what nobody could see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from simulators.passages import Above, joined, passages, spans


def _passages(
    times: Sequence[float], values: Sequence[float], level: float, margin: float, **limits: Any
) -> list[Above]:
    return list(passages(np.array(times, float), np.array(values, float), level, margin, **limits))


def test_passages_of_a_triangle() -> None:
    found = _passages([0, 10, 20], [0.0, 2.0, 0.0], 1.0, 0.5)
    assert found == [(2.5, 5.0, 7.5, 15.0, 17.5, 2.0)]
    assert _passages([0, 10, 20], [0.0, 0.4, 0.0], 1.0, 0.5) == []


def test_within_the_margin_nothing_is_sure() -> None:
    (near,) = _passages([0, 10, 20], [0.0, 1.2, 0.0], 1.0, 0.5)
    assert (near.proven, near.peak) == (None, 1.2)
    assert near.rising is not None
    (below,) = _passages([0, 10, 20], [0.0, 0.8, 0.0], 1.0, 0.5)
    assert (below.rising, below.falling, below.proven) == (None, None, None)


def test_a_dip_within_the_margin_is_one_passage_and_a_deeper_one_two() -> None:
    times = [0, 10, 20, 30, 40]
    assert len(_passages(times, [0, 2.0, 0.8, 2.0, 0], 1.0, 0.5)) == 1
    assert len(_passages(times, [0, 2.0, 0.2, 2.0, 0], 1.0, 0.5)) == 2


def test_what_began_before_and_ends_after_has_no_bounds() -> None:
    (whole,) = _passages([0, 10], [3.0, 3.0], 1.0, 0.5)
    assert whole == (None, None, 0, None, None, 3.0)


def test_what_is_over_too_soon_is_not_sure() -> None:
    (found,) = _passages([0, 10, 20], [0.0, 2.0, 0.0], 1.0, 0.5, lasting=5.0)
    assert found.proven == 7.5
    (found,) = _passages([0, 10, 20], [0.0, 2.0, 0.0], 1.0, 0.5, lasting=5.1)
    assert found.proven is None


@pytest.mark.parametrize(
    ("blind", "proven"),
    [
        ([(0.0, 9.0)], 9.0),
        ([(8.0, 9.0)], 9.0),  # half a second before it is no proof
        ([(9.0, 9.5)], 7.5),
        ([(9.0, 30.0)], 7.5),
        ([(8.8, 9.9), (0.0, 9.0)], 9.9),
        ([(0.0, 11.8)], None),
        ([(13.0, 20.0), (0.0, 5.0)], 7.5),
    ],
)
def test_what_nobody_could_see_is_proven_later_or_never(
    blind: list[tuple[float, float]], proven: float | None
) -> None:
    (found,) = _passages([0, 10, 20], [0.0, 2.0, 0.0], 1.0, 0.5, lasting=1.0, blind=blind)
    assert found.proven == proven
    assert (found.rising, found.gone) == (5.0, 17.5)


def test_spans_begin_and_end_outside() -> None:
    times = np.arange(5.0)
    assert spans(times, np.array([2.0, 0, 2, 0, 2]), 1.0) == [(None, 0.5), (1.5, 2.5), (3.5, None)]
    assert spans(times, np.zeros(5), 1.0) == []
    assert spans(times, np.ones(5), 1.0) == [(None, None)]


def test_spans_with_little_between_them_are_one() -> None:
    assert joined([(None, 1.0), (2.0, 3.0), (5.0, None)], 1.5) == [(None, 3.0), (5.0, None)]
