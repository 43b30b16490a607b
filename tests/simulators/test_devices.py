"""Sensors: real bytes that decode to the world's value within the sensor's resolution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from decoders.normalise import normalise
from decoders.registry import load_codecs
from simulators.devices import Device, Frame
from simulators.scenario import Scenario
from simulators.world.basin import World

HOURS = np.arange(-24.0, 96.0, 0.5)


@pytest.fixture
def make(flood: Scenario) -> Callable[..., Device]:
    def _make(name: str, **changes: object) -> Device:
        spec = next(spec for spec in flood.devices if spec.name == name).model_copy(update=changes)
        type_ = flood.device_types[spec.device_type]
        return Device(spec, type_, load_codecs().get(type_.codec), seed=1)

    return _make


@pytest.fixture
def world(flood: Scenario) -> World:
    return flood.scene(seed=1).world


def _values(device: Device, frame: Frame) -> dict[str, float]:
    fields = device.codec.decode(frame.f_port, frame.payload)
    found = normalise(fields, device.type, device.spec.variables)
    assert found.problems == []
    return {value.metric: value.value for value in found.values}


def test_a_level_decodes_to_the_river(flood: Scenario, make: Callable[..., Device], world: World) -> None:
    for spec in flood.devices:
        if spec.device_type != "dragino-ldds75":
            continue
        device = make(spec.name, noise=0.0)
        for hour in HOURS:
            values = _values(device, device.frame(world, hour))
            assert values["water.level"] == pytest.approx(world.level(spec.place, hour), abs=0.00051)
            assert 0.3 <= values["distance"] <= 7.5


def test_noise_is_small(make: Callable[..., Device], world: World) -> None:
    device = make("Mực nước Phú Hiệp")
    errors = [
        _values(device, device.frame(world, h))["water.level"] - world.level("phu-hiep", h) for h in HOURS
    ]
    assert max(map(abs, errors)) < 0.03
    assert 0.002 < np.std(errors) < 0.006


@pytest.mark.parametrize(("elevation", "status"), [(104.3, "too_near"), (114.0, "no_sensor")])
def test_out_of_range_gives_no_distance(
    make: Callable[..., Device], world: World, elevation: float, status: str
) -> None:
    device = make("Mực nước Phú Hiệp", variables={"sensor_elevation_m": elevation})
    frame = device.frame(world, 0.0)
    assert device.codec.decode(frame.f_port, frame.payload)["distance_status"] == status
    assert "water.level" not in _values(device, frame)


def test_a_rain_gauge_counts_the_rain(make: Callable[..., Device], world: World) -> None:
    device = make("Mưa Bảo Lộc")
    totals = [_values(device, device.frame(world, h))["rain.total"] for h in HOURS]
    assert (np.diff(totals) >= 0).all()
    fallen = world.rain_total("la-nga-upper", HOURS[-1]) - world.rain_total("la-nga-upper", HOURS[0])
    assert totals[-1] - totals[0] == pytest.approx(fallen, rel=0.1)


def test_a_gauges_intervals_add_up_to_its_counter(make: Callable[..., Device], world: World) -> None:
    device = make("Mưa Bảo Lộc", interval=1800.0)
    values = [_values(device, device.frame(world, h)) for h in np.arange(0.0, 48.0, 0.5)]
    counted = values[-1]["rain.total"] - values[0]["rain.total"]
    assert sum(v["rain.interval"] for v in values[1:]) == pytest.approx(counted)


def test_air_decodes_to_the_air(make: Callable[..., Device], world: World) -> None:
    device = make("Nhiệt độ, độ ẩm Biên Hòa", noise=0.0)
    for hour in HOURS:
        values = _values(device, device.frame(world, hour))
        celsius, humidity = world.air("bien-hoa", hour)
        assert values["air.temperature"] == pytest.approx(celsius, abs=0.051)
        assert values["air.humidity"] == pytest.approx(humidity, abs=0.251)


def test_counters_restart_with_a_session(make: Callable[..., Device], world: World) -> None:
    device = make("Mực nước Phú Hiệp")
    before = device.session
    assert [device.frame(world, 0.0).f_cnt for _ in range(3)] == [0, 1, 2]
    assert device.join() != before
    assert device.frame(world, 0.0).f_cnt == 0


def test_the_battery_drains_slowly(make: Callable[..., Device], world: World) -> None:
    device = make("Mực nước Phú Hiệp")
    full = device.battery
    for _ in range(100):
        device.frame(world, 0.0)
    assert 0 < full - device.battery < 0.01


def test_devices_do_not_share_randomness(make: Callable[..., Device], world: World) -> None:
    alone = [make("Mưa Tà Pao").frame(world, h).payload for h in (1.0, 2.0)]
    make("Mưa Bảo Lộc").frame(world, 1.0)
    assert [make("Mưa Tà Pao").frame(world, h).payload for h in (1.0, 2.0)] == alone
