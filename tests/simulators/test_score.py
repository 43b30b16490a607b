"""Scoring: what was found in time, missed, raised for nothing, and how late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from simulators.score import Change, Finding, Score, score
from simulators.sheet import AnswerLevel, AnswerSheet, Hazard, Lie, Passage, Target
from simulators.yamlfile import Text

T = datetime(2026, 11, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def passage(rising: float | None, falling: float | None, *, sure: bool = True) -> Passage:
    """Five minutes are what nobody can tell; ten more are the tolerance."""
    return Passage(
        rising_at=None if rising is None else at(rising),
        falling_at=None if falling is None else at(falling),
        earliest=None if rising is None else at(rising - 5),
        latest=at((rising or 0) + 15),
        gone=None if falling is None else at(falling + 15),
        peak=2.0,
        sure=sure,
    )


def scored(
    found: list[tuple[float, int]],
    *passages: Passage,
    level: int = 1,
    lies: tuple[Lie, ...] = (),
    hazards: tuple[Hazard, ...] = (),
) -> Score:
    """`found`: (minute, level) of one rule's alert on the sheet's one sensor, known a minute later."""
    level_ = AnswerLevel(level=level, label="BĐ", value=1.0, margin=0.05, passages=passages)
    target = Target(dev_eui="02", station="s", point="s", metric="water.level", levels=(level_,))
    sheet = AnswerSheet(
        scenario="x", seed=1, starts=T, ends=at(1000), tolerance_s=600, targets=(target,), lies=lies,
        hazards=hazards,
    )  # fmt: skip
    changes = [Change("r", "02", "water.level", to, at(when), at(when + 1)) for when, to in found]
    return score(sheet, changes, lambda *_: ["r"])


def judged(found: list[tuple[float, int]], *passages: Passage, **more: Any) -> dict[str, Any]:
    (tally,) = scored(found, *passages, **more).tallies
    return {k: v for k, v in tally.summary().items() if v and k not in ("rule", "level")}


def test_found_in_time() -> None:
    assert judged([(103, 1), (220, 0)], passage(100, 200)) == {
        "detected": 1, "delay_median_s": 180, "delay_worst_s": 180, "told_median_s": 240, "told_worst_s": 240,
    }  # fmt: skip


def test_before_the_very_moment_is_no_delay() -> None:
    found = judged([(97, 1), (220, 0)], passage(100, 200))
    assert (found["detected"], found.get("delay_worst_s")) == (1, None)


def test_missed_when_too_late_or_never() -> None:
    assert judged([], passage(100, 200)) == {"missed": 1}
    assert judged([(150, 1), (220, 0)], passage(100, 200)) == {"missed": 1}


def test_what_nobody_can_tell_is_neither_missed_nor_false() -> None:
    assert judged([], passage(100, 110, sure=False)) == {}
    assert judged([(101, 1), (120, 0)], passage(100, 110, sure=False))["detected"] == 1


def test_false_alarms() -> None:
    found = judged([(40, 1), (50, 0), (100, 1), (210, 0), (300, 1), (301, 0)], passage(100, 200))
    assert (found["detected"], found["false"]) == (1, 2)
    assert judged([(40, 1), (1200, 0)]) == {"false": 1}


def test_an_alarm_that_stood_over_a_dip_found_both_passages() -> None:
    assert judged([(100, 1), (320, 0)], passage(100, 150), passage(200, 300))["detected"] == 2


def test_an_alarm_that_never_ends_lingers() -> None:
    found = judged([(100, 1)], passage(100, 200))
    assert (found["detected"], found["lingering"]) == (1, 1)


def test_only_what_reaches_the_level_counts() -> None:
    found = judged([(100, 1), (130, 3), (160, 1), (220, 0)], passage(130, 165), level=2)
    assert found["detected"] == 1
    assert "false" not in found


def test_what_was_so_at_the_start() -> None:
    assert judged([(-50, 1)], passage(None, None))["detected"] == 1
    assert judged([(12, 1)], passage(None, None))["delay_worst_s"] == 720
    assert judged([(40, 1)], passage(None, None)) == {"missed": 1}


def test_other_runs_are_no_false_alarms() -> None:
    assert judged([(-500, 1), (-400, 0), (2000, 1)]) == {}


def test_a_rule_that_no_sensor_has_is_not_scored() -> None:
    sheet = AnswerSheet(scenario="x", seed=1, starts=T, ends=at(1), tolerance_s=0, targets=())
    assert score(sheet, [Change("r", "02", "water.level", 1, T, T)], lambda *_: ["r"]) == ([], [])


def lie(
    kind: Literal["stuck", "silent"], begins: float, ends: float | None, metric: str | None = None
) -> Lie:
    last = None if ends is None else at(ends)
    return Lie(dev_eui="02", kind=kind, metric=metric, begins=at(begins), ends=last)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (lie("stuck", 30, 45), {"fooled": 1, "false": 1}),
        (lie("stuck", 30, None, "water.level"), {"fooled": 2}),
        (lie("stuck", 20, 29), {"fooled": 1, "false": 1}),  # ten minutes are the tolerance
        (lie("stuck", 20, 29, "air.temperature"), {"false": 2}),
        (lie("silent", 30, 45), {"false": 2}),
        (lie("stuck", 41, 45), {"false": 2}),
    ],
)
def test_alarms_of_a_sensor_that_lies_are_no_plain_false_ones(told: Lie, expected: dict[str, int]) -> None:
    assert judged([(39, 1), (50, 0), (300, 1), (310, 0)], lies=(told,)) == expected


def test_a_true_alarm_of_a_lying_sensor_is_one() -> None:
    found = judged([(103, 1), (220, 0)], passage(100, 200), lies=(lie("stuck", 100, 200),))
    assert (found["detected"], found.get("fooled")) == (1, None)


def hazard(
    begins: float | None, ends: float | None, device: str = "02", metric: str = "water.level"
) -> Hazard:
    return Hazard(
        kind="flash-flood", name=Text(vi="Lũ quét", en="Flash flood"), station="s", metric=metric,
        devices=(device,), begins=None if begins is None else at(begins), found_by=None,
        ends=None if ends is None else at(ends),
    )  # fmt: skip


def finding(of: Hazard) -> Finding:
    (found,) = scored([(103, 1), (220, 0), (400, 2), (410, 0)], hazards=(of,)).findings
    return found


def test_a_hazard_is_found_by_what_stands_in_its_time() -> None:
    assert finding(hazard(100, 150)) == (hazard(100, 150), ("r",), 180.0, 240.0)
    assert finding(hazard(150, None))[1:] == (("r",), 0.0, 0.0)
    assert finding(hazard(None, 95))[1:] == (("r",), 6180.0, 6240.0), "within the tolerance"


def test_a_hazard_that_nothing_was_raised_for() -> None:
    for missed in (hazard(10, 92), hazard(250, 380), hazard(100, 150, "03"), hazard(100, 150, metric="a.b")):
        assert not finding(missed).found


def test_clean_is_nothing_missed_false_or_lingering() -> None:
    assert scored([(103, 1), (220, 0)], passage(100, 200)).clean
    assert scored([(39, 1), (50, 0)], lies=(lie("stuck", 30, 45),)).clean
    assert not scored([], passage(100, 200)).clean
    assert not scored([(39, 1), (50, 0)]).clean
    assert not scored([(103, 1)], passage(100, 200)).clean
