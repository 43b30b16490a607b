"""Normalisation never yields a reading outside the catalogue's units.

What comes out is compared with a conversion of another make: a registry of pint that counts in floats, asked
for each number anew, while the product works out one exact line per entry from a registry of fractions. For a
gas it is the textbook's 24.465 L/mol at 25 °C and 1 atm. For normalized payloads the units are those of the
table in docs/reference/normalisation.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from decoders.datalog import OLDEST, Logged, compile_datalog
from decoders.device_types import builtin_device_types, parse_device_type
from decoders.mapping import DeviceType, Variable
from decoders.normalise import Value, compile_mapping
from decoders.normalized import read_normalized
from telemetry.catalogue import CATALOGUE
from tests.docs.pages import section, table_rows

PAGE = Path(__file__).parents[2] / "docs/reference/normalisation.md"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HIGHEST_CHANNEL = 32_767  # smallint
LITRES_PER_MOLE = 24.465
MOLAR_MASSES = {  # g/mol, of N 14.007, O 15.999, S 32.06, C 12.011
    "air.no2": 46.005, "air.so2": 64.058, "air.o3": 47.997, "air.co": 28.010,
}  # fmt: skip

# Units that people's maps have, for a metric whose own is another one, or the same.
PAIRS = [
    ("air.temperature", "[degF]"), ("air.temperature", "K"), ("water.temperature", "Cel"),
    ("air.pressure", "Pa"), ("air.pressure", "kPa"), ("air.pressure", "mm[Hg]"), ("air.pressure", "[psi]"),
    ("water.level", "mm"), ("water.level", "cm"), ("water.level", "[ft_i]"), ("distance", "[in_i]"),
    ("wind.speed", "km/h"), ("wind.speed", "[kn_i]"), ("wind.direction", "rad"), ("rain.rate", "[in_i]/h"),
    ("soil.conductivity", "dS/m"), ("water.conductivity", "mS/cm"), ("acceleration.x", "m/s2"),
    ("water.volume", "L"), ("water.flow", "L/s"), ("battery.voltage", "mV"), ("power.energy", "W.h"),
    ("reservoir.storage", "hm3"), ("air.pm2_5", "mg/m3"), ("soil.ph", "[pH]"), ("noise.level", "dB[SPL]"),
    ("light.illuminance", "lx"), ("water.turbidity", "[NTU]"), ("air.humidity", "%"),
    ("air.no2", "[ppb]"), ("air.so2", "[ppm]"), ("air.o3", "[ppb]"), ("air.co", "[ppm]"),
]  # fmt: skip


@cache
def registry() -> Any:
    from ucumvert import PintUcumRegistry  # type: ignore[import-untyped]

    return PintUcumRegistry()


def in_catalogues_unit(number: float, unit: str, metric: str) -> float:
    """The other conversion."""
    to = CATALOGUE[metric].unit
    if unit == to:
        return number
    if unit in ("[ppb]", "[ppm]") and metric in MOLAR_MASSES:
        parts = number * (1 if unit == "[ppb]" else 1000)
        return parts * MOLAR_MASSES[metric] / LITRES_PER_MOLE
    source, target = registry().from_ucum(unit), registry().from_ucum(to)
    found = registry().Quantity(float(number) * float(source.magnitude), source.units).to(target.units)
    return float(found.magnitude) / float(target.magnitude)


def check_readings(readings: Iterable[Value | Logged]) -> None:
    """What holds of every reading whatever it was made of."""
    for one in readings:
        assert one.metric in CATALOGUE
        assert type(one.value) is float
        assert math.isfinite(one.value)
        assert one.value != 0 or math.copysign(1, one.value) == 1
        assert type(one.channel) is int
        assert 0 <= one.channel <= HIGHEST_CHANNEL


def check_value(value: float, number: float, unit: str, metric: str, offset: float = 0.0) -> None:
    """That `value` is `number` of `unit`, in the metric's unit, plus `offset`."""
    converted = in_catalogues_unit(number, unit, metric)
    # A mole's volume is told to five digits; kelvins lie behind temperatures near 0.
    near = 5e-5 if metric in MOLAR_MASSES and unit != CATALOGUE[metric].unit else 1e-9
    assert value == pytest.approx(
        converted + offset, rel=near, abs=near * (abs(converted) + abs(offset) + 500)
    )


