"""The catalogue: every entry makes sense by itself and beside the others."""

import re

import pytest

from telemetry.catalogue import CATALOGUE, Change
from telemetry.units import conversion

each_metric = pytest.mark.parametrize("key", CATALOGUE)


@each_metric
def test_an_entry_makes_sense(key: str) -> None:
    metric = CATALOGUE[key]
    low, high = metric.range
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?", key)
    assert low < high
    assert 0 <= metric.precision <= 5
    assert metric.vi.strip()
    assert metric.en.strip()
    assert len(metric.en) <= 60
    if metric.max_change:
        assert 0 < metric.max_change.by <= high - low
        assert metric.max_change.within > 0
    assert not (metric.cf and metric.definition)


@each_metric
def test_the_unit_is_a_code_of_ucum(key: str) -> None:
    """Written without its annotations it is another code for the same; pH has none."""
    unit = CATALOGUE[key].unit
    assert conversion(unit, key) == (1, 0)
    if unit != "[pH]":
        bare = re.sub(r"\{.*?\}", "", unit) or "1"
        assert conversion(bare if bare != unit else f"{unit}{{x}}", key) == (1, 0)


@pytest.mark.parametrize("key", [key for key, metric in CATALOGUE.items() if metric.kind == "counter"])
def test_a_counter_has_increments_and_a_limit(key: str) -> None:
    metric = CATALOGUE[key]
    assert metric.increment
    assert CATALOGUE[metric.increment].unit == metric.unit
    assert CATALOGUE[metric.increment].kind == "increment"
    assert metric.max_change


def test_only_counters_have_increments() -> None:
    assert {m.kind for m in CATALOGUE.values() if m.increment} == {"counter"}


def test_names_tell_metrics_apart() -> None:
    for names in ([m.vi for m in CATALOGUE.values()], [m.en for m in CATALOGUE.values()]):
        assert sorted(names) == sorted(set(names))


def test_what_the_rules_of_vietnam_need_is_there() -> None:
    """VN_AQI, VN_WQI (groups I, III, IV, V), the symbols of Thông tư 10/2021, and the hazard methods."""
    aqi = "pm2_5 pm10 o3 co so2 no2"
    wqi = (
        "ph temperature dissolved_oxygen bod5 cod toc ammonium nitrate nitrite phosphate coliform e_coli "
        "arsenic cadmium lead chromium_vi copper zinc mercury"
    )
    waste = "color tss total_phosphorus total_nitrogen free_chlorine"
    stack = "flow temperature pressure no no2 co so2 o2 h2s nh3 hg dust"
    hazards = "rain.increment water.level air.temperature air.humidity wind.speed water.salinity"
    needed = {
        *(f"air.{name}" for name in aqi.split()),
        *(f"water.{name}" for name in f"{wqi} {waste}".split()),
        *(f"emission.{name}" for name in stack.split()),
        "wastewater.flow",
        *hazards.split(),
    }
    assert needed <= set(CATALOGUE)


def test_where_a_metric_is_defined() -> None:
    assert CATALOGUE["air.temperature"].definition_url == (
        "http://vocab.nerc.ac.uk/standard_name/air_temperature/"
    )
    assert CATALOGUE["water.ph"].definition_url == "http://vocabulary.odm2.org/variablename/pH/"
    assert CATALOGUE["door.open"].definition_url is None


@pytest.mark.parametrize(("seconds", "most"), [(0, 3), (600, 3), (900, 4.5), (6000, 30)])
def test_the_most_that_can_change(seconds: float, most: float) -> None:
    assert Change(by=3, within=600).most(seconds) == most
