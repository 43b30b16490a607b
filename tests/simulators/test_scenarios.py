"""The scenarios that ship: in each, under any seed, what its name says truly happens."""

from __future__ import annotations

from functools import cache
from typing import get_args

import numpy as np
import pytest

from simulators.network import GatewaySpec
from simulators.radio import distance_km
from simulators.scenario import Scenario, list_scenarios, load_scenario
from simulators.stations import Station
from simulators.truths import FaultKind, HazardSpec, measured_by
from simulators.world.rain import Array
from simulators.world.scene import Scene
from tests.docs.pages import DOCS, section, table_rows

SEEDS = (1, 2)
STEPS_AN_HOUR = 12
START_HOUR = 7.0
each_seed = pytest.mark.parametrize("seed", SEEDS)
each_scenario = pytest.mark.parametrize("name", list_scenarios())


@cache
def scenario(name: str) -> Scenario:
    return load_scenario(name)


@cache
def scene(name: str, seed: int) -> Scene:
    return scenario(name).scene(seed=seed, start_hour=START_HOUR)


def truth(name: str, seed: int, station: str, metric: str) -> Array:
    """What a device of that station that measures `metric` has before it, twelve times an hour."""
    played = scenario(name)
    device = next(
        device
        for device in played.devices
        if device.station == station and metric in measured_by(device, played.device_types)
    )
    return scene(name, seed).series(metric, played.spot(device))(hours(name))


def hours(name: str) -> Array:
    return np.arange(0.0, scenario(name).duration / 3600.0, 1.0 / STEPS_AN_HOUR)


def rises(values: Array) -> Array:
    """How much more than an hour before; nothing in the first hour."""
    return np.concatenate([np.zeros(STEPS_AN_HOUR), values[STEPS_AN_HOUR:] - values[:-STEPS_AN_HOUR]])


def happens(hazard: HazardSpec, values: Array) -> Array:
    if hazard.rises_per_h is not None:
        return rises(values) >= hazard.rises_per_h
    return values >= hazard.above if hazard.above is not None else values < hazard.below


@each_scenario
def test_it_is_short_and_mixed(name: str) -> None:
    played = scenario(name)
    assert 6 <= len(played.devices) <= 15
    assert 24 * 3600 <= played.duration <= 96 * 3600
    assert len({device.network for device in played.devices}) > 1


def test_a_device_is_the_same_in_every_scenario() -> None:
    what = {
        (
            d.dev_eui,
            d.name,
            d.device_type,
            d.station,
            d.point,
            d.river_km,
            d.depth_m,
            tuple(d.variables.items()),
        )
        for name in list_scenarios()
        for d in scenario(name).devices
    }
    assert len({row[0] for row in what}) == len({row[1] for row in what}) == len(what)
    gateways = {gateway for name in list_scenarios() for gateway in scenario(name).gateways}
    assert len({gateway.id for gateway in gateways}) == len(gateways)


@each_seed
@each_scenario
def test_every_hazard_comes_and_is_not_there_all_the_time(name: str, seed: int) -> None:
    for hazard in scenario(name).hazards:
        for station in hazard.stations:
            on = happens(hazard, truth(name, seed, station, hazard.metric))
            assert 0.25 <= on.sum() / STEPS_AN_HOUR <= 0.7 * len(on) / STEPS_AN_HOUR, (hazard.kind, station)


@each_seed
def test_the_flash_flood_runs_down_the_valley(seed: int) -> None:
    upper, lower = (
        truth("flash-flood", seed, station, "water.level") for station in ("da-mri", "ma-da-guoi")
    )
    t = hours("flash-flood")
    assert np.ptp(upper[t < 4.0]) < 1.0
    assert 4.0 < t[upper.argmax()] < t[lower.argmax()] < 10.0
    assert lower[-1] < lower.max() - 3.0
    rain = truth("flash-flood", seed, "deo-bao-loc", "rain.total")
    assert 60.0 < rain[-1] - rain[0] < 300.0


@each_seed
def test_the_slope_creeps_then_fails_when_the_soil_is_full(seed: int) -> None:
    moved = truth("landslide", seed, "deo-bao-loc", "structure.displacement")
    t = hours("landslide")
    fell = t[rises(moved).argmax()]
    assert 36.0 < fell < 60.0
    before = moved[t < fell - 2.0]
    assert 2.0 < before[-1] < 100.0
    speeds = [
        np.ptp(before[(t[: len(before)] > fell - h) & (t[: len(before)] < fell - h + 4)]) for h in (14, 8)
    ]
    assert speeds[1] > speeds[0] > 0.0
    assert truth("landslide", seed, "deo-bao-loc", "structure.pore_pressure")[t == 36.0] > 5.0


@each_seed
def test_the_discharge_swings_with_the_tide_and_takes_the_oxygen(seed: int) -> None:
    t = hours("thi-vai-discharge")
    ammonium = truth("thi-vai-discharge", seed, "go-dau", "water.ammonium")
    assert ammonium[t <= 8.0].max() == 0.0
    peaks = (ammonium[1:-1] > ammonium[:-2]) & (ammonium[1:-1] >= ammonium[2:]) & (ammonium[1:-1] > 0.5)
    assert peaks.sum() >= 3
    for station in ("go-dau", "phu-my"):
        oxygen = truth("thi-vai-discharge", seed, station, "water.dissolved_oxygen")
        assert oxygen[t <= 8.0].min() > 5.0 > 3.0 > oxygen.min()
    far = truth("thi-vai-discharge", seed, "cai-mep", "water.ammonium")
    assert 0.1 < far.max() < 0.6 * ammonium.max()


