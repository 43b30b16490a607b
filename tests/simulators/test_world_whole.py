"""All fields at once: plausible to quality control, shaped like the times asked for, and as the docs say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import Parameter, signature

import numpy as np
import pytest
import yaml

from simulators import world
from simulators.world import spec as specs
from simulators.world.air_quality import City, Haze
from simulators.world.cells import RainCells, Spell, born
from simulators.world.current import Current
from simulators.world.discharge import Discharge, Reach, Release
from simulators.world.field import Field, Place, together
from simulators.world.fire_weather import DrySeason, FireWeather
from simulators.world.plume import Fire
from simulators.world.salinity import Estuary
from simulators.world.series import Span
from simulators.world.sky import Sky
from simulators.world.slope import Slope
from simulators.world.soil import Soil
from simulators.world.water_quality import WaterBody
from simulators.world.wind import Wind, WindClimate
from simulators.yamlfile import Model
from telemetry.catalogue import CATALOGUE
from tests.docs.pages import DOCS, ROOT, blocks, section, table_rows

SPAN = Span(-24.0, 96.0)
T = np.arange(-24.0, 96.0, 1.0 / 6.0)
PLACES = (Place(), Place(4.0, 3.0, 12.0, 1.5), Place(-30.0, 10.0, 60.0, 0.3))


def everything(seed: int) -> Mapping[str, Field]:
    """A world in which all that can happen does."""
    rain = RainCells(born([Spell(0.0, 48.0, 6.0, 30.0)], seed=seed), SPAN)
    wet, _ = rain.fields()
    wind = Wind(WindClimate(), seed=seed)
    city = City(wind.speed, rain_mm_h=lambda t: wet.at(Place(), t), haze=Haze(0.0, 72.0, 80.0))
    soil = Soil(lambda t: wet.at(Place(), t), SPAN, start=0.4, slope_deg=30.0)
    fire = Fire(wind.speed, wind.direction, city.mixing_height, onset_h=10.0, duration_h=20.0, peak_kg_s=10.0)
    current = Current(0.05, (("M2", 0.8, 30.0), ("K1", 0.3, 80.0)))
    outfall = Release(6.0, 3.0, ammonium_kg=3000.0, cod_kg=40_000.0, salt_kg=60_000.0)
    makers = (
        rain,
        Sky(lambda t: wet.at(Place(), t)),
        wind,
        city,
        fire,
        soil,
        Slope(soil.wetness, SPAN, critical=0.3),
        WaterBody(flow=lambda t: 100.0 + 5.0 * np.maximum(t, 0.0)),
        Discharge(Reach(current, section_m2=3000.0, outfall_km=10.0), [outfall]),
        Estuary(lambda t: np.full(np.shape(t), 150.0), current),
        FireWeather(DrySeason(), SPAN, wind_ms=wind.speed, seed=seed),
    )
    return together(field for maker in makers for field in maker.fields())


FIELDS, AGAIN = everything(11), everything(11)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_is_plausible_whole_and_the_same_for_a_seed(name: str) -> None:
    field, metric = FIELDS[name], CATALOGUE[name]
    for place in PLACES:
        values = field.at(place, T)
        assert values.shape == T.shape
        assert np.isfinite(values).all()
        assert metric.range[0] <= values.min()
        assert values.max() <= metric.range[1]
        if metric.max_change is not None and metric.kind == "instant":
            assert np.abs(np.diff(values)).max() <= metric.max_change.most(600.0)
        assert field.at(place, T.reshape(2, -1)).ravel().tolist() == values.tolist()
        assert float(field.at(place, np.array(T[300]))) == pytest.approx(values[300], rel=1e-12)
    again = AGAIN[name].at(PLACES[1], T[::-1])[::-1]
    assert again.tolist() == FIELDS[name].at(PLACES[1], T).tolist()


def test_the_page_names_every_module_and_metric() -> None:
    text = (DOCS / "reference" / "world.md").read_text(encoding="utf-8")
    table = section(text, "## What there is")
    told = {name for row in table_rows(table)[1:] for name in re.findall(r"\w+", row[0])}
    modules = {path.stem for path in (ROOT / "simulators" / "world").glob("*.py")}
    assert modules - told == {"__init__", "field", "position", "scene", "series", "spec"}
    for name in FIELDS:
        assert f"`{name}`" in table or f"`.{name.partition('.')[2]}`" in table, name
    assert world.__doc__


MADE_OF: Mapping[str, tuple[type[Model], type]] = {
    "wind": (specs.WindSpec, WindClimate),
    "rain": (specs.SpellSpec, Spell),
    "city": (specs.CitySpec, City),
    "haze": (specs.HazeSpec, Haze),
    "fires": (specs.FireSpec, Fire),
    "fire_weather": (specs.FireWeatherSpec, DrySeason),
    "sky": (specs.SkySpec, Sky),
    "soil": (specs.SoilSpec, Soil),
    "slope": (specs.SlopeSpec, Slope),
    "water": (specs.WaterSpec, WaterBody),
    "current": (specs.CurrentSpec, Current),
    "discharge": (specs.DischargeSpec, Reach),
    "estuary": (specs.EstuarySpec, Estuary),
}


def test_the_page_tells_every_key_of_a_scenario_s_world_and_its_default() -> None:
    text = section((DOCS / "reference" / "world.md").read_text(encoding="utf-8"), "## In a scenario")
    told: dict[str, dict[str, str]] = {}
    for part, keys, _, default in table_rows(text)[1:]:
        names = keys.replace("`", "").split(", ")
        several = default.split(", ") if len(names) > 1 and default.count(",") == len(names) - 1 else None
        values = several or [default] * len(names)
        told.setdefault(part, {}).update(zip(names, values, strict=True))
    assert set(told) == set(specs.WorldSpec.model_fields)
    for part, (model, made) in MADE_OF.items():
        keys = {field.alias or name: name for name, field in model.model_fields.items()}
        assert set(told[part]) == set(keys), part
        parameters = signature(made).parameters
        for key, name in keys.items():
            default = parameters[name].default if name in parameters else Parameter.empty
            if isinstance(default, float):
                written = re.fullmatch(r"([\d.]+)([a-z]?)", told[part][key])
                assert written, (part, key)
                assert float(written[1]) * (24.0 if written[2] == "d" else 1.0) == default, (part, key)
            elif default is Parameter.empty and model.model_fields[name].is_required():
                assert told[part][key] == "needed", (part, key)
    for inner in (specs.HarmonicSpec, specs.ReleaseSpec, specs.SoilTypeSpec):
        assert all(f"`{field.alias or name}`" in text for name, field in inner.model_fields.items())


def test_the_page_s_example_of_a_scenario_is_one() -> None:
    (example,) = blocks("reference/world.md", "yaml")
    spec = specs.WorldSpec.model_validate(yaml.safe_load(example)["world"])
    assert spec.city is not None
    assert spec.haze[0].duration_h == 48.0


def test_the_page_s_example_runs() -> None:
    (example,) = blocks("reference/world.md", "python")
    names: dict[str, object] = {}
    exec(example, names)
    pm = names["pm"]
    assert isinstance(pm, np.ndarray)
    assert 60.0 < pm.max() < 1000.0
