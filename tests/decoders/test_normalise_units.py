"""Units and absent values of a map, through to the reading."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.device_types import DeviceType, parse_device_type
from decoders.normalise import Normalised, normalise
from telemetry.catalogue import CATALOGUE


def _type(*entries: dict[str, Any]) -> DeviceType:
    head = {"id": "t", "vendor": "v", "model": "m", "codec": "c", "expected_interval": 600}
    return parse_device_type(head | {"map": list(entries)}, CATALOGUE)


def _run(fields: Any, *entries: dict[str, Any], **variables: float) -> Normalised:
    return normalise(fields, _type(*entries), variables)


@pytest.mark.parametrize(
    ("raw", "entry", "value"),
    [
        (320, {"metric": "air.temperature", "unit": "[degF]", "scale": 0.1}, 0),
        (212, {"metric": "air.temperature", "unit": "[degF]"}, 100),
        (272, {"metric": "air.temperature", "scale": 0.1}, 27.2),
        (300.15, {"metric": "air.temperature", "unit": "K"}, 27),
        (1013, {"metric": "air.pressure", "unit": "mbar"}, 1013),
        (3600, {"metric": "battery.voltage", "unit": "mV"}, 3.6),
        ("2500", {"metric": "water.level", "unit": "mm", "scale": -1, "offset": 12}, 9.5),
        (100, {"metric": "air.no2", "unit": "[ppb]"}, 188.04104183071189),
    ],
)
def test_units(raw: Any, entry: dict[str, Any], value: float) -> None:
    (found,) = _run({"x": raw}, {"field": "x"} | entry).values
    assert found.value == pytest.approx(value, rel=1e-12, abs=1e-12)
    assert math.copysign(1, found.value) == 1


def test_a_variable_is_added_after_the_conversion() -> None:
    entry = {"field": "x", "metric": "air.temperature", "unit": "K", "offset": {"variable": "bias"}}
    (found,) = _run({"x": 273.15}, entry, bias=0.5).values
    assert found.value == pytest.approx(0.5)
    assert _run({"x": 273.15}, entry).values == []


@pytest.mark.parametrize(
    ("raw", "absent", "is_absent"),
    [
        (255, [255], True),
        (255.0, [255], True),
        ("255", [255], True),
        ("255.0", [0, 255], True),
        (254, [255], False),
        (-0.0, [0], True),
        (False, [0], True),
        (True, [0], False),
        ("n/a", ["n/a"], True),
        ("N/A", ["n/a"], False),
        (255, ["255"], False),
        ("255", ["255"], True),
        (-32768, [32767, -32768], True),
        (math.nan, [0], False),
    ],
)
def test_absent_values_say_nothing(raw: Any, absent: list[Any], is_absent: bool) -> None:
    found = _run({"x": raw}, {"field": "x", "metric": "battery.level", "scale": 0.5, "absent": absent})
    assert bool(found.values or found.problems) != is_absent
    assert found.unmapped == []


def test_a_battery_byte() -> None:
    entries = (
        {"field": "battery", "metric": "battery.level", "scale": 0.3937007874015748, "absent": [0, 255]},
        {"field": "battery", "metric": "power.external", "offset": 1, "when": {"battery": 0}},
    )

    def read(byte: int) -> dict[str, float]:
        return {value.metric: value.value for value in _run({"battery": byte}, *entries).values}

    assert read(0) == {"power.external": 1}
    assert read(255) == {}
    assert read(254) == {"battery.level": 100}


def test_a_datalog_is_read_by_itself_and_is_not_unmapped() -> None:
    log = {"field": "t", "metric": "air.temperature", "records": {"list": "log", "time": "at"}}
    found = _run({"t": 5, "log": [{"at": 1, "t": 7}]}, log)
    assert (found.values, found.problems, found.unmapped) == ([], [], ["t"])


@given(
    st.sampled_from(
        [("[degF]", "air.temperature"), ("kPa", "air.pressure"), ("[ppb]", "air.o3"), ("mm", "distance")]
    ),
    st.integers() | st.floats() | st.text("0123456789.-e", max_size=8),
    st.lists(st.integers(-5, 5), max_size=3),
)
def test_a_value_is_finite_and_in_the_catalogues_unit(
    pair: tuple[str, str], raw: Any, absent: list[int]
) -> None:
    unit, metric = pair
    entry = {"field": "x", "metric": metric, "unit": unit} | ({"absent": absent} if absent else {})
    found = _run({"x": raw}, entry)
    assert len(found.values) + len(found.problems) <= 1
    assert all(math.isfinite(value.value) and value.metric == metric for value in found.values)
