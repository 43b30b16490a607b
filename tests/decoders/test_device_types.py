"""Device types: what is refused, and that the message says where."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from decoders.device_types import (
    DeviceType,
    MapEntry,
    Records,
    Variable,
    builtin_device_types,
    check_variables,
    parse_device_type,
    read_device_types,
)
from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError

ROOT = Path(__file__).parents[2]
METRICS = frozenset({"water.level", "water.temperature", "distance", "battery.voltage", "rain.total"})


def _data(**changes: Any) -> dict[str, Any]:
    return {
        "id": "acme-tide",
        "vendor": "Acme",
        "model": "Tide",
        "codec": "acme-tide",
        "expected_interval": 600,
        "map": [
            {"field": "level", "metric": "water.level", "offset": {"variable": "datum_m"}},
            {"field": "probe.t", "metric": "water.temperature", "channel": 2, "scale": 0.1, "offset": -40},
            {"field": "d", "metric": "distance", "when": {"state": "ok", "mode": 1}},
            {"field": "mv", "metric": "battery.voltage", "unit": "mV", "absent": [0, 65535, "n/a"]},
            {"field": "tips", "metric": "rain.total", "scale": 0.2, "wraps": 65536},
            {"field": "v", "metric": "distance", "records": {"list": "log", "time": "at", "clock": "ms"}},
            {"field": "w", "metric": "distance", "channel": 1, "records": {"list": "log", "time": "at"}},
        ],
    } | changes


def _fault(**changes: Any) -> str:
    with pytest.raises(UsageError) as raised:
        parse_device_type(_data(**changes), METRICS)
    return str(raised.value)


def _map_fault(**entry: Any) -> str:
    return _fault(map=[{"field": "level", "metric": "water.level"} | entry])


def test_reads_every_kind_of_entry() -> None:
    assert parse_device_type(_data(), METRICS) == DeviceType(
        id="acme-tide",
        vendor="Acme",
        model="Tide",
        codec="acme-tide",
        expected_interval=600,
        mapping=(
            MapEntry(field="level", metric="water.level", offset=Variable("datum_m")),
            MapEntry(field="probe.t", metric="water.temperature", channel=2, scale=0.1, offset=-40.0),
            MapEntry(field="d", metric="distance", when=(("state", "ok"), ("mode", 1))),
            MapEntry(field="mv", metric="battery.voltage", unit="mV", absent=(0.0, 65535.0, "n/a")),
            MapEntry(field="tips", metric="rain.total", scale=0.2, wraps=65536),
            MapEntry(field="v", metric="distance", records=Records("log", "at", "ms")),
            MapEntry(field="w", metric="distance", channel=1, records=Records("log", "at")),
        ),
    )


def test_to_dict_is_what_was_read() -> None:
    assert parse_device_type(_data(), METRICS).to_dict() == _data()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "id: is missing"),
        ({"id": "Acme Tide"}, "id: 'Acme Tide' is not made of a-z, 0-9, '.', '_' and '-'"),
        ({"vendor": 7}, "vendor: a text is needed, got 7"),
        ({"codec": " "}, "codec: a text is needed, got ' '"),
        ({"expected_interval": None}, "expected_interval: is missing"),
        ({"expected_interval": 0}, "expected_interval: a whole number from 1 is needed, got 0"),
        ({"expected_interval": "10 min"}, "expected_interval: a whole number from 1 is needed, got '10 min'"),
        ({"expected_interval": True}, "expected_interval: a whole number from 1 is needed, got True"),
        ({"map": "level"}, "map: a list of entries is needed; an empty one, [], maps nothing"),
        ({"map": ["level"]}, "map[0]: keys and values are needed, got 'level'"),
        ({"codek": "x"}, "codek: unknown key (did you mean 'codec'?)"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    assert message in _fault(**changes).splitlines()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"metric": "water.levl"},
            "map[0].metric: unknown metric 'water.levl' (did you mean 'water.level'?)",
        ),
        ({"metric": "zzz"}, "map[0].metric: unknown metric 'zzz'"),
        ({"metric": None}, "map[0].metric: is missing"),
        ({"field": None}, "map[0].field: is missing"),
        ({"chanel": 1}, "map[0].chanel: unknown key (did you mean 'channel'?)"),
        ({"channel": -1}, "map[0].channel: a whole number from 0 is needed, got -1"),
        ({"channel": 1.5}, "map[0].channel: a whole number from 0 is needed, got 1.5"),
        ({"scale": "0,1"}, "map[0].scale: a number is needed, got '0,1'"),
        ({"scale": float("nan")}, "map[0].scale: a number is needed, got nan"),
        ({"scale": -(2**1024)}, f"map[0].scale: a number is needed, got {-(2**1024)}"),
        ({"scale": 0}, "map[0].scale: 0 makes every value the same"),
        ({"offset": float("inf")}, "map[0].offset: a number is needed, got inf"),
        ({"offset": {"var": "x"}}, "map[0].offset: a number or {variable: NAME} is needed"),
        ({"offset": {"variable": ""}}, "map[0].offset.variable: a text is needed, got ''"),
        ({"unit": 7}, "map[0].unit: a text is needed, got 7"),
        (
            {"unit": "°C"},
            "map[0].unit: '°C' is no UCUM code that can be converted (is 'Cel' meant?); "
            "the codes are at https://ucum.org/ucum",
        ),
        (
            {"unit": "kPa"},
            "map[0].unit: 'kPa' does not convert to 'm', the unit of water.level; declare a unit of the same "
            "kind, or leave `unit` out and give `scale` into 'm'",
        ),
        ({"unit": "km", "scale": 1e308}, "map[0].scale: 1e+308 km is too large for water.level"),
        (
            {"absent": 255},
            "map[0].absent: a list of the numbers or texts that say *no value* is needed, got 255",
        ),
        (
            {"absent": []},
            "map[0].absent: a list of the numbers or texts that say *no value* is needed, got []",
        ),
        ({"absent": [1, None]}, "map[0].absent[1]: a number is needed, got None"),
        ({"absent": [True]}, "map[0].absent[0]: a number is needed, got True"),
        ({"absent": [float("nan")]}, "map[0].absent[0]: a number is needed, got nan"),
        ({"wraps": 65536}, "map[0].wraps: water.level is no counter of the catalogue"),
        ({"metric": "rain.total", "wraps": 1}, "map[0].wraps: a whole number from 2 is needed, got 1"),
        ({"metric": "rain.total", "wraps": 2**65}, "map[0].wraps: at most 18446744073709551616"),
        ({"when": "ok"}, "map[0].when: fields and their values are needed, got 'ok'"),
        ({"when": {"state": [1]}}, "map[0].when.state: a text, a number, true or false is needed, got [1]"),
    ],
)
def test_refuses_in_the_map(entry: dict[str, Any], message: str) -> None:
    assert _map_fault(**entry) == message


def test_names_all_faults_at_once() -> None:
    lines = _fault(vendor=None, map=[{"field": "a"}, {"metric": "distance", "x": 1}]).splitlines()
    assert lines == [
        "vendor: is missing",
        "map[0].metric: is missing",
        "map[1].x: unknown key",
        "map[1].field: is missing",
    ]


def test_one_value_has_one_source_unless_conditions_choose() -> None:
    one = {"field": "a", "metric": "distance"}
    two = {"field": "b", "metric": "distance"}
    assert "map[1]: metric 'distance' on channel 0 is given by map[0] already" in _fault(map=[one, two])
    assert "map[1]" in _fault(map=[one | {"when": {"s": 1}}, two])
    assert "map[1]" in _fault(map=[one | {"when": {"s": 1}}, two | {"when": {"s": 1}}])
    parse_device_type(_data(map=[one | {"when": {"s": 1}}, two | {"when": {"s": 2}}]), METRICS)
    parse_device_type(_data(map=[one, two | {"channel": 1}]), METRICS)


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_refuses_what_is_no_mapping(data: object) -> None:
    with pytest.raises(UsageError, match="device type: keys and values are needed"):
        parse_device_type(data, METRICS)


def test_reads_several_documents_of_a_file() -> None:
    text = """
    {id: a, vendor: V, model: M, codec: c, expected_interval: 60, map: [{field: x, metric: distance}]}
