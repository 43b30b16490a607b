"""The Đồng Nai basin as shipped: deterministic, balanced, receding; and faults that name their place."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from simulators.scenario import BUILTIN_FOLDER, Scenario
from simulators.world.basin import SPIN_UP_H, STEP_S, Basin

HOURS = np.arange(0.0, 96.0, 0.5)
POINTS = ("ta-pao", "phu-hiep", "ta-lai", "tri-an", "bien-hoa")


@pytest.mark.parametrize("point", POINTS)
def test_seed_decides(flood: Scenario, point: str) -> None:
    one, again, other = (flood.scene(seed=seed).world.level(point, HOURS) for seed in (7, 7, 8))
    assert (one == again).all()
    assert (one != other).any()


def test_what_rains_runs_off(flood: Scenario) -> None:
    world = flood.scene(seed=1).world
    land = flood.basin.catchments["la-nga-upper"]
    hours = np.arange(-SPIN_UP_H, 96.0, STEP_S / 3600.0) + STEP_S / 3600.0
    excess = world.flow("ta-pao", hours) - land.base_m3s
    rain = sum(s.depth_mm for s in flood.storms if s.catchment == "la-nga-upper")
    fallen = rain / 1000.0 * land.area_km2 * 1e6 * land.runoff
    # The world ends two days after the rain; what has not come by then is below a thousandth.
    assert excess.sum() * STEP_S == pytest.approx(fallen, rel=2e-3)
    assert world.rain_total("la-nga-upper", hours)[-1] == pytest.approx(rain)


def test_after_the_rain_the_river_only_falls(flood: Scenario) -> None:
    world = flood.scene(seed=1).world
    ends = max(s.onset_h + s.duration / 3600.0 for s in flood.storms if s.catchment.startswith("la-nga"))
    assert (np.diff(world.level("phu-hiep", np.arange(ends, 96.0, 0.5))) < 0).all()


def test_the_flood_arrives_downstream_later(flood: Scenario) -> None:
    world = flood.scene(seed=1).world
    peaks = [HOURS[world.flow(point, HOURS).argmax()] for point in ("ta-pao", "phu-hiep", "tri-an")]
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[2]


def test_after_the_scenario_the_world_rests_under_the_tide(flood: Scenario) -> None:
    world = flood.scene(seed=1).world
    later = np.arange(5000.0, 5012.0)
    assert set(world.level("phu-hiep", later)) == {world.level("phu-hiep", np.array(96.0))}
    assert np.ptp(world.level("bien-hoa", later)) > 0.5
    assert not world.rain_rate("la-nga-upper", later).any()


def test_long_before_the_scenario_it_rests_too(flood: Scenario) -> None:
    world = flood.scene(seed=1).world
    before, first = world.level("ta-lai", np.array([-1000.0, -SPIN_UP_H]))
    assert before == first
    assert world.rain_total("dong-nai-upper", np.array(-1000.0)) == 0.0


def test_reservoir_storage_and_level_agree(flood: Scenario) -> None:
    lake = next(p.reservoir for p in flood.basin.points if p.reservoir)
    for level in (50.5, 55.0, 61.0, 62.0):
        assert lake.level(lake.storage(level)) == pytest.approx(level)
    assert lake.storage(62.0) == pytest.approx(2765e6)
    # Lake area at full level: published as 323 km².
    assert (lake.storage(62.0) - lake.storage(61.99)) / 0.01 / 1e6 == pytest.approx(323, rel=0.02)


def test_faults_name_their_place() -> None:
    file = BUILTIN_FOLDER.parent / "basins" / "dong-nai.yaml"
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    data["points"][1]["inflows"][0]["point"] = "bien-hoa"
    data["points"][0]["inflows"][0]["catchment"] = "nile"
    data["points"][4]["code"] = "ta-pao"
    data["climates"]["bao-loc"]["catchment"] = "rhine"
    assert [loc for loc, _ in Basin.model_validate(data).faults()] == [
        ("points", 0, "inflows", 0, "catchment"),
        ("points", 1, "inflows", 0, "point"),
        ("points", 4, "code"),
        ("climates", "bao-loc", "catchment"),
    ]
