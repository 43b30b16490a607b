"""docs/reference/normalisation.md, row by row: what every kind of field comes to."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from decoders.device_types import DeviceType, parse_device_type
from decoders.normalise import Normalised, normalise
from telemetry.catalogue import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs/reference/normalisation.md"
NONE = object()
"""No value, and no fault."""


def _type(*entries: dict[str, Any]) -> DeviceType:
    head = {"id": "t", "vendor": "v", "model": "m", "codec": "c", "expected_interval": 600}
    return parse_device_type(head | {"map": list(entries)}, CATALOGUE)


def _run(fields: Any, *entries: dict[str, Any]) -> Normalised:
    return normalise(fields, _type(*entries), {})


def _meaning(raw: Any, **entry: Any) -> Any:
    """The value, NONE, or the problem's text."""
    found = _run({"x": raw}, {"field": "x", "metric": "distance"} | entry)
    assert len(found.values) + len(found.problems) <= 1
    if found.problems:
        return found.problems[0]
    return found.values[0].value if found.values else NONE


@pytest.mark.parametrize(
    ("raw", "value"),
    [(1, 1), (1.0, 1), (True, 1), (False, 0), ("2.50", 2.5), (" -1e2 ", -100), (".5", 0.5), ("1", 1)],
)
def test_numbers(raw: Any, value: float) -> None:
    found = _meaning(raw)
    assert found == value
    assert type(found) is float


@pytest.mark.parametrize("raw", [-0.0, "-0", "-0.0", 0, 0.0])
@pytest.mark.parametrize("entry", [{}, {"scale": -1}, {"scale": -0.1}])
def test_minus_zero_is_zero(raw: Any, entry: dict[str, Any]) -> None:
    assert math.copysign(1, _meaning(raw, **entry)) == 1


@pytest.mark.parametrize("fields", [{"x": None}, {}, {"y": 1}])
def test_null_and_what_is_missing_say_nothing(fields: dict[str, Any]) -> None:
    found = _run(fields, {"field": "x", "metric": "distance"})
    assert (found.values, found.problems) == ([], [])


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "No Sensor",
        "12,5",
        "1,500",
        "1_000",
        "0x10",
        "nan",
        "Infinity",
        "٣",
        "1" * 65,
        [],
        [1],
        [[1]],
        {},
        {"a": 1},
    ],
)
def test_what_is_no_number(raw: Any) -> None:
    assert _meaning(raw).startswith("x: not a number")


@pytest.mark.parametrize("raw", [math.nan, math.inf, -math.inf, "1e999", 10**400, -(10**400)])
def test_what_is_not_finite(raw: Any) -> None:
    assert _meaning(raw).endswith("gives no finite distance")


def test_what_becomes_infinite_when_scaled() -> None:
    assert _meaning(1e308, scale=100) == "x: 1e+308 gives no finite distance"


def test_nested_lists_and_objects_are_reached_by_paths() -> None:
    fields = {"probes": [[{"level": 1}], [{"level": 2}, {"level": "3"}]], "gps": {"fix": [True]}}
    found = _run(
        fields,
        {"field": "probes.1.0.level", "metric": "distance"},
        {"field": "probes.1.1.level", "metric": "distance", "channel": 1},
        {"field": "gps.fix.0", "metric": "door.open"},
        {"field": "probes.0", "metric": "distance", "channel": 2},
        {"field": "probes.-1.0.level", "metric": "distance", "channel": 3},
    )
    assert [(value.metric, value.channel, value.value) for value in found.values] == [
        ("distance", 0, 2),
        ("distance", 1, 3),
        ("door.open", 0, 1),
    ]
    assert found.problems == ["probes.0: not a number: a list"]


@pytest.mark.parametrize(
    ("raw", "expected", "holds"),
    [
        (1, 1.0, True),
        (1.0, 1, True),
        (True, 1, True),
        (1, True, True),
        (-0.0, 0, True),
        ("ok", "ok", True),
        ("OK", "ok", False),
        ("1", 1, False),
        (1, "1", False),
        (None, 0, False),
        (math.nan, 0, False),
        ([1], 1, False),
    ],
)
def test_conditions(raw: Any, expected: Any, holds: bool) -> None:
    found = _run({"x": 7, "s": raw}, {"field": "x", "metric": "distance", "when": {"s": expected}})
    assert [value.value for value in found.values] == ([7] if holds else [])


def test_nothing_is_a_sentinel_that_no_map_names() -> None:
    assert [_meaning(raw) for raw in (255, 32767, -32768, 65535, 0)] == [255, 32767, -32768, 65535, 0]


def test_the_page_tells_of_each() -> None:
    text = PAGE.read_text(encoding="utf-8")
    told = set(re.findall(r"`([^`]+)`", text.split("## What an entry says")[0]))
    shown = ("1.0", "true", "null", '"2.50"', "-0.0", '""', '"12,5"', '"1_000"', '"0x10"', '"nan"', '"1e999"')
    assert set(shown) <= told
