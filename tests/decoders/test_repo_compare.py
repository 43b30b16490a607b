"""Comparing a codec's output with its vector, as the repositories' own validators do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.devicerepo.compare import differences, differing
from decoders.devicerepo.model import Function, Origin, Vector
from decoders.javascript.calls import Outcome


def compare(
    expected: dict[str, Any], outcome: Outcome, function: Function = "decode_uplink", origin: Origin = "ttn"
) -> list[str]:
    return differences(Vector(origin, "c", function, "", "f", "p", expected), outcome)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (1, 1.0),
        (0, -0.0),
        (float("nan"), float("nan")),
        (9007199254740993, 9007199254740992.0),
        (10**400, float("inf")),
        ("on", "on"),
        ([1, [2, {}]], [1.0, [2.0, {}]]),
        ({1: "a", "b": None}, {"b": None, "1": "a"}),
    ],
)
def test_equal(expected: Any, actual: Any) -> None:
    assert list(differing(expected, actual, "data")) == []


@pytest.mark.parametrize(
    ("expected", "actual", "line"),
    [
        ({"t": 21.5}, {"t": 21.4}, "data.t: expected 21.5, got 21.4"),
        ({"t": 21}, {"t": 21.000000000000004}, "data.t: expected 21, got 21.000000000000004"),
        ({"t": 1}, {"t": True}, "data.t: expected 1, got true"),
        ({"t": False}, {"t": 0}, "data.t: expected false, got 0"),
        ({"t": "1"}, {"t": 1}, "data.t: expected '1', got 1"),
        ({"t": None}, {"t": 0.0}, "data.t: expected null, got 0"),
        ({"t": 1}, {}, "data.t: expected 1, got nothing"),
        ({"t": None}, {}, "data.t: expected null, got nothing"),
        ({}, {"t": None}, "data.t: expected nothing, got null"),
        ({"a": [1, 2]}, {"a": [1]}, "data.a.1: expected 2, got nothing"),
        ({"a": [1]}, {"a": {"0": 1}}, "data.a: expected [1], got {'0': 1}"),
        ({"a": "x" * 300}, {"a": 1}, f"data.a: expected '{'x' * 119}…, got 1"),
    ],
)
def test_different(expected: Any, actual: Any, line: str) -> None:
    assert list(differing(expected, actual, "data")) == [line]


_LEAF = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_infinity=False) | st.text()
_JSON = st.recursive(_LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(_JSON)
def test_what_went_through_json_is_the_same(value: Any) -> None:
    assert list(differing(value, json.loads(json.dumps(value)), "data")) == []


@given(st.lists(_JSON, min_size=1), st.data())
def test_one_change_is_one_line_with_its_place(values: list[Any], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(values) - 1))
    changed = [*values[:index], {"not": "there before"}, *values[index + 1 :]]
    values[index] = data.draw(_LEAF)
    (line,) = differing(values, changed, "data")
    assert line.startswith(f"data.{index}: expected ")


def test_every_difference_is_told() -> None:
    outcome = Outcome(data={"a": 1, "b": 2}, warnings=["w"])
    assert compare({"data": {"a": 2, "b": 3}}, outcome) == [
        "data.a: expected 2, got 1",
        "data.b: expected 3, got 2",
        "warnings.0: expected nothing, got 'w'",
    ]


def test_undefined_is_null_to_the_things_network_only() -> None:
    assert compare({"data": {"a": None}}, Outcome(data={})) == []
    assert compare({"data": {"a": None}}, Outcome(data={}), origin="chirpstack") == [
        "data.a: expected null, got nothing"
    ]


def test_errors_are_compared_and_their_data_is_not() -> None:
    assert compare({"errors": ["e"], "data": {}}, Outcome(errors=["e"])) == []
    assert compare({"errors": ["e"]}, Outcome(errors=["f"])) == ["errors.0: expected 'e', got 'f'"]
    assert compare({"errors": ["e"]}, Outcome(data={})) == ["errors.0: expected 'e', got nothing"]
    assert compare({"data": {}}, Outcome(errors=["f"])) == ["errors.0: expected nothing, got 'f'"]
    assert compare({"data": {}, "errors": [], "warnings": []}, Outcome(data={})) == []


def test_a_failure_never_passes() -> None:
    outcome = Outcome(errors=["unknown fPort"], failure="threw")
    assert compare({"errors": ["unknown fPort"]}, outcome) == ["threw: unknown fPort"]


def test_encoded_downlinks() -> None:
    outcome = Outcome(data={"bytes": [1, 2], "fPort": 3})
    assert compare({"bytes": [1, 2], "fPort": 3, "port": "3"}, outcome, "encode_downlink") == []
    assert compare({"bytes": [1, 3]}, outcome, "encode_downlink") == [
        "fPort: expected nothing, got 3",
        "bytes.1: expected 3, got 2",
    ]
    assert compare({"bytes": []}, Outcome(), "encode_downlink") == ["bytes: expected [], got nothing"]


def test_one_normalized_measurement_is_a_list_of_it() -> None:
    assert compare({"data": [{"t": 1}]}, Outcome(data={"t": 1}), "normalize_uplink") == []
    assert compare({"data": {"t": 1}}, Outcome(data=[{"t": 1}]), "normalize_uplink") == []
    assert compare({"data": {"t": 1}}, Outcome(data=[]), "normalize_uplink") == [
        "data.0: expected {'t': 1}, got nothing"
    ]
