"""The rules of the link history, one by one, and what must hold of any stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.link import (
    HOUR,
    MAX_FCNT_GAP,
    Kind,
    Outages,
    Status,
    Step,
    Tally,
    judge,
    read_status,
    spread,
    tally,
)
from telemetry.clock import from_micros, micros

T = datetime(2026, 11, 21, 12, tzinfo=UTC)
T_HOUR = micros(T) // HOUR
SECOND, MINUTE = 1_000_000, 60_000_000


def step(before: int, after: int, apart: timedelta = timedelta(minutes=20), **more: Any) -> Step:
    given_ = {"moved": False, "known": True, "joined": False, **more}
    return Step(1, T, T + apart, before, after, **given_)


NEAR, FAR = timedelta(seconds=20), timedelta(hours=20)


@pytest.mark.parametrize(
    ("what", "one", "kind", "missing"),
    [
        ("the next frame", step(7, 8), Kind.NEXT, 0),
        ("three are missing", step(7, 11), Kind.NEXT, 3),
        ("a retransmission", step(7, 7, NEAR), Kind.REPEAT, 0),
        ("the same counter much later", step(7, 7), Kind.RESET, 0),
        ("the counter fell back", step(700, 3), Kind.RESET, 0),
        ("two gateways' clocks differ", step(11, 10, NEAR), Kind.SWAPPED, -2),
        ("the same, but too far apart", step(11, 10), Kind.RESET, 0),
        ("the same, but too far back", step(11, 2, NEAR), Kind.RESET, 0),
        ("16 bits are full", step(65_535, 0), Kind.NEXT, 0),
        ("16 bits are full, and some are missing", step(65_500, 9), Kind.NEXT, 44),
        ("too many missing for a wrap", step(65_000, 9), Kind.RESET, 0),
        ("32 bits go on", step(65_535, 65_536), Kind.NEXT, 0),
        ("32 bits fall back", step(65_536, 0), Kind.RESET, 0),
        ("another address", step(7, 8, moved=True), Kind.REJOIN, 0),
        ("a join, the counter begins anew", step(7, 0, joined=True), Kind.REJOIN, 0),
        ("a join whose accept was never heard", step(7, 8, joined=True), Kind.NEXT, 0),
        ("a join, and no addresses to tell", step(7, 8, joined=True, known=False), Kind.REJOIN, 0),
        ("no addresses and no join", step(7, 9, known=False), Kind.NEXT, 1),
        ("as many as can be missing", step(0, MAX_FCNT_GAP, FAR), Kind.NEXT, MAX_FCNT_GAP - 1),
        ("more than can be missing", step(0, MAX_FCNT_GAP + 1, FAR), Kind.RESET, 0),
        ("counters skipped on purpose", step(7, 107, NEAR), Kind.RESET, 0),
        ("a month of silence", step(7, 9, timedelta(days=31, seconds=1)), Kind.ANEW, 0),
    ],
)
def test_a_step(what: str, one: Step, kind: Kind, missing: int) -> None:
    assert judge(one) == (kind, missing), what


def lost(
    before: datetime, at: datetime, missing: int, *outages: tuple[int, int]
) -> list[tuple[int, int, int]]:
    """What `spread` gives, with hours and outages (minutes) counted from T."""
    spans = [(micros(T) + a * MINUTE, micros(T) + b * MINUTE) for a, b in outages]
    found = spread(micros(before), micros(at), missing, Outages(spans))
    return [(hour - T_HOUR, on_air, by_us) for hour, on_air, by_us in found]


def after(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def test_losses_lie_evenly_between_the_frames() -> None:
    assert lost(after(10), after(50), 3) == [(0, 3, 0)]
    # Presumed at 70, 90, … 170 minutes; the frames around are those of minutes 50 and 190.
    assert lost(after(50), after(190), 6) == [(1, 3, 0), (2, 3, 0)]
    # At 20 and 40: the hour of the frame before is left alone.
    assert lost(after(0), after(60), 2) == [(1, 2, 0)]
    assert lost(after(0), after(0), 2) == [(0, 2, 0)]


def test_what_is_presumed_within_an_outage_was_lost_by_us() -> None:
    # Presumed at 20, 30, 40.
    assert lost(after(10), after(50), 3, (25, 35)) == [(0, 2, 1)]
    assert lost(after(10), after(50), 3, (30, 31), (15, 25)) == [(0, 1, 2)]
    assert lost(after(10), after(50), 3, (15, 35), (16, 17), (30, 45)) == [(0, 0, 3)]
    assert lost(after(10), after(50), 3, (-90, 10), (50, 90)) == [(0, 3, 0)]
    # At 70, 90, … 170 minutes, over an outage of the second hour.
    assert lost(after(50), after(190), 6, (120, 165)) == [(1, 3, 0), (2, 1, 2)]
    # In the hour of the frame before, counted in the next one, but by the moment it was.
    assert lost(after(50), after(65), 2, (54, 56)) == [(1, 1, 1)]


moments = st.integers(0, 40 * 24 * 60).map(lambda minutes: micros(T) + minutes * MINUTE + 17)


@given(
    moments, st.integers(1, 40 * 24 * 60), st.integers(1, MAX_FCNT_GAP), st.lists(st.tuples(moments, moments))
)
def test_no_loss_is_forgotten_or_told_twice(
    before: int, minutes: int, missing: int, spans: list[tuple[int, int]]
) -> None:
    at = before + minutes * MINUTE
    outages = Outages((min(span), max(span)) for span in spans)
    hours = list(spread(before, at, missing, outages))
    assert sum(on_air + by_us for _, on_air, by_us in hours) == missing
    assert all(on_air >= 0 and by_us >= 0 for _, on_air, by_us in hours)
    assert all(before // HOUR < hour <= at // HOUR or hour == at // HOUR for hour, _, _ in hours)
    presumed = [before + (at - before) * k // (missing + 1) for k in range(1, missing + 1)]
    within = sum(any(a <= moment < b for a, b in outages.within(before, at)) for moment in presumed[:50])
    if missing <= 50:
        assert abs(sum(by_us for _, _, by_us in hours) - within) <= len(spans), "to a microsecond at an edge"


@given(st.lists(st.tuples(moments, moments)))
def test_outages_are_a_union(spans: list[tuple[int, int]]) -> None:
    outages = Outages((min(span), max(span)) for span in spans)
    whole = list(outages.within(0, 2**62))
    assert all(a[1] < b[0] for a, b in pairwise(whole))
    for moment in (edge for span in spans for edge in span):
        inside = any(min(span) <= moment < max(span) for span in spans)
        assert inside == any(a <= moment < b for a, b in whole)


@given(st.permutations(range(100, 109)), st.sets(st.integers(0, 8), max_size=8))
def test_wrong_clocks_of_gateways_lose_nothing(order: list[int], gone: set[int]) -> None:
    """Between a frame before and one after, in any order: what is missing is what never came."""
    heard = [99, *(f_cnt for n, f_cnt in enumerate(order) if n not in gone), 109]
    times = [from_micros(micros(T) + n * SECOND) for n in range(len(heard))]
    steps = [
        Step(1, times[n], times[n + 1], heard[n], heard[n + 1], False, True, False)
        for n in range(len(heard) - 1)
    ]
    key = (1, T_HOUR)
    assert tally(steps, {key: len(heard)}, Outages()) == {key: Tally(len(heard), len(gone))}


def test_hours_are_told_of_one_another() -> None:
    steps = [
        Step(1, T, after(1), 5, 5, False, True, False),
        Step(1, after(1), after(130), 5, 8, False, True, False),
        Step(2, T, after(30), 9, 0, False, True, False),
        Step(2, after(30), after(40), 0, 1, True, True, False),
    ]
    frames = {(1, T_HOUR): 2, (1, T_HOUR + 2): 1, (2, T_HOUR): 3}
    assert tally(steps, frames, Outages()) == {
        (1, T_HOUR): Tally(received=1),
        (1, T_HOUR + 1): Tally(lost_on_air=2),
        (1, T_HOUR + 2): Tally(received=1),
        (2, T_HOUR): Tally(received=3, resets=1, rejoins=1),
    }


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"margin": 10, "batteryLevel": 88.5, "externalPowerSource": False}, Status(88.5, 10)),
        ({"margin": -3, "batteryLevelUnavailable": True, "batteryLevel": 0.0}, Status(None, -3)),
        ({"margin": 7, "externalPowerSource": True, "batteryLevel": 0.0}, Status(None, 7)),
        ({"margin": 7, "externalPowerSource": True, "batteryLevel": 40}, Status(None, 7)),
        ({"margin": 7, "batteryLevel": None}, Status(None, 7)),
        ({"batteryLevel": 100}, Status(100.0, 0)),
        ({"margin": "7", "batteryLevel": "90"}, Status(None, None)),
        ({"margin": 10**9, "batteryLevel": 300}, Status(None, None)),
        ({"margin": True, "batteryLevel": True}, Status(None, None)),
    ],
)
def test_status(data: dict[str, Any], status: Status) -> None:
    assert read_status(data) == status
