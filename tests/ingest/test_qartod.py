"""The quality tests as the manuals have them, and that a reading's reach is all that decides on it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.qartod import SERIES_DTYPE, Plan, evaluate, outcomes_of, reach
from ingest.quality import SingleReading
from telemetry.catalogue import CATALOGUE, checks_of
from telemetry.checks import Check, Checks, GrossRange, Outcome, StationChecks, parse_station_checks
from telemetry.clock import micros
from telemetry.errors import UsageError
from telemetry.model import Quality
from telemetry.store.flags import base_flag, pack, unpack
from telemetry.store.lanes import READING_DTYPE
from telemetry.store.registry import Stay

CASES = json.loads(Path(__file__).with_name("qartod.json").read_text(encoding="utf-8"))
JANUARY = micros(datetime(2026, 1, 10, tzinfo=UTC))
TEN_MINUTES = 600_000_000
_WORDS = {Outcome.PASS: "P", Outcome.SUSPECT: "S", Outcome.FAIL: "F", Outcome.NOT_EVALUATED: "-"}
EVERYTHING = msgspec.convert(
    {
        "gross_range": {"fail": [-50, 50], "suspect": [-20, 20]},
        "climatology": [{"months": [1], "suspect": [-15, 15]}],
        "spike": {"suspect": 3, "fail": 8, "within": 900},
        "rate_of_change": {"by": 4, "within": 600},
        "flat_line": {"tolerance": 0.5, "suspect": 1800, "fail": 2700, "count": 3},
        "attenuated": {"window": 2400, "suspect": 1.5, "fail": 0.5, "count": 3},
        "neighbour": {"suspect": 5, "within": 700, "least": 2},
        "gap": {"intervals": 2},
    },
    Checks,
)


def rows(values: list[tuple[int, int, float]], overrides: dict[int, int] | None = None) -> Any:
    """Of (series, µs since January, value), in order."""
    found = np.zeros(len(values), SERIES_DTYPE)
    for n, (series, time, value) in enumerate(sorted(values)):
        found[n] = series, JANUARY + time, value, False, (overrides or {}).get(time, 0)
    return found


@pytest.mark.parametrize("case", CASES, ids=[f"{case['test']}: {case['name']}" for case in CASES])
def test_as_the_manuals_say(case: dict[str, Any]) -> None:
    """A value each ten minutes, null where none came."""
    told = [(0, n * TEN_MINUTES, value) for n, value in enumerate(case["values"]) if value is not None]
    judged = evaluate(rows(told), [Plan(msgspec.convert(case["checks"], Checks), interval=600)])
    check = Check[case["test"].upper()]
    found = [_WORDS[outcomes_of(outcomes)[check]] for outcomes in judged.outcomes]
    assert " ".join(found) == case["expect"]


def test_a_value_is_compared_with_the_median_of_its_neighbours() -> None:
    plans = [Plan(EVERYTHING, 600, [1, 2, 3]), *[Plan(Checks())] * 3]
    near = [(1, 100_000_000, 10.0), (2, -600_000_000, 12.0), (3, 0, 90.0), (1, 3 * TEN_MINUTES, 1.0)]
    judged = evaluate(rows([(0, 0, 18.0), (0, 3 * TEN_MINUTES, 18.0), *near]), plans)
    found = [outcomes_of(one)[Check.NEIGHBOUR] for one in judged.outcomes[:2]]
    assert found == [Outcome.SUSPECT, Outcome.NOT_EVALUATED], "12 of 10, 12, 90; then one neighbour alone"


def test_a_gap_harms_no_flag_and_a_person_has_the_last_word() -> None:
    told = [(0, 0, 1.0), (0, 9 * TEN_MINUTES, 2.0), (0, 10 * TEN_MINUTES, 99.0), (0, 11 * TEN_MINUTES, 4.0)]
    judged = evaluate(
        rows(told, {10 * TEN_MINUTES: 1, 11 * TEN_MINUTES: 4}), [Plan(EVERYTHING, interval=600)]
    )
    assert judged.quality.tolist() == [1, 1, 1, 4]
    assert outcomes_of(judged.outcomes[1])[Check.GAP] is Outcome.SUSPECT
    assert outcomes_of(judged.outcomes[2])[Check.GROSS_RANGE] is Outcome.FAIL, "it is said all the same"


_values = st.integers(-6, 6).map(lambda n: n * 4.5) | st.sampled_from([0.0, 0.25, 0.5, 51.0])
_series = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 60).map(lambda n: n * 150_000_000), _values),
    min_size=1,
    max_size=60,
)


@given(_series, st.dictionaries(st.integers(0, 60).map(lambda n: n * 150_000_000), st.sampled_from([1, 4])),
       st.integers(0, 60))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_what_lies_beyond_its_reach_does_not_matter(
    told: list[tuple[int, int, float]], overrides: dict[int, int], at: int
) -> None:
    every = rows(told, overrides)
    plans = [Plan(EVERYTHING, 600, [1]), Plan(EVERYTHING, 900, [0])]
    moment = JANUARY + at * 150_000_000
    back, ahead = (max(sides) for sides in zip(*(reach(EVERYTHING, i) for i in (600, 900)), strict=True))
    some = (every["time"] >= moment - back) & (every["time"] <= moment + ahead)
    whole, part = evaluate(every, plans), evaluate(every[some], plans)
    there = every[some]["time"] == moment
    assert whole.quality[some][there].tolist() == part.quality[there].tolist()
    assert whole.outcomes[some][there].tolist() == part.outcomes[there].tolist()


@given(_series)
@settings(max_examples=100, deadline=None)
def test_ingest_gives_the_flag_that_single_readings_get_here(told: list[tuple[int, int, float]]) -> None:
    own = {name: getattr(EVERYTHING, name) for name in ("gross_range", "climatology")}
    alone = Checks(**own, gap=None, rate_of_change=None)
    every = rows([(0, time, value) for _, time, value in told])
    readings = np.zeros(len(every), READING_DTYPE)
    readings["time"], readings["value"] = every["time"], every["value"]
    readings["device_id"], readings["metric_id"] = 7, 3
    flags = SingleReading({"water.level": 3}, [Stay(7, StationChecks(None, {"water.level": alone}))])(
        readings
    )
    assert flags.tolist() == evaluate(every, [Plan(alone)]).quality.tolist()


def test_a_device_without_a_station_has_the_catalogues_limits() -> None:
    narrow = StationChecks(None, {"water.level": EVERYTHING})
    flags = SingleReading({"water.level": 3, "air.humidity": 4}, [Stay(2, narrow)])
    readings = np.zeros(4, READING_DTYPE)
    readings["device_id"], readings["metric_id"] = [1, 2, 900, 2], [3, 3, 3, 4]
    readings["value"], readings["time"] = 60.0, JANUARY
    assert flags(readings).tolist() == [1, 4, 1, 1]


def test_a_device_that_moved_has_the_limits_of_its_station_at_the_time() -> None:
    checks = [
        StationChecks(None, {"water.level": Checks(gross_range=GrossRange((0, top)))}) for top in (5, 50)
    ]
    # From 10 to 20 at the first, from 20 to 30 at the other, from 40 on at the first again; 4 never moved.
    stays = [
        Stay(4, checks[1]),
        Stay(2, checks[0], 40),
        Stay(2, checks[1], 20, 30),
        Stay(2, checks[0], 10, 20),
    ]
    flags = SingleReading({"water.level": 3}, stays)
    readings = np.zeros(12, READING_DTYPE)
    readings["metric_id"], readings["value"], readings["device_id"] = 3, 20.0, 2
    readings["time"] = [9, 10, 19, 20, 29, 30, 39, 40, 10**15, 15, 15, 15]
    readings["device_id"][9:] = [1, 4, 5]
    assert flags(readings).tolist() == [1, 4, 4, 1, 1, 1, 1, 4, 4, 1, 1, 1]
    readings["value"][9:] = 51.0
    assert flags(readings)[9:].tolist() == [1, 4, 1]


def test_packing_keeps_the_flag_a_reading_came_with() -> None:
    outcomes = np.zeros((4, len(Check)), np.uint8)
    outcomes[1, 2], outcomes[2, 2], outcomes[3] = Outcome.FAIL, Outcome.SUSPECT, Outcome.NOT_EVALUATED
    base, quality = np.array([1, 1, 4, 3]), np.array([1, 4, 3, 1])
    tests = pack(base, quality, outcomes)
    assert tests[0] == -1, "nothing was found"
    assert base_flag(quality, tests).tolist() == base.tolist()
    assert [unpack(int(one)) for one in tests[1:]] == [
        {Check.SPIKE: Outcome.FAIL}, {Check.SPIKE: Outcome.SUSPECT}, {}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"water.lvl": {}}, "metrics.water.lvl: unknown metric"),
        ({"water.level": {"spike": {"suspect": "high"}}}, "metrics.water.level.spike.suspect: Expected"),
        ({"water.level": {"spyke": {}}}, "unknown field `spyke`"),
        ({"water.level": {"spike": {"suspect": 2, "fail": 1}}}, "spike.fail: must be greater"),
        ({"water.level": {"gross_range": {"fail": [3, 1]}}}, "gross_range.fail: [lowest, highest]"),
        ({"water.level": {"flat_line": {"tolerance": 0}}}, "flat_line.suspect: after how many seconds"),
        ({"water.level": {"attenuated": {"window": 90000, "suspect": 1}}}, "attenuated.window: seconds"),
        ({"water.level": {"climatology": [{"months": [13], "suspect": [0, 1]}]}}, "climatology[0].months"),
    ],
)
def test_settings_that_cannot_be_meant_are_told(metrics: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_station_checks({"metrics": metrics}, CATALOGUE)
    assert words in str(told.value)


def test_a_stations_tests_replace_the_catalogues_one_by_one() -> None:
    station = parse_station_checks({"metrics": {"water.level": {"rate_of_change": None}}}, CATALOGUE)
    checks = checks_of("water.level", station)
    assert checks.get(Check.RATE_OF_CHANGE) is None
    assert checks.get(Check.GROSS_RANGE).fail == CATALOGUE["water.level"].range
    assert checks_of("water.level").get(Check.RATE_OF_CHANGE) is not None


@pytest.mark.parametrize("metric", sorted(CATALOGUE))
def test_the_catalogue_asks_for_nothing_that_cannot_be_meant(metric: str) -> None:
    checks = CATALOGUE[metric].quality_checks
    assert checks.faults() == []
    own = CATALOGUE[metric].checks
    if own != Checks():
        assert own.source
        assert own.certainty in ("high", "medium", "low")
    back, ahead = reach(checks, 600)
    assert back <= 86_400_000_000
    assert ahead <= 86_400_000_000


def test_no_flood_is_flagged_away() -> None:
    """A flash flood rises four metres in half an hour and falls as fast: good, or suspect at the worst."""
    level = [1.0, 1.0, 1.1, 2.4, 4.0, 5.2, 5.0, 3.9, 2.2, 1.3, 1.1]
    rain = [0.0, 0.0, 22.0, 41.0, 35.0, 30.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    for metric, values in {"water.level": level, "water.depth": level, "rain.increment": rain}.items():
        told = [(0, n * TEN_MINUTES, value) for n, value in enumerate(values)]
        judged = evaluate(rows(told), [Plan(checks_of(metric), interval=600)])
        assert judged.quality.tolist() == [Quality.GOOD] * len(values), metric
