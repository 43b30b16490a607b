"""Counters: growth, wrap, reset and replacement told apart; nothing lost with a lost uplink."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.counters import Increments, Kind, increments, span_to_renew
from telemetry.catalogue import CATALOGUE, Change

MINUTE = 60_000_000
RAIN = Change(by=100, within=600)


def _run(*readings: tuple[float, float], **more: Any) -> Increments:
    """Of (minute, count) pairs."""
    time = np.array([int(minute * MINUTE) for minute, _ in readings], np.int64)
    return increments(time, np.array([count for _, count in readings], np.float64), **more)


def _one(before: float, after: float, minutes: float = 10, **more: Any) -> tuple[Kind, float | None]:
    found = _run((0, before), (minutes, after), **more)
    (value,), (kind,) = found.value.tolist(), found.kind.tolist()
    return Kind(kind), None if math.isnan(value) else value


@pytest.mark.parametrize(
    ("before", "after", "more", "expected"),
    [
        (10, 12.5, {}, (Kind.GROWTH, 2.5)),
        (10, 10, {}, (Kind.GROWTH, 0)),
        (0.3, 0.1 * 3, {}, (Kind.GROWTH, 0)),
        (0, 1e6, {}, (Kind.GROWTH, 1e6)),
        (0, 101, {"limit": RAIN}, (Kind.UNEXPLAINED, None)),
        (0, 101, {"limit": RAIN, "minutes": 11}, (Kind.GROWTH, 101)),
        (250, 3, {"modulus": 256}, (Kind.WRAP, 9)),
        (65535, 0, {"modulus": 65536}, (Kind.WRAP, 1)),
        (2**24 - 5, 5, {"modulus": 2**24}, (Kind.WRAP, 10)),
        (2**32 - 1, 1, {"modulus": 2**32}, (Kind.WRAP, 2)),
        (13106.8, 0.4, {"modulus": 65536 * 0.2, "limit": RAIN}, (Kind.WRAP, pytest.approx(0.8))),
        (200, 7, {"modulus": 256}, (Kind.WRAP, 63)),
        (200, 9, {"modulus": 256}, (Kind.RESET, 9)),
        (13000, 2, {"modulus": 65536 * 0.2, "limit": RAIN}, (Kind.RESET, 2)),
        (1234.5, 0, {}, (Kind.RESET, 0)),
        (1234.5, 3, {"limit": RAIN}, (Kind.RESET, 3)),
        (3, 2, {}, (Kind.UNEXPLAINED, None)),
        (1000, 999.8, {"limit": RAIN}, (Kind.UNEXPLAINED, None)),
        (1000, 450, {"limit": RAIN}, (Kind.UNEXPLAINED, None)),
        (1000, -1, {}, (Kind.UNEXPLAINED, None)),
        (300, 10, {"modulus": 256}, (Kind.RESET, 10)),
    ],
)
def test_from_one_reading_to_the_next(
    before: float, after: float, more: dict[str, Any], expected: tuple[Kind, float | None]
) -> None:
    assert _one(before, after, **more) == expected


@pytest.mark.parametrize(
    ("boundary", "kind"),
    [(0, Kind.GROWTH), (1, Kind.REPLACEMENT), (10, Kind.REPLACEMENT), (11, Kind.GROWTH)],
)
def test_a_replacement_counts_nothing_across_its_boundary(boundary: int, kind: Kind) -> None:
    found = _run((0, 5), (10, 70), boundaries=np.array([boundary * MINUTE], np.int64))
    assert found.kind.tolist() == [kind]
    assert math.isnan(found.value[0]) == (kind is Kind.REPLACEMENT)


def test_the_new_meter_is_the_base_of_what_follows() -> None:
    edge = np.array([15 * MINUTE], np.int64)
    found = _run((0, 5), (10, 6), (20, 9000), (30, 9001.5), boundaries=edge)
    assert found.kind.tolist() == [Kind.GROWTH, Kind.REPLACEMENT, Kind.GROWTH]
    assert np.nansum(found.value) == 2.5


def test_an_increment_knows_its_span() -> None:
    found = _run((0, 1), (10, 2), (60, 9))
    assert (found.start // MINUTE).tolist() == [0, 10]
    assert (found.time // MINUTE).tolist() == [10, 60]
    assert found.value.tolist() == [1, 7]


@pytest.mark.parametrize("readings", [[], [(0, 5)], [(0, 5), (0, 5)], [(0, 5), (7, math.nan)]])
def test_fewer_than_two_readings_have_no_increment(readings: list[tuple[float, float]]) -> None:
    assert all(len(column) == 0 for column in _run(*readings))


def test_of_two_counts_of_one_instant_the_larger_holds() -> None:
    assert _run((0, 1), (10, 3), (10, 2), (20, 4)).value.tolist() == [2, 1]


# A gauge that tips: growth per step, with now and then a restart or another gauge.
_STEPS = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 6), st.sampled_from(["", "", "", "restart", "swap"])),
    min_size=2,
    max_size=40,
)
_BITS = st.sampled_from([8, 16, 24, 32])


def _gauge(
    steps: list[tuple[int, int, str]], bits: int, start: int, events: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Times, raw counts and boundaries."""
    time, count, times, counts, edges = 0, start % 2**bits, [], [], []
    for minutes, tips, event in steps:
        time += minutes * MINUTE
        if events and event == "restart":
            count = 0
        if events and event == "swap":
            count = 7 * 2 ** (bits - 4)
            edges.append(time)
        count = (count + tips) % 2**bits
        times.append(time)
        counts.append(float(count))
    return np.array(times, np.int64), np.array(counts), np.array(edges, np.int64)


