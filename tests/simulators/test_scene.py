"""Scenes: what a scenario's `world:` makes, how its parts depend on each other, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from simulators.scenario import BUILTIN_FOLDER, Scenario, load_scenario
from simulators.world.basin import SPIN_UP_H, STEP_S, Basin
from simulators.world.field import Place
from simulators.world.scene import Scene, Spot, make_scene
from simulators.world.spec import WorldSpec
from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError

EVERYTHING = """
origin: {latitude: 11.2, longitude: 107.3}
wind: {mean_ms: 3, memory: 2h}
rain:
  - {onset_h: 2, duration: 12h, births_per_h: 12, depth_mm: 30, radius_km: 6, life: 90min}
city: {emissions: 0.8, catchment: dong-nai-middle}
haze:
  - {onset_h: 0, duration: 20h, pm2_5: 50}
  - {onset_h: 10, duration: 20h, pm2_5: 50, ramp: 2h}
fires:
  - {at: {latitude: 11.19, longitude: 107.29}, onset_h: 3, duration: 9h, peak_kg_s: 20}
fire_weather: {dew_point_c: 16, fuel_memory: 10h}
sky: {cover: 0.5}
soil: {start: 0.4, slope_deg: 30}
slope: {critical: 0.3, time_to_failure: 12h}
water: {point: tri-an, respiration: 6}
current: {seaward_ms: 0.05, harmonics: [{name: M2, speed_ms: 0.8, phase_deg: 30}]}
discharge:
  section_m2: 3000
  outfall_km: 10
  releases: [{onset_h: 6, duration: 3h, ammonium_kg: 3000, cod_kg: 40000, salt_kg: 60000}]
