"""Normalized payloads: every path of the vocabulary, times, channels, and whatever else may stand there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from decoders.javascript.calls import Outcome
from decoders.normalized import (
    MOST_MEASUREMENTS,
    UNDERSTOOD,
    VOCABULARY,
    WORDS,
    Measured,
    read_codecs_own,
    read_normalized,
)
from telemetry.catalogue import CATALOGUE
from telemetry.units import conversion
from tests.docs.pages import section, table_rows

PAGE = Path(__file__).parents[2] / "docs/reference/normalisation.md"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# Numbers as a station may send them, and what they are in the catalogue's units.
REAL = {
    "battery": (3.6, 3.6),
    "soil.moisture": (55, 55),
    "soil.temperature": (8.1, 8.1),
    "soil.ec": (1.25, 1250),
    "soil.pH": (6.5, 6.5),
    "air.temperature": (-1.3, -1.3),
    "air.relativeHumidity": (43.9, 43.9),
    "air.pressure": (1013.2, 1013.2),
    "air.co2": (415, 415),
    "air.lightIntensity": (400, 400),
    "wind.speed": (5.2, 5.2),
    "wind.direction": (321, 321),
    "rain.intensity": (25, 25),
    "rain.cumulative": (500.2, 500.2),
    "water.leak": (True, 1),
    "water.temperature.current": (15.6, 15.6),
    "water.temperature.avg": (15.1, 15.1),
    "metering.water.total": (125.6, 0.1256),
    "action.contactState": ("open", 1),
    "position.latitude": (11.05, 11.05),
    "position.longitude": (107.13, 107.13),
}


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def read(payload: object, *taken: str) -> Measured:
    return read_normalized("n", payload, NOW, taken)


def told(payload: object, *taken: str) -> dict[tuple[str, int], float]:
    """Of a payload without faults."""
    found = read(payload, *taken)
    assert (found.problems, found.logged) == ([], [])
    assert len({(one.metric, one.channel) for one in found.values}) == len(found.values)
    return {(one.metric, one.channel): one.value for one in found.values}


@pytest.mark.parametrize("quantity", VOCABULARY, ids=lambda one: one.path)
def test_each_path(quantity: Any) -> None:
    raw, value = REAL[quantity.path]
    found = told(nested(quantity.path, raw))
    assert found == {(quantity.metric, 0): pytest.approx(value, rel=1e-15)}
    assert CATALOGUE[quantity.metric].range[0] <= value <= CATALOGUE[quantity.metric].range[1]


@pytest.mark.parametrize("quantity", VOCABULARY, ids=lambda one: one.path)
def test_the_scales_are_those_of_the_units(quantity: Any) -> None:
    assert conversion(quantity.unit, quantity.metric) == (pytest.approx(quantity.scale, abs=0), 0)


def test_the_page_has_the_table() -> None:
    text = section(PAGE.read_text(encoding="utf-8"), "## Normalized payloads")
    rows = {tuple(row) for row in table_rows(text) if len(row) == 3}
    assert rows == {
        ("in the measurement", "unit there", "metric"),
        *((one.path, one.unit, one.metric) for one in VOCABULARY),
    }
    assert f"the first {MOST_MEASUREMENTS} of a list are read" in text


def test_all_of_a_measurement_at_once() -> None:
    found = read(
        {
            "battery": 3.3,
            "soil": {"moisture": 55, "n": 1234, "p": 5678},
            "air": {"location": "outdoor", "temperature": 21.5},
            "water": {
                "leak": "true",
                "temperature": {"min": 13.5, "max": 18.0, "avg": 15.1, "current": 15.6},
            },
            "action": {"motion": {"detected": True, "count": 55}, "contactState": "closed"},
            "later": {"than": "us"},
        }
    )
    assert {(one.metric, one.value) for one in found.values} == {
        ("battery.voltage", 3.3),
        ("soil.moisture", 55),
        ("air.temperature", 21.5),
        ("water.leak", 1),
        ("water.temperature", 15.6),
        ("door.open", 0),
    }
    assert found.problems == []
    assert sorted(found.unmapped) == [
        "n.0.action.motion", "n.0.air.location", "n.0.later", "n.0.soil.n", "n.0.soil.p",
        "n.0.water.temperature.max", "n.0.water.temperature.min",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("leak", "value"), [(True, 1), (False, 0), ("true", 1), ("false", 0), (1, 1), (None, None)]
)
def test_leaks(leak: Any, value: float | None) -> None:
    assert told({"water": {"leak": leak}}) == ({} if value is None else {("water.leak", 0): value})


def test_words_of_their_own_places_only() -> None:
    for (group, name), meanings in WORDS.items():
        for word, value in meanings.items():
            assert list(told({group: {name: word}}).values()) == [value]
        assert read({group: {name: "ajar"}}).problems == [f"n.0.{group}.{name}: not a number: 'ajar'"]
    assert read({"air": {"temperature": "open"}}).problems == ["n.0.air.temperature: not a number: 'open'"]


def test_what_the_map_names_is_not_taken() -> None:
    payload = {"air": {"temperature": 21.5, "co2": 400}, "battery": 3.3}
    assert told(payload, "air.temperature", "battery.voltage") == {("air.co2", 0): 400}
    assert read(payload, "air.temperature").unmapped == []


def test_a_list_of_one_is_that_one() -> None:
    assert told([{"battery": 3.3}]) == told({"battery": 3.3})
    assert read([]) == read([{}]) == Measured([], [], [], [])


def test_channels_count_the_group() -> None:
    payload = [
        {"air": {"temperature": 1}},
        {"soil": {"moisture": 10}},
        {"air": {"relativeHumidity": 50}, "soil": {"temperature": 11}},
        {"air": {}, "soil": None},
        {"air": {"temperature": 3, "relativeHumidity": 60}},
    ]
    assert told(payload) == {
        ("air.temperature", 0): 1,
        ("air.humidity", 1): 50,
        ("air.temperature", 2): 3,
        ("air.humidity", 2): 60,
        ("soil.moisture", 0): 10,
        ("soil.temperature", 1): 11,
    }


def test_a_depth_is_the_channel() -> None:
    probes = [{"soil": {"depth": depth, "moisture": depth}} for depth in (10, 29.5, 0, 32_767)]
    assert told([{"soil": {"moisture": 5}}, *probes]) == {
        ("soil.moisture", 0): 5,  # the probe at the surface comes second
        ("soil.moisture", 10): 10,
        ("soil.moisture", 30): 29.5,
        ("soil.moisture", 32_767): 32_767,
    }
    assert told(probes[1:2]) == {("soil.moisture", 30): 29.5}


@pytest.mark.parametrize("depth", [-1, 32_768, 10**400, float("nan"), float("inf"), "10", True, [1]])
def test_what_is_no_depth_costs_the_soil(depth: Any) -> None:
    found = read([{"soil": {"depth": depth, "moisture": 5}, "battery": 3}])
    assert [one.metric for one in found.values] == ["battery.voltage"]
    assert found.problems == ["n.0.soil.depth: not from 0 to 32767 cm"]


def test_times_make_readings_of_the_past() -> None:
    earlier = NOW - timedelta(hours=1)
    found = read(
        [
            {"time": "2026-11-21T18:00:00+07:00", "air": {"temperature": 1}},
            {"time": "2026-11-21T11:00:00.000000000Z", "air": {"temperature": 2}},
            {"time": NOW.isoformat(), "air": {"temperature": 3}},
            {"air": {"temperature": 4}},
        ]
    )
    assert found.problems == []
    assert found.logged == [(earlier, "air.temperature", 0, 1), (earlier, "air.temperature", 1, 2)]
    assert [(one.metric, one.channel, one.value) for one in found.values] == [
        ("air.temperature", 0, 3),
        ("air.temperature", 1, 4),
    ]


@pytest.mark.parametrize(
    ("time", "fault"),
    [
        ("2026-11-21T12:05:01Z", "later than the uplink"),
        ("1999-12-31T23:59:59Z", "before 2000"),
        ("2026-11-21T12:00:00", "not a time"),
        ("yesterday", "not a time"),
        (1_700_000_000, "not a time"),
        ({}, "not a time"),
    ],
)
def test_a_time_nobody_believes_costs_its_measurement(time: Any, fault: str) -> None:
    found = read([{"time": time, "battery": 3}, {"battery": 4}])
    assert [one.value for one in found.values] == [4]
    assert found.logged == []
    (problem,) = found.problems
    assert problem.startswith("n.0.time: ")
    assert fault in problem


@pytest.mark.parametrize("payload", [None, 5, "air", True, 1.5])
def test_what_is_no_payload(payload: object) -> None:
    assert read(payload) == Measured([], [], ["n: neither a measurement nor a list of them"], [])


def test_what_is_no_measurement() -> None:
    found = read([5, None, ["x"], {"battery": 3}, {"air": 7}, {"air": [1]}])
    assert [one.value for one in found.values] == [3]
    assert found.problems == [f"n.{n}: no measurement" for n in range(3)]


def test_numbers_without_a_value() -> None:
    found = read(
        {"air": {"temperature": "NaN", "pressure": 10**400, "co2": {}, "relativeHumidity": float("nan")}}
    )
    assert found.values == []
    assert [problem.partition(": ")[0] for problem in found.problems] == [
        "n.0.air.temperature", "n.0.air.relativeHumidity", "n.0.air.pressure", "n.0.air.co2",
    ]  # fmt: skip


def test_a_huge_list_is_cut() -> None:
    found = read([{"battery": n} for n in range(100_000)])
    assert [one.channel for one in found.values] == list(range(MOST_MEASUREMENTS))
    assert found.problems == [f"n: 100000 measurements; the first {MOST_MEASUREMENTS} are read"]


def test_counters_are_known() -> None:
    then = (NOW - timedelta(hours=1)).isoformat()
    found = read(
        [{"rain": {"cumulative": 5, "intensity": 1}}, {"time": then, "metering": {"water": {"total": 1}}}]
    )
    assert found.counters() == {"rain.total", "water.volume"}


def test_what_a_codec_says_of_its_own() -> None:
    assert read_codecs_own(Outcome(errors=["a", "b"], failure="threw"), NOW).problems == [
        "normalizeUplink: a; b"
    ]
    found = read_codecs_own(Outcome(data={"battery": 3}, warnings=["low"]), NOW)
    assert [one.value for one in found.values] == [3]
    assert found.problems == ["normalizeUplink: warning: low"]
    assert read_codecs_own(Outcome(), NOW) == Measured([], [], [], [])


def test_the_vocabulary_is_sound() -> None:
    assert {one.metric for one in VOCABULARY} <= CATALOGUE.keys()
    groups: dict[str, set[str]] = {}
    for one in VOCABULARY:
        groups.setdefault(one.metric, set()).add(one.path.partition(".")[0])
    assert all(len(group) == 1 for group in groups.values())
    assert not UNDERSTOOD & {one.path for one in VOCABULARY}
    assert {f"{group}.{name}" for group, name in WORDS} <= {one.path for one in VOCABULARY}