def as_number(raw: Any) -> float | None:
    """What the page says of a field that is a number, a boolean or a number's text."""
    try:
        return float(raw)
    except (TypeError, ValueError, OverflowError):
        return None


SECONDS = st.integers(int(OLDEST.timestamp()) - 9, int(NOW.timestamp()) + 900)
NUMBERS = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**400) | st.just(-0.0)
    | st.floats(-1e6, 1e6).map(str) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def maps(draw: st.DrawFn) -> DeviceType:
    """A device type as a person may write it: each entry gives another metric or channel."""
    entries = []
    for channel, (metric, unit) in enumerate(draw(st.lists(st.sampled_from(PAIRS), min_size=1, max_size=5))):
        entry: dict[str, Any] = {
            "field": draw(st.sampled_from(["a", "b", "c", "a.b", "c.0", "d.a.b"])),
            "metric": metric,
            "unit": unit,
            "channel": draw(st.sampled_from([0, 9_000, HIGHEST_CHANNEL - 10])) + channel,
            "scale": draw(st.sampled_from([1, 0.1, -0.01, 1000, 0.3937007874015748]) | st.floats(0.001, 1e3)),
            "offset": draw(st.just(0) | st.floats(-100, 100) | st.just({"variable": "own"})),
        }
        if draw(st.booleans()):
            entry["absent"] = draw(st.lists(st.integers(-2, 2) | st.just("x"), min_size=1, max_size=2))
        if draw(st.integers(0, 3)) == 0:
            entry["records"] = {"list": "log", "time": "at"}
        entries.append(entry)
    head = {"id": "t", "vendor": "v", "model": "m", "codec": "c", "expected_interval": 60}
    return parse_device_type(head | {"map": entries}, CATALOGUE)


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys("abc", ANYTHING | NUMBERS),
        "d": st.fixed_dictionaries({"a": st.fixed_dictionaries({"b": NUMBERS})}) | ANYTHING,
        "log": st.lists(
            st.fixed_dictionaries(
                {"at": SECONDS},
                optional=dict.fromkeys("abc", ANYTHING | NUMBERS),
            )
            | ANYTHING,
            max_size=4,
        )
        | ANYTHING,
    },
)


@settings(max_examples=200, deadline=None)
@given(maps(), FIELDS, st.floats(-10, 10))
def test_of_any_map_and_fields(device_type: DeviceType, fields: dict[str, Any], own: float) -> None:
    variables = {"own": own}
    values = compile_mapping(device_type)(fields, variables).values
    check_readings(values)
    by_series = {(entry.metric, entry.channel): entry for entry in device_type.mapping}
    for value in values:
        entry = by_series[value.metric, value.channel]
        raw: Any = fields
        for key in entry.field.split("."):
            raw = raw[int(key) if isinstance(raw, list) else key]
        number = as_number(raw)
        assert number is not None
        assert entry.unit is not None
        offset = entry.offset if isinstance(entry.offset, (int, float)) else own
        check_value(value.value, number * entry.scale, entry.unit, entry.metric, offset)
    if read := compile_datalog(device_type):
        logged = read(fields, NOW, variables).readings
        check_readings(logged)
        assert {(one.metric, one.channel) for one in logged} <= by_series.keys()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PAIRS), NUMBERS, st.sampled_from([1, 0.1, -1, 1000]))
