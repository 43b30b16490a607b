"""Units: exact lines between them, and words for what has none."""

import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError
from telemetry.units import IDENTITY, Affine, conversion


@pytest.mark.parametrize(
    ("unit", "metric", "factor", "offset"),
    [
        ("K", "air.temperature", 1, Fraction("-273.15")),
        ("[degF]", "air.temperature", Fraction(5, 9), Fraction(-160, 9)),
        ("kPa", "air.pressure", 10, 0),
        ("mm[Hg]", "air.pressure", Fraction("1.33322387415"), 0),
        ("[in_i]", "rain.total", Fraction("25.4"), 0),
        ("km/h", "wind.speed", Fraction(5, 18), 0),
        ("[kn_i]", "wind.speed", Fraction(463, 900), 0),
        ("mS/cm", "water.conductivity", 1000, 0),
        ("S/m", "water.conductivity", 10000, 0),
        ("g/m3", "water.tss", 1, 0),
        ("L/s", "water.flow", Fraction(1, 1000), 0),
        ("m3", "reservoir.storage", Fraction(1, 10**6), 0),
        ("m[g]", "acceleration.x", Fraction(1, 1000), 0),
        ("m/s2", "acceleration.x", 1 / Fraction("9.80665"), 0),
        ("1", "air.humidity", 100, 0),
        ("/mL", "water.coliform", 100, 0),
        ("{CFU}/(100.mL)", "water.coliform", 1, 0),
        ("{state}", "door.open", 1, 0),
        ("[FNU]", "water.turbidity", 1, 0),
        ("J", "power.energy", Fraction(1, 3_600_000), 0),
    ],
)
def test_exact_lines(unit: str, metric: str, factor: Fraction, offset: Fraction) -> None:
    assert conversion(unit, metric) == (factor, offset)


@pytest.mark.parametrize(
    ("unit", "metric", "expected"),
    # US EPA and WHO print 1.88 for NO₂, 2.62 for SO₂, 1.96 for O₃ and 1.145 (mg/m³ a ppm) for CO at 25 °C.
    [
        ("[ppb]", "air.no2", 1.88),
        ("[ppb]", "air.so2", 2.62),
        ("[ppb]", "air.o3", 1.96),
        ("[ppm]", "air.co", 1145),
        ("[ppm]", "air.h2s", 1393),
    ],
)
def test_gases_by_volume(unit: str, metric: str, expected: float) -> None:
    factor, offset = conversion(unit, metric)
    assert float(factor) == pytest.approx(expected, rel=2e-3)
    assert offset == 0


def test_a_gas_by_mass_becomes_a_share_by_volume() -> None:
    there = conversion("mg/m3", "air.co2").factor
    assert float(1 / there) == pytest.approx(1.799, rel=1e-3)  # mg/m³ of CO₂ a ppm


@pytest.mark.parametrize(
    ("unit", "metric", "message"),
    [
        (
            "s",
            "water.level",
            "'s' does not convert to 'm', the unit of water.level; declare a unit of the same kind, or leave "
            "`unit` out and give `scale` into 'm'",
        ),
        (
            "C",
            "air.temperature",
            "'C' does not convert to 'Cel', the unit of air.temperature (is 'Cel' meant?)",
        ),
        ("[ppm]", "emission.so2", "'[ppm]' does not convert to 'mg/m3', the unit of emission.so2"),
        ("[ppm]", "water.tss", "'[ppm]' does not convert to 'mg/L'"),
        ("1", "water.ph", "'1' does not convert to '[pH]'"),
        ("[pH]", "door.open", "'[pH]' does not convert to '1'"),
        ("B[SPL]", "noise.level", "'B[SPL]' does not convert to 'dB[SPL]'"),
        ("dB[W]", "power.active", "'dB[W]' does not convert to 'W'"),
        ("°C", "air.temperature", "'°C' is no UCUM code that can be converted (is 'Cel' meant?)"),
        ("ppb", "air.no2", "(is '[ppb]' meant?)"),
        ("µg/m³", "air.pm10", "(is 'ug/m3' meant?)"),
        ("m 3", "water.volume", "(is 'm3' meant?)"),
        ("furlong", "water.level", "the codes are at https://ucum.org/ucum"),
        ("", "water.level", "'' is no UCUM code"),
        ("10*99999999", "door.open", "is no UCUM code"),
        ("m" * 100_000, "water.level", "is no UCUM code"),
        ("m\n", "water.temperature", "is no UCUM code"),
    ],
)
def test_what_is_refused(unit: str, metric: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        conversion(unit, metric)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 300


def test_the_metrics_own_unit_needs_no_library() -> None:
    """Reading device types without units must not cost every process half a second and 28 MiB."""
    code = (
        "import sys; from telemetry.units import conversion; conversion('m', 'water.level');"
        "from decoders.device_types import builtin_device_types; builtin_device_types();"
        "sys.exit('pint' in sys.modules or 'ucumvert' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


_UNITS = sorted({metric.unit for metric in CATALOGUE.values()})


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """The library is loaded by the first conversion, which no example below is to wait for."""
    conversion("mm", "water.level")


def _line_or_word(unit: str, metric: str) -> Affine | str:
    try:
        return conversion(unit, metric)
    except UsageError as error:
        return str(error)


@given(st.sampled_from(_UNITS), st.sampled_from(sorted(CATALOGUE)))
def test_either_a_line_or_a_clear_word(unit: str, metric: str) -> None:
    found = _line_or_word(unit, metric)
    own = CATALOGUE[metric].unit
    if isinstance(found, str):
        assert unit != own
        assert repr(unit) in found
        assert repr(own) in found
    else:
        assert found.factor > 0
        assert (found == IDENTITY) or unit != own


@given(st.text(max_size=12))
def test_any_text_is_a_unit_or_refused(unit: str) -> None:
    assert _line_or_word(unit, "water.level")
