"""What a scenario makes happen: refused where it leads nowhere, and told by the answer sheet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulators.answers import answer_sheet
from simulators.course import Course
from simulators.hazards import unmet
from simulators.scenario import BUILTIN_FOLDER, Scenario, load_scenario
from simulators.sheet import AnswerSheet, Hazard
from simulators.traffic import Timeline
from simulators.world.field import Series
from simulators.world.rain import Array
from simulators.world.scene import Scene, Spot
from telemetry.errors import UsageError

START = datetime(2026, 11, 1, tzinfo=UTC)
PHU_HIEP = "0251545200000002"
NAME = "name: {vi: Lũ quét, en: Flash flood}"


@pytest.fixture
def with_truths(tmp_path: Path) -> Callable[[str], Scenario]:
    """The flood with more at the end of its file."""

    def _with(more: str) -> Scenario:
        text = (BUILTIN_FOLDER / "la-nga-flood.yaml").read_text(encoding="utf-8")
        path = tmp_path / "more.yaml"
        path.write_text(text.replace("../", f"{BUILTIN_FOLDER.parent}/") + more, encoding="utf-8")
        return load_scenario(path)

    return _with


def of(section: str, **keys: object) -> str:
    said = "".join(f"{key}: {value}, " for key, value in keys.items())
    return f"{section}:\n  - {{{said}begins_h: 6, duration: 5h}}\n"


def hazard(limit: str, *, metric: str = "water.level", stations: str = "[phu-hiep]") -> str:
    return f"hazards:\n  - {{kind: flash-flood, stations: {stations}, metric: {metric}, {limit}, {NAME}}}\n"


@pytest.mark.parametrize(
    ("more", "path", "cause"),
    [
        (of("faults", device='"0251545200000009"', kind="stuck"), "faults[0].device", "is none of"),
        (of("faults", device='"02"', kind="broken"), "faults[0].kind", "'stuck', 'bias'"),
        (of("faults", device='"02"', kind="stuck", amount=1), "faults[0]", "stuck takes no amount"),
        (of("faults", device='"02"', kind="drift", metric="a"), "faults[0]", "drift needs an amount"),
        (of("faults", device='"02"', kind="noise", amount=-1), "faults[0]", "an amount above 0"),
        (of("faults", device='"02"', kind="bias", amount=1), "faults[0]", "needs the metric that its amount"),
        (of("faults", device='"02"', kind="silent", metric="a"), "faults[0]", "is of the whole device"),
        (
            of("faults", device=f'"{PHU_HIEP}"', kind="stuck", metric="water.levl"),
            "faults[0].metric",
            "did you mean 'water.level'?",
        ),
        (of("outages", gateways='["0251545200aa0003", "x"]'), "outages[0].gateways[1]", "'x' is none of"),
        (of("outages", gateways="[]"), "outages[0].gateways", "at least 1"),
        (of("outages", backhaul="true").replace("6", "96"), "outages[0].begins_h", "ends after 96 h"),
        (hazard("above: 3", stations="[phu-hip]"), "hazards[0].stations[0]", "did you mean 'phu-hiep'?"),
        (hazard("above: 3", metric="air.humidity"), "hazards[0].stations[0]", "no device of phu-hiep"),
        (hazard("above: 3", metric="water.lewel"), "hazards[0].metric", "did you mean 'water.level'?"),
        (
            hazard("below: 3", metric="battery.voltage"),
            "hazards[0].metric",
            "knows battery.voltage of itself",
        ),
        (hazard("above: 3").replace("flash-", "Flash "), "hazards[0].kind", "a to z, digits and hyphens"),
        (hazard("above: 3").replace("[phu-hiep]", "phu-hiep"), "hazards[0].stations", "[phu-hiep]"),
        (
            of("faults", device=f'"{PHU_HIEP}"', kind="stuck", metric="battery.voltage"),
            "faults[0].metric",
            "stuck does not act on battery.voltage, but silent and battery do; stuck does on distance,",
        ),
        (hazard("above: 3, below: 2"), "hazards[0]", "exactly one of above, below"),
        (hazard("rises_per_h: 0"), "hazards[0].rises_per_h", "above 0, not 0"),
    ],
)
def test_what_leads_nowhere_is_refused(
    with_truths: Callable[[str], Scenario], more: str, path: str, cause: str
) -> None:
    with pytest.raises(UsageError) as refused:
        with_truths(more)
    assert any(f": {path}: " in line and cause in line for line in str(refused.value).splitlines())


class Pool(Scene):
    """A world in which all water stands at `level`, over hours, and nothing else is to be measured."""

    def __init__(self, level: Series) -> None:
        self._level = level

    def series(self, metric: str, _: Spot) -> Series:
        return {"water.level": self._level}[metric]


def sheet_of(scenario: Scenario, level: Series) -> AnswerSheet:
    return answer_sheet(scenario, Pool(level), Timeline(START, 1.0), seed=1)


def hours(at: datetime | None) -> float | None:
    return None if at is None else (at - START) / timedelta(hours=1)


def wave(t_h: Array) -> Array:
    """At 104 m, but for three hours from hour 10, in which it is up to 3 m higher."""
    return 104.0 + np.interp(t_h, [10.0, 11.0, 12.0, 13.0], [0.0, 3.0, 3.0, 0.0])


def found(scenario: Scenario, level: Series) -> Any:
    return [(hours(h.begins), hours(h.ends), h.peak) for h in sheet_of(scenario, level).hazards]


def test_hazards_above_below_and_rising(with_truths: Callable[[str], Scenario]) -> None:
    above = with_truths(hazard("above: 105.5"))
    assert found(above, wave) == [(pytest.approx(10.5), pytest.approx(12.5), 107.0)]
    below = with_truths(hazard("below: 104.3"))
    assert found(below, wave) == [(None, pytest.approx(10.1), 104), (pytest.approx(12.9), None, 104)]
    rising = with_truths(hazard("rises_per_h: 2.4"))
    assert found(rising, wave) == [(pytest.approx(10.8), pytest.approx(11.2), 3.0)]
    assert found(above, lambda t_h: np.full_like(t_h, 104.0)) == []


def test_what_nobody_who_takes_part_can_see_is_no_hazard(with_truths: Callable[[str], Scenario]) -> None:
    scenario = with_truths(hazard("above: 105.5", stations="[phu-hiep, ta-lai]"))
    few = scenario.multiplied(2)
    assert [one.station for one in sheet_of(scenario, wave).hazards] == ["phu-hiep", "ta-lai"]
    assert [one.station for one in sheet_of(few, wave).hazards] == ["phu-hiep"]
    assert list(unmet(Course(few, Pool(wave), Timeline(START, 1.0)))) == []


def test_two_within_an_hour_are_one_hazard(with_truths: Callable[[str], Scenario]) -> None:
    scenario = with_truths(hazard("above: 105.0"))

    def dipping(t_h: Array) -> Array:
        return wave(t_h) - np.where(np.abs(t_h - 11.5) < 0.4, 3.0, 0.0)

    assert len(found(scenario, dipping)) == 1


def test_a_hazard_tells_who_measures_it_and_which_rules_could_find_it(
    with_truths: Callable[[str], Scenario],
) -> None:
    (one,) = sheet_of(with_truths(hazard("above: 105.5")), wave).hazards
    assert (one.station, one.devices, one.found_by, one.limit) == (
        "phu-hiep",
        (PHU_HIEP,),
        "threshold",
        105.5,
    )
    (one,) = sheet_of(with_truths(hazard("rises_per_h: 2")), wave).hazards
    assert one.found_by is None


def test_a_hazard_that_never_comes_true_is_told_with_how_near_it_came(
    with_truths: Callable[[str], Scenario],
) -> None:
    def told(limit: str) -> list[str]:
        course = Course(with_truths(hazard(limit)), Pool(wave), Timeline(START, 1.0))
        assert all(loc == ("hazards", 0, "stations", 0) for loc, _ in unmet(course))
        return [why for _, why in unmet(course)]

    assert told("above: 106") == told("below: 104.3") == told("rises_per_h: 2") == []
    never = "flash-flood never comes true: water.level "
    assert told("above: 108") == [f"{never}is 107 at most"]
    assert told("below: 103") == [f"{never}is 104 at least"]
    assert told("rises_per_h: 4") == [f"{never}rises within an hour by 3 at most"]


def test_outages_are_hazards_that_no_rule_finds(with_truths: Callable[[str], Scenario]) -> None:
    some, all_ = of("outages", gateways='["0251545200aa0003"]'), of("outages", backhaul="true")
    scenario = with_truths(some + all_.split("\n", 1)[1].replace("5h", "200h"))
    first, second = sheet_of(scenario, wave).hazards
    assert first == Hazard(
        kind="gateway-outage", name=first.name, gateways=("0251545200aa0003",),
        begins=START + timedelta(hours=6), ends=START + timedelta(hours=11), found_by=None,
    )  # fmt: skip
    assert (second.kind, len(second.gateways), second.ends) == ("backhaul-outage", 9, None)


def test_lies_and_what_they_hide(with_truths: Callable[[str], Scenario]) -> None:
    """The wave passes alarm 1 (104.5 m) at 10:10 and falls below it at 12:50."""

    def passage(begins: float, duration: str, kind: str = "stuck") -> Any:
        scenario = with_truths(
            f'faults:\n  - {{device: "{PHU_HIEP}", kind: {kind}, begins_h: {begins}, duration: {duration}}}\n'
        )
        sheet = sheet_of(scenario, wave)
        assert [(lie.dev_eui, lie.kind, hours(lie.begins)) for lie in sheet.lies] == [
            (PHU_HIEP, kind, begins)
        ]
        target = next(target for target in sheet.targets if target.dev_eui == PHU_HIEP)
        (found,) = target.levels[0].passages
        return found.sure, hours(found.latest)

    assert passage(20, "5h") == (True, pytest.approx(10.0 + 0.55 / 3 + 1.0, abs=0.01))
    assert passage(8, "3h") == (True, pytest.approx(12.0, abs=0.01))
    assert passage(8, "5h", "silent")[0] is False, "nothing was left of it to tell"


def test_an_outage_gives_more_time(with_truths: Callable[[str], Scenario]) -> None:
    """To the wave, which passes alarm 1 at 10:10, and falls below it at 12:50."""
    scenario = with_truths(of("outages", backhaul="true").replace("begins_h: 6", "begins_h: 6.5"))
    target = next(target for target in sheet_of(scenario, wave).targets if target.dev_eui == PHU_HIEP)
    (found,) = target.levels[0].passages
    assert hours(found.latest) == pytest.approx(11.5 + 1.0, abs=0.01)
    scenario = with_truths(of("outages").replace("begins_h: 6", "begins_h: 12.5"))
    target = next(target for target in sheet_of(scenario, wave).targets if target.dev_eui == PHU_HIEP)
    (found,) = target.levels[0].passages
    assert hours(found.gone) == pytest.approx(17.5 + 1.0, abs=0.01)


def test_copies_see_the_same_and_do_not_lie(with_truths: Callable[[str], Scenario]) -> None:
    scenario = with_truths(of("faults", device=f'"{PHU_HIEP}"', kind="stuck").replace("5h", "10h"))
    sheet = sheet_of(scenario.multiplied(2 * len(scenario.devices)), wave)
    own, copy = (target for target in sheet.targets if target.point == "phu-hiep")
    assert (copy.dev_eui, copy.station) == ("0251545200010002", "phu-hiep-2")
    assert [passage.sure for passage in own.levels[0].passages] == [False]
    assert [passage.sure for passage in copy.levels[0].passages] == [True]
    assert own.levels[0].passages[0].rising_at == copy.levels[0].passages[0].rising_at