def test_of_any_number_in_any_unit(pair: tuple[str, str], number: float, scale: float) -> None:
    metric, unit = pair
    head = {"id": "t", "vendor": "v", "model": "m", "codec": "c", "expected_interval": 60}
    entry = {"field": "x", "metric": metric, "unit": unit, "scale": scale}
    device_type = parse_device_type(head | {"map": [entry]}, CATALOGUE)
    (value,) = compile_mapping(device_type)({"x": number}, {}).values
    check_readings([value])
    check_value(value.value, number * scale, unit, metric)


def documented() -> Mapping[str, tuple[str, str]]:
    """Unit and metric of each path of a normalized measurement, as the page has them."""
    rows = table_rows(section(PAGE.read_text(encoding="utf-8"), "## Normalized payloads"))
    return {path: (unit, metric) for path, unit, metric in (row for row in rows[1:] if len(row) == 3)}


PATHS = documented()


@st.composite
def measurements(draw: st.DrawFn) -> dict[str, Any]:
    """What a normalizer may give: mostly what the vocabulary has, with anything for its values."""
    made: dict[str, Any] = {}
    known = [*PATHS, "soil.depth", "time", "soil.n", "air", "water.temperature", "later.than.us"]
    for path in draw(st.lists(st.sampled_from(known), max_size=6, unique=True)):
        *groups, name = path.split(".")
        inside = made
        for group in groups:
            inside = inside.setdefault(group, {}) if isinstance(inside, dict) else {}
        if isinstance(inside, dict):
            inside[name] = draw(NUMBERS | ANYTHING | st.sampled_from(["open", "closed", "true", "false"]))
    if "time" in made:
        second = draw(SECONDS)
        made["time"] = datetime.fromtimestamp(second, UTC).isoformat()
    return made


@settings(max_examples=300, deadline=None)
@given(
    st.lists(measurements() | ANYTHING, max_size=5) | measurements() | ANYTHING,
    st.sets(st.sampled_from(sorted(CATALOGUE)), max_size=4),
)
def test_of_any_normalized_payload(payload: Any, taken: set[str]) -> None:
    found = read_normalized("n", payload, NOW, taken)
    check_readings([*found.values, *found.logged])
    told = {one.metric for one in (*found.values, *found.logged)}
    assert told <= {metric for _, metric in PATHS.values()} - taken
    series = [(one.metric, one.channel) for one in found.values]
    assert len(set(series)) == len(series)
    assert len({one[:3] for one in found.logged}) == len(found.logged)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(PATHS)), NUMBERS)
def test_of_any_number_in_a_normalized_payload(path: str, number: float) -> None:
    measurement: Any = number
    for key in reversed(path.split(".")):
        measurement = {key: measurement}
    (value,) = read_normalized("n", measurement, NOW).values
    unit, metric = PATHS[path]
    assert value.metric == metric
    check_readings([value])
    check_value(value.value, number, unit, metric)


@given(st.sampled_from(PAIRS), st.floats(1, 1000), st.sampled_from([0.001, 0.99, 1.01, 60, 1000]))
def test_a_wrong_factor_would_be_seen(pair: tuple[str, str], number: float, wrong: float) -> None:
    metric, unit = pair
    right = in_catalogues_unit(number, unit, metric)
    assume(abs(right * wrong - right) > 0.05)
    with pytest.raises(AssertionError):
        check_value(right * wrong, number, unit, metric)


@pytest.mark.parametrize("device_type", builtin_device_types().values(), ids=lambda one: one.id)
def test_of_built_in_device_types(device_type: DeviceType) -> None:
    assert device_type.mapping
    for entry in device_type.mapping:
        alone = replace(entry, field="x", when=(), absent=(), records=None)
        offset, own = (
            (7.0, {entry.offset.name: 7.0}) if isinstance(entry.offset, Variable) else (entry.offset, {})
        )
        for number in (0.0, 1.0, 250.0):
            found = compile_mapping(replace(device_type, mapping=(alone,)))({"x": number}, own)
            check_readings(found.values)
            (value,) = found.values
            unit = entry.unit or CATALOGUE[entry.metric].unit
            check_value(value.value, number * entry.scale, unit, entry.metric, offset)