estuary: {point: bien-hoa, memory: 5d}
"""
HOURS = np.arange(0.0, 48.0, 0.25)
SPOT = Spot("here", Place(3.0, 2.0, 12.0, 0.3))


def _basin(**changes: Any) -> Basin:
    data = yaml.safe_load((BUILTIN_FOLDER.parent / "basins" / "dong-nai.yaml").read_text(encoding="utf-8"))
    return Basin.model_validate(data | changes)


def _scene(text: str, *, seed: int = 1, duration_h: float = 48.0) -> Scene:
    spec, basin = WorldSpec.model_validate(yaml.safe_load(text)), _basin()
    assert list(spec.faults(basin)) == []
    return make_scene(spec, basin, (), duration_h=duration_h, seed=seed)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return _scene(EVERYTHING)


def test_all_that_it_offers_can_be_measured_at_any_times(scene: Scene) -> None:
    for point in ("here", "tri-an", "la-nga-upper", "bien-hoa"):
        for metric in scene.metrics(point):
            series = scene.series(metric, SPOT._replace(point=point))
            values = series(HOURS)
            low, high = CATALOGUE[metric].range
            assert ((low <= values) & (values <= high)).all(), metric
            assert series(HOURS[::-1].reshape(2, -1)).ravel()[::-1].tolist() == values.tolist(), metric
            assert float(series(np.array(7.25))) == pytest.approx(values[29]), metric
    assert {"fire.fuel_moisture", "air.o3", "structure.displacement", "water.cod"} < scene.metrics("here")


def test_a_point_s_own_comes_before_the_fields(scene: Scene) -> None:
    gauge = scene.series("rain.total", Spot("la-nga-upper", Place()))
    assert gauge(HOURS).tolist() == scene.world.rain_total("la-nga-upper", HOURS).tolist()
    fields = scene.series("rain.total", SPOT)
    assert fields(HOURS).tolist() != gauge(HOURS).tolist()
    with pytest.raises(KeyError):
        scene.series("water.level", SPOT)
    assert "water.level" in scene.metrics("tri-an") - scene.metrics("here")


def test_the_same_seed_is_the_same_scene(scene: Scene) -> None:
    again, other = _scene(EVERYTHING), _scene(EVERYTHING, seed=2)
    for metric in scene.metrics("here"):
        values = scene.series(metric, SPOT)(HOURS).tolist()
        assert again.series(metric, SPOT)(HOURS).tolist() == values
    assert other.series("rain.rate", SPOT)(HOURS).tolist() != scene.series("rain.rate", SPOT)(HOURS).tolist()


def test_what_the_cells_bring_falls_on_a_catchment_and_runs_off_whole() -> None:
    scene, end = _scene(EVERYTHING, duration_h=120.0), np.array(120.0)
    land = _basin().catchments["la-nga-upper"]
    fallen = float(scene.world.rain_total("la-nga-upper", end))
    assert fallen > 5.0
    hours = np.arange(-SPIN_UP_H, 120.0, STEP_S / 3600.0) + STEP_S / 3600.0
    volume = (scene.world.flow("ta-pao", hours) - land.base_m3s).sum() * STEP_S
    assert volume == pytest.approx(fallen / 1000.0 * land.area_km2 * 1e6 * land.runoff, rel=1e-3)
    assert land.centre is not None
    assert land.radius_km is not None
    origin = WorldSpec.model_validate(yaml.safe_load(EVERYTHING)).origin
    centre = origin.place(land.centre.latitude, land.centre.longitude)
    far, angle = np.random.default_rng(1).random((2, 400))
    r, angle = land.radius_km * np.sqrt(far), 2.0 * np.pi * angle
    gauges = [
        Place(centre.east_km + east, centre.north_km + north)
        for east, north in zip(r * np.cos(angle), r * np.sin(angle), strict=True)
    ]
    caught = [scene.series("rain.total", Spot("", place))(end) for place in gauges]
    assert np.mean(caught) == pytest.approx(fallen, rel=0.1)


def test_parts_feed_each_other(scene: Scene) -> None:
    def without(*parts: str) -> Scene:
        spec = yaml.safe_load(EVERYTHING)
        return _scene(yaml.safe_dump({name: part for name, part in spec.items() if name not in parts}))

    def change(metric: str, other: Scene) -> np.ndarray:
        return scene.series(metric, SPOT)(HOURS) - other.series(metric, SPOT)(HOURS)

    dry = without("rain")
    assert change("soil.moisture", dry).max() > 1.0
    assert change("structure.displacement", dry)[-1] > 0.0
    assert change("air.pm10", dry).min() < -0.5
    assert change("fire.fuel_moisture", dry).max() > 1.0
    assert change("radiation.solar", dry).min() < -100.0
    assert change("water.turbidity", dry).max() > 0.0
    assert 60.0 < change("air.pm2_5", without("haze")).max() < 101.0
    assert change("air.co", without("fires")).max() > 1.0
    assert change("water.dissolved_oxygen", without("discharge")).min() < -0.1
    assert change("water.oxygen_saturation", without("estuary")).max() > 1.0
    assert change("water.conductivity", without("estuary")).max() > 100.0


@pytest.mark.parametrize(
    ("old", "new", "loc", "cause"),
    [
        ("wind: {mean_ms: 3, memory: 2h}\n", "", "world.city", "needs `wind:` beside it"),
        ("slope: {critical", "slope: {crtical", "world.slope.crtical", "did you mean 'critical'?"),
        (
            "onset_h: 2, duration: 12h",
            "onset_h: 2, duration: 12",
            "world.rain[0].duration",
            "number and its unit",
        ),
        (
            "city: {emissions: 0.8, catchment: dong",
            "city: {catchment: din",
            "world.city.catchment",
            "did you mean",
        ),
        ("water: {point: tri-an", "water: {point: tri-au", "world.water.point", "did you mean 'tri-an'"),
        ("water: {point: tri-an", "water: {point: tri-an, flow_m3s: 3", "world.water", "either a point"),
        ("name: M2", "name: M9", "world.current.harmonics[0].name", "'M2', 'S2'"),
        ("start: 0.4", "start: 0.49", "world.soil", "more water than 0.476"),
        ("latitude: 11.19", "latitude: 111", "world.fires[0].at.latitude", "must be 90 or less, not 111"),
    ],
)
def test_faults_have_a_line_a_path_and_a_cause(
    tmp_path: Path, old: str, new: str, loc: str, cause: str
) -> None:
    text = (BUILTIN_FOLDER / "calm-day.yaml").read_text(encoding="utf-8")
    assert old in EVERYTHING
    world = "".join(f"  {line}\n" for line in EVERYTHING.replace(old, new).strip().splitlines())
    text = text.replace("../", f"{BUILTIN_FOLDER.parent}/") + f"world:\n{world}"
    file = tmp_path / "broken.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_scenario(file)
    line = next(line for line in str(refused.value).splitlines() if f": {loc}: " in line)
    assert cause in line
    at = int(line.removeprefix(f"{file}:").split(":")[0])
    named = text.splitlines()[at - 1]
    assert loc.rsplit(".", 1)[-1].split("[")[0] in named


def test_places_count_from_the_origin(flood: Scenario) -> None:
    device = flood.devices[0]
    assert flood.spot(device) == Spot("ta-pao", Place())
    spec = WorldSpec.model_validate({"origin": {"latitude": 11.0, "longitude": 107.0}})
    place = spec.origin.place(11.5, 107.5, river_km=3.0)
    assert (place.north_km, place.river_km) == (pytest.approx(55.6), 3.0)
    assert 54.0 < place.east_km < 55.0
