"""From fields to values: what counts as a number, what is skipped, what is a problem."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.device_types import DeviceType, MapEntry, Variable
from decoders.normalise import Normalised, Value, compile_mapping, normalise


def _type(*entries: MapEntry) -> DeviceType:
    return DeviceType(id="t", vendor="v", model="m", codec="c", expected_interval=60, mapping=entries)


def _entry(field: str = "x", metric: str = "distance", **more: Any) -> MapEntry:
    return MapEntry(field=field, metric=metric, **more)


def _run(fields: dict[str, Any], *entries: MapEntry, **variables: float) -> Normalised:
    return normalise(fields, _type(*entries), variables)


def _one(raw: Any, **more: Any) -> float:
    (value,) = _run({"x": raw}, _entry(**more)).values
    return value.value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (3, 3),
        (2.5, 2.5),
        (True, 1),
        (False, 0),
        ("2.50", 2.5),
        (" -1e2 ", -100),
        (".5", 0.5),
        ("7.", 7),
        (-0.0, 0),
    ],
)
def test_what_is_a_number(raw: Any, value: float) -> None:
    result = _one(raw)
    assert result == value
    assert isinstance(result, float)
    assert math.copysign(1, result) == (-1 if value < 0 else 1)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("", "x: not a number: ''"),
        ("No Sensor", "x: not a number: 'No Sensor'"),
        ("12,5", "x: not a number: '12,5'"),
        ("1_000", "x: not a number: '1_000'"),
        ("0x10", "x: not a number: '0x10'"),
        ("nan", "x: not a number: 'nan'"),
        ("Infinity", "x: not a number: 'Infinity'"),
        ("٣", "x: not a number: '٣'"),
        ({"a": 1}, "x: not a number: an object"),
        ([1], "x: not a number: a list"),
        (math.nan, "x: nan gives no finite distance"),
        (math.inf, "x: inf gives no finite distance"),
        (-math.inf, "x: -inf gives no finite distance"),
        ("1e999", "x: '1e999' gives no finite distance"),
        (10**400, "x: a whole number too large gives no finite distance"),
    ],
)
def test_what_is_a_problem(raw: Any, problem: str) -> None:
    assert _run({"x": raw}, _entry()) == Normalised([], [problem], [])


def test_a_problem_costs_its_own_field_only() -> None:
    result = _run({"x": "?", "y": 1}, _entry(), _entry("y", "water.level"))
    assert result.values == [Value("water.level", 0, 1)]
    assert len(result.problems) == 1


def test_a_result_beyond_float_is_a_problem() -> None:
    assert _run({"x": 1e308}, _entry(scale=100.0)).problems == ["x: 1e+308 gives no finite distance"]


def test_null_and_missing_fields_are_skipped() -> None:
    assert _run({"x": None}, _entry(), _entry("y", channel=1)) == Normalised([], [], [])


def test_scale_and_offset() -> None:
    assert _one(250, scale=0.1, offset=-40.0) == -15
    assert _one(-5, scale=-1.0) == 5
    assert _one(0, scale=-1.0) == 0


@pytest.mark.parametrize("scale", [0.1, 0.01, 0.001, 0.2, 1e-300, 123.456])
def test_a_decimal_scale_gives_the_nearest_decimal(scale: float) -> None:
    assert _one(272, scale=scale) == pytest.approx(272 * scale, rel=1e-15)
    assert _one(272, scale=0.1) == 27.2


def test_a_variable_of_the_device_is_the_offset() -> None:
    level = _entry(metric="water.level", scale=-0.001, offset=Variable("sensor_elevation_m"))
    assert _run({"x": 2500}, level, sensor_elevation_m=12.5).values == [Value("water.level", 0, 10)]
    assert _run({"x": 2500}, level) == Normalised([], [], [])
    assert _run({"x": 2500}, level, sensor_elevation_m=math.nan).problems == [
        "x: 2500 gives no finite water.level"
    ]


def test_paths_into_objects_and_lists() -> None:
    fields = {"gps": {"lat": 16.5, "fix": {"ok": 1}}, "probes": [{"d": 1}, {"d": 2}]}
    result = _run(fields, _entry("gps.lat"), _entry("probes.1.d", channel=1), _entry("gps.fix.ok", channel=2))
    assert [(value.channel, value.value) for value in result.values] == [(0, 16.5), (2, 1), (1, 2)]


@pytest.mark.parametrize("fields", [{}, {"a": 1}, {"a": {"c": 1}}, {"a": []}, {"a": [1]}, {"a": None}])
def test_a_path_that_leads_nowhere_is_skipped(fields: dict[str, Any]) -> None:
    result = _run(fields, _entry("a.b"), _entry("a.7", channel=1))
    assert (result.values, result.problems) == ([], [])


def test_a_condition_chooses() -> None:
    entries = (
        _entry("x", when=(("kind", "level"), ("ok", True))),
        _entry("x", "water.level", when=(("kind", "tank"),)),
    )
    assert _run({"x": 1, "kind": "level", "ok": True}, *entries).values == [Value("distance", 0, 1)]
    assert _run({"x": 1, "kind": "level", "ok": False}, *entries).values == []
    assert _run({"x": 1, "kind": "tank"}, *entries).values == [Value("water.level", 0, 1)]
    assert _run({"x": 1}, *entries).values == []


def test_one_field_can_feed_two_metrics() -> None:
    result = _run({"x": 5}, _entry(), _entry(metric="water.level", scale=2.0))
    assert result.values == [Value("distance", 0, 5), Value("water.level", 0, 10)]


def test_unmapped_fields_are_named() -> None:
    fields = {
        "x": 1,
        "y": 2,
        "z": None,
        "gps": {"lat": 1, "alt": 2},
        "acc": {"x": 1},
        "log": [{"d": 1, "e": 2}, 3],
    }
    entries = (_entry(when=(("z", 1),)), _entry("gps.lat"), _entry("log.0.d", channel=1))
    assert _run(fields, *entries).unmapped == ["y", "gps.alt", "acc", "log.0.e", "log.1"]


def test_a_mapped_field_without_a_value_is_not_unmapped() -> None:
    assert _run({"x": 1}, _entry(offset=Variable("datum_m"))).unmapped == []


_FIELD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("0123.e-+ xN", max_size=6)
    | st.floats().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["x", "y", "a"]), _FIELD),
    st.floats(allow_nan=False, allow_infinity=False).filter(bool),
    st.floats(),
)
def test_every_value_is_finite_and_every_field_accounted_for(
    fields: dict[str, Any], scale: float, variable: float
) -> None:
    run = compile_mapping(
        _type(_entry(scale=scale), _entry("y", "water.level", offset=Variable("v")), _entry("a.b", channel=1))
    )
    result = run(fields, {"v": variable})
    assert all(math.isfinite(value.value) and str(value.value) != "-0.0" for value in result.values)
    assert len(result.values) + len(result.problems) <= 3
    for name in ("x", "y"):
        if fields.get(name) is not None:
            metric = "distance" if name == "x" else "water.level"
            found = any(value.metric == metric and value.channel == 0 for value in result.values)
            assert found != any(problem.startswith(f"{name}:") for problem in result.problems)
    assert run(fields, {"v": variable}) == result
