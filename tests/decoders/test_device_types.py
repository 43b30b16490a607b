"""Device types: what is refused, and that the message says where."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.device_types import (
    DeviceType,
    MapEntry,
    Variable,
    builtin_device_types,
    check_variables,
    parse_device_type,
    read_device_types,
)
from telemetry.errors import UsageError

METRICS = frozenset({"water.level", "water.temperature", "distance", "battery.voltage"})


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
        ({"map": []}, "map: a list of at least one entry is needed"),
        ({"map": "level"}, "map: a list of at least one entry is needed"),
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


def test_variables_that_a_type_asks_for() -> None:
    type_ = parse_device_type(_data(), METRICS)
    for mapping in (type_, _data()["map"]):
        assert check_variables(mapping, {"datum_m": 1.0}) == ([], [])
        assert check_variables(mapping, {"datum": 1.0, "b": 2.0}) == (["b", "datum"], ["datum_m"])
    assert check_variables([], ()) == ([], [])