---
    {id: b, vendor: V, model: M, codec: c, expected_interval: 60, map: [{field: x, metric: distance}]}
"""
    assert [device_type.id for device_type in read_device_types(text, METRICS)] == ["a", "b"]
    with pytest.raises(UsageError, match="not YAML"):
        read_device_types("a: [", METRICS)


def test_built_in_types_survive_a_round_trip() -> None:
    for id, device_type in builtin_device_types().items():
        assert device_type.id == id
        metrics = {entry.metric for entry in device_type.mapping}
        assert parse_device_type(device_type.to_dict(), metrics) == device_type


_NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_ENTRIES = st.builds(
    MapEntry,
    field=st.lists(_NAMES, min_size=1, max_size=3).map(".".join),
    metric=st.sampled_from(sorted(METRICS)),
    channel=st.integers(0, 99),
    scale=_FINITE.filter(bool),
    offset=_FINITE | st.builds(Variable, _NAMES),
    absent=st.lists(_FINITE | st.text("n/a01", max_size=3), max_size=3).map(tuple),
    records=st.none() | st.builds(Records, _NAMES, _NAMES, st.sampled_from(["s", "ms", "iso", "iso+07:00"])),
    when=st.dictionaries(
        _NAMES, st.booleans() | st.integers() | _FINITE | st.text("ab1. ", max_size=5), max_size=2
    ).map(lambda conditions: tuple(conditions.items())),
)


@given(st.lists(_ENTRIES, min_size=1, max_size=6, unique_by=lambda entry: (entry.metric, entry.channel)))
def test_any_mapping_survives_a_round_trip(entries: list[MapEntry]) -> None:
    device_type = DeviceType(
        id="x", vendor="v", model="m", codec="c", expected_interval=60, mapping=tuple(entries)
    )
    assert parse_device_type(device_type.to_dict(), METRICS) == device_type


@pytest.mark.parametrize(
    ("entry", "linear"),
    [
        ({"metric": "distance"}, (1, 1, 0, None)),
        ({"metric": "distance", "scale": 0.1, "offset": -4}, (1, 10, -4, None)),
        ({"metric": "distance", "unit": "mm"}, (1, 1000, 0, None)),
        ({"metric": "distance", "unit": "mm", "scale": 10, "offset": 0.5}, (1, 100, 0.5, None)),
        ({"metric": "water.temperature", "unit": "[degF]", "offset": 1}, (5, 9, 1 - 160 / 9, None)),
        (
            {"metric": "water.level", "unit": "cm", "scale": -1, "offset": {"variable": "z"}},
            (-1, 100, 0, "z"),
        ),
        ({"metric": "distance", "scale": 1e-300}, (1e-300, 1, 0, None)),
    ],
)
def test_what_an_entry_computes(entry: dict[str, Any], linear: tuple[Any, ...]) -> None:
    (read,) = parse_device_type(_data(map=[{"field": "x"} | entry]), METRICS).mapping
    assert read.linear() == linear
    assert read.to_dict() == {"field": "x"} | entry


def test_where_a_counter_starts_again() -> None:
    entry = {"field": "tips", "metric": "rain.total", "unit": "[in_i]", "scale": 0.01, "wraps": 2**16}
    (read,) = parse_device_type(_data(map=[entry]), METRICS).mapping
    assert read.modulus() == 65536 * 0.254
    assert MapEntry(field="tips", metric="rain.total").modulus() is None


def test_battery_bytes_as_lorawan_writes_them() -> None:
    """docs/reference/normalisation.md shows these two entries."""
    text = (ROOT / "docs/reference/normalisation.md").read_text(encoding="utf-8")
    level, external = (
        parse_device_type(_data(map=[yaml.safe_load(line.strip()[2:])]), CATALOGUE).mapping[0]
        for line in text.splitlines()
        if line.startswith("  - {field: battery,")
    )
    assert level.absent == (0, 255)
    assert [254 * level.linear().factor / level.linear().divisor, level.metric] == [100, "battery.level"]
    assert (external.metric, external.when, external.linear().offset) == (
        "power.external",
        (("battery", 0),),
        1,
    )


def test_the_examples_of_the_documentation_are_maps() -> None:
    text = (ROOT / "docs/reference/normalisation.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        found = yaml.safe_load(block)
        entries = found["map"] if isinstance(found, dict) and "map" in found else found
        if isinstance(entries, dict):
            entries = [entries]
        parsed = parse_device_type(_data(map=entries), CATALOGUE)
        assert [entry.to_dict() for entry in parsed.mapping] == entries


def test_variables_that_a_type_asks_for() -> None:
    type_ = parse_device_type(_data(), METRICS)
    for mapping in (type_, _data()["map"]):
        assert check_variables(mapping, {"datum_m": 1.0}) == ([], [])
        assert check_variables(mapping, {"datum": 1.0, "b": 2.0}) == (["b", "datum"], ["datum_m"])
    assert check_variables([], ()) == ([], [])