@each_seed
def test_the_forest_burns_in_dry_air_and_its_smoke_comes_downwind(seed: int) -> None:
    t = hours("forest-fire")
    smoke, aside = (truth("forest-fire", seed, place, "air.pm2_5") for place in ("cat-tien", "bau-sau"))
    assert smoke[t < 28.0].max() < 30.0 > aside.max()
    assert smoke[(t > 28.0) & (t < 48.0)].max() > 200.0
    assert smoke[t > 49.0].max() < 30.0
    humidity = truth("forest-fire", seed, "cat-tien", "air.humidity")
    assert humidity.min() < 30.0


@each_seed
def test_the_haze_is_over_all_towns_for_a_day_and_goes(seed: int) -> None:
    t = hours("haze")
    for station in ("bien-hoa-khi-tuong", "nhon-trach", "long-khanh"):
        pm = truth("haze", seed, station, "air.pm2_5")
        assert pm[(t > 24.0) & (t < 48.0)].min() > 80.0 > pm[t < 12.0].max()
        assert pm[t > 66.0].max() < 80.0


@each_seed
def test_salt_reaches_my_hoa_with_high_water_only(seed: int) -> None:
    near, middle, far = (
        truth("salinity", seed, station, "water.salinity") for station in ("an-thuan", "son-doc", "my-hoa")
    )
    assert (near > middle).all()
    assert (middle > far).all()
    assert middle.min() > 4.0
    assert np.count_nonzero((far[1:] >= 4.0) & (far[:-1] < 4.0)) >= 4


@each_seed
def test_the_river_passes_its_level_while_the_backhaul_is_cut(seed: int) -> None:
    played, t = scenario("backhaul-outage-and-burst"), hours("backhaul-outage-and-burst")
    level = truth(played.id, seed, "phu-hiep", "water.level")
    passed = t[int((level >= 104.5).argmax())]
    outage = played.outages[0]
    assert outage.backhaul
    assert outage.gateways is None
    assert outage.begins_h + 0.5 < passed < outage.ends_h - 1.0


@each_seed
@pytest.mark.parametrize("name", ["calm-day", "gateway-outage", "sensor-faults"])
def test_where_only_machines_fail_no_river_reaches_a_level(name: str, seed: int) -> None:
    played = scenario(name)
    gauges = {d.station for d in played.devices if "water.level" in measured_by(d, played.device_types)}
    assert len(gauges) >= 4
    for code in gauges:
        lowest = played.stations[code].thresholds["water.level"][0]["value"]
        assert truth(name, seed, code, "water.level").max() < lowest - 0.1


def test_sensors_fail_in_every_way() -> None:
    played = scenario("sensor-faults")
    faults = {fault.kind: fault for fault in played.faults}
    assert set(faults) == set(get_args(FaultKind))
    drift = faults["drift"]
    device = next(device for device in played.devices if device.dev_eui == drift.device)
    drifted = (drift.amount or 0.0) * (drift.ends_h - drift.begins_h) / 24.0
    lowest = played.stations[device.station].thresholds["water.level"][0]["value"]
    assert truth(played.id, 1, device.station, "water.level").min() + drifted > lowest + 0.2


def test_what_stands_at_gateways_without_power_hears_no_other_nearby() -> None:
    played = scenario("gateway-outage")
    for outage in played.outages:
        dark = [gateway for gateway in played.gateways if gateway.id in (outage.gateways or ())]
        others = [gateway for gateway in played.gateways if gateway not in dark]
        served = [
            station
            for station in played.registrations().stations
            if min(_km(station, gateway) for gateway in dark) < 8.0
        ]
        assert served
        assert all(_km(station, gateway) > 15.0 for station in served for gateway in others)


@each_seed
def test_the_storm_has_everything(seed: int) -> None:
    name = "storm-with-everything"
    played = scenario(name)
    assert played.faults
    assert {outage.backhaul for outage in played.outages} == {True, False}
    level = truth(name, seed, "phu-hiep", "water.level")
    assert level[0] < 104.5 < 105.5 < level.max() < 108.5
    assert truth(name, seed, "ta-lai", "water.level").max() > 112.0
    assert truth(name, seed, "bien-hoa-khi-tuong", "wind.gust").max() > 20.0
    t, moved = hours(name), truth(name, seed, "deo-bao-loc", "structure.displacement")
    assert 6.0 < t[rises(moved).argmax()] < 66.0


def test_the_page_lists_them_all() -> None:
    text = (DOCS / "how-to" / "simulate.md").read_text(encoding="utf-8")
    rows = table_rows(section(text, "## Scenarios"))[1:]
    told = {name.strip("`"): duration for name, duration, _ in rows}
    assert told == {name: f"{scenario(name).duration / 3600:g} h" for name in list_scenarios()}


def _km(station: Station, gateway: GatewaySpec) -> float:
    return distance_km((station.latitude, station.longitude), (gateway.latitude, gateway.longitude))