@given(_STEPS, _BITS, st.integers(0, 2**32), st.data())
def test_increments_add_up_under_loss_repeats_and_disorder(
    steps: list[tuple[int, int, str]], bits: int, start: int, data: st.DataObject
) -> None:
    time, count, _ = _gauge(steps, bits, start, events=False)
    true = sum(tips for _, tips, _ in steps[1:])
    # 8 bits wrap within a quarter of 256 only while no gap holds more than 64 tips: 10 steps of 6.
    inner = data.draw(st.lists(st.booleans(), min_size=len(time) - 2, max_size=len(time) - 2))
    kept = [0, *(i for i, keep in enumerate(inner, 1) if keep or i % 10 == 0), len(time) - 1]
    arrived = np.array(data.draw(st.permutations(kept + kept[::2])))
    found = increments(time[arrived], count[arrived], modulus=float(2**bits))
    assert found.value.sum() == true
    assert len(found.time) == len(kept) - 1
    assert (found.time[:-1] == found.start[1:]).all()


@given(_STEPS, _BITS, st.integers(0, 2**32), st.data())
def test_arrival_order_and_repeats_change_nothing(
    steps: list[tuple[int, int, str]], bits: int, start: int, data: st.DataObject
) -> None:
    time, count, edges = _gauge(steps, bits, start, events=True)
    whole = increments(time, count, modulus=float(2**bits), limit=RAIN, boundaries=edges)
    arrived = np.array(data.draw(st.permutations([*range(len(time)), *range(0, len(time), 3)])))
    again = increments(
        time[arrived], count[arrived], modulus=float(2**bits), limit=RAIN, boundaries=edges[::-1]
    )
    for ours, theirs in zip(whole, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(_STEPS, _BITS, st.integers(0, 2**32), st.data())
def test_late_readings_renew_only_what_they_touch(
    steps: list[tuple[int, int, str]], bits: int, start: int, data: st.DataObject
) -> None:
    """What is held, with the span around the late ones computed anew, equals everything computed anew."""
    time, count, edges = _gauge(steps, bits, start, events=True)
    late = np.array(data.draw(st.lists(st.booleans(), min_size=len(time), max_size=len(time))))
    if not late.any():
        return
    how = {"modulus": float(2**bits), "limit": RAIN, "boundaries": edges}
    held = increments(time[~late], count[~late], **how)  # type: ignore[arg-type]
    first, last = span_to_renew(time[~late], time[late])
    inside = (time >= first) & (time <= last)
    renewed = increments(time[inside], count[inside], **how)  # type: ignore[arg-type]
    stay = (held.time <= first) | (held.time > last)
    merged = [np.concatenate([old[stay], new]) for old, new in zip(held, renewed, strict=True)]
    order = np.argsort(merged[1])
    whole = increments(time, count, **how)  # type: ignore[arg-type]
    for ours, theirs in zip(whole, merged, strict=True):
        np.testing.assert_array_equal(ours, theirs[order])


@given(st.integers(1, 2**16 - 1), st.integers(1, 300), st.integers(1, 1440))
def test_a_restart_never_invents_more_than_was_possible(before: int, tips: int, minutes: int) -> None:
    """Whatever the two numbers, an increment is bounded by what can fall in the time."""
    kind, value = _one(before * 0.2, tips * 0.2, minutes, modulus=2**16 * 0.2, limit=RAIN)
    assert value is None or 0 <= value <= RAIN.most(minutes * 60) + 1e-9
    assert (value is None) == (kind is Kind.UNEXPLAINED)


def test_the_catalogues_limits_let_the_heaviest_rain_pass() -> None:
    """305 mm in 42 minutes (Holt, 1947) is the WMO's record of that length."""
    limit = CATALOGUE["rain.total"].max_change
    assert limit is not None
    assert limit.most(42 * 60) > 305
