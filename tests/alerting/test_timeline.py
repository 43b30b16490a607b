"""Levels over event time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerting.rules import Level, Rule
from alerting.timeline import Change, Ladder, Machine, advance, make_ladder

MINUTE = 60_000_000
LEVELS = (Level(1, "BĐ1", 104.5), Level(2, "BĐ2", 105.5), Level(3, "BĐ3", 106.5))


def ladder(**rule: object) -> Ladder:
    made = Rule(id="r", name={"vi": "r"}, metric="water.level", **rule)  # type: ignore[arg-type]
    return make_ladder(made, LEVELS if made.direction == "above" else tuple(Level(i, "", -i) for i in (1, 2)))


def steps(changes: list[Change]) -> list[tuple[int, int, int]]:
    return [(c.at // MINUTE, c.from_step, c.to_step) for c in changes]


def run(made: Ladder, *values: float) -> list[tuple[int, int, int]]:
    """One reading a minute."""
    return steps(advance(made, made.start(), [(i * MINUTE, v) for i, v in enumerate(values)])[1])


def test_rises_and_falls_through_the_levels() -> None:
    got = run(ladder(), 104.4, 104.5, 105.5, 107, 105, 104)
    assert got == [(1, 0, 1), (2, 1, 2), (3, 2, 3), (4, 3, 1), (5, 1, 0)]


def test_hysteresis_keeps_a_level_until_clearly_below() -> None:
    assert run(ladder(hysteresis=0.1), 104.5, 104.45, 104.4, 104.39) == [(0, 0, 1), (3, 1, 0)]


def test_hold_must_be_proven_by_readings() -> None:
    assert run(ladder(hold=120), 105, 105, 105) == [(2, 0, 1)]
    assert run(ladder(hold=120), 105, 104, 105, 105) == []


def test_each_level_has_its_own_hold() -> None:
    assert run(ladder(hold=120), 105, 106, 106, 106) == [(2, 0, 1), (3, 1, 2)]


def test_clear_for_delays_the_fall_and_a_new_rise_cancels_it() -> None:
    assert run(ladder(clear_for=120), 105, 104, 104, 105, 104, 104, 104) == [(0, 0, 1), (6, 1, 0)]


def test_below() -> None:
    assert run(ladder(direction="below"), 0, -1, -2, -1.5, 0) == [(1, 0, 1), (2, 1, 2), (3, 2, 1), (4, 1, 0)]


def test_a_changed_ladder_carries_over_the_step_only() -> None:
    shorter = Ladder(LEVELS[:2], 1, 0, 0, 0)
    assert shorter.resume(Machine(3, (None, 5, None))) == Machine(2, (None, None))


RULES = st.fixed_dictionaries(
    {"hysteresis": st.sampled_from([0, 0.1, 0.6]), "hold": st.sampled_from([0, 60, 150]),
     "clear_for": st.sampled_from([0, 60, 150])}
)  # fmt: skip
SERIES = st.lists(st.floats(103.5, 107.5), max_size=40)


@given(RULES, SERIES, st.integers(0, 40))
def test_resuming_anywhere_gives_the_same(rule: dict[str, float], values: list[float], cut: int) -> None:
    made = ladder(**rule)
    points = [(i * MINUTE, v) for i, v in enumerate(values)]
    whole = advance(made, made.start(), points)
    machine, first = advance(made, made.start(), points[:cut])
    end, second = advance(made, machine, points[cut:])
    assert (end, first + second) == whole


@given(RULES, SERIES)
def test_every_change_can_be_resumed_from(rule: dict[str, float], values: list[float]) -> None:
    made = ladder(**rule)
    points = [(i * MINUTE, v) for i, v in enumerate(values)]
    _, changes = advance(made, made.start(), points)
    for number, change in enumerate(changes):
        rest = [p for p in points if p[0] > change.at]
        assert advance(made, change.machine, rest)[1] == changes[number + 1 :]


@given(RULES, SERIES)
def test_changes_form_a_chain(rule: dict[str, float], values: list[float]) -> None:
    made = ladder(**rule)
    at = 0
    for change in advance(made, made.start(), [(i * MINUTE, v) for i, v in enumerate(values)])[1]:
        assert change.from_step == at != change.to_step
        at = change.to_step
