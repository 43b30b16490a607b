"""Sensors: real bytes that decode to the scene's value within the sensor's resolution, or to its fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from decoders.normalise import normalise
from decoders.registry import load_codecs
from simulators.fleet import Fleet
from simulators.scenario import Scenario
from simulators.sensors.fields import Plan
from simulators.truths import FaultSpec
from simulators.world.scene import Scene

HOURS = np.arange(-24.0, 96.0, 0.5)
PHU_HIEP = "Mực nước Phú Hiệp"
Values = list[dict[str, float]]
Measure = Callable[..., Values]


@pytest.fixture(scope="module")
def scene(flood: Scenario) -> Scene:
    return flood.scene(seed=1)


@pytest.fixture
def measure(flood: Scenario, scene: Scene) -> Measure:
    """What the bytes of one device's frames decode to, at `hours`."""

    def _measure(
        name: str, hours: Any = HOURS, *, faults: tuple[FaultSpec, ...] = (), **changes: object
    ) -> Values:
        spec = next(spec for spec in flood.devices if spec.name == name).model_copy(update=changes)
        alone = replace(flood, devices=(spec,), size=1, faults=faults)
        fleet = Fleet(alone, scene, load_codecs(), seed=1)
        plan, device = fleet.plan(0), np.array([0])
        found: Values = []
        for hour in hours:
            fleet.frames[0] += 1
            at = np.array([hour * 3600.0])
            if not fleet.speaks(device, at)[0]:
                found.append({})
                continue
            (values,) = fleet.measure(device, at)
            fields, port, payload = plan.frame(values, fleet.offsets[0], int(fleet.eui[0]), spec.interval)
            assert plan.codec.decode(port, payload) == fields
            told = normalise(fields, plan.type, spec.variables)
            assert told.problems == []
            found.append({value.metric: value.value for value in told.values})
        return found

    return _measure


def _fault(flood: Scenario, name: str, **content: object) -> tuple[FaultSpec, ...]:
    device = next(spec.dev_eui for spec in flood.devices if spec.name == name)
    content = {"device": device, "begins_h": 10.0, "duration": "10h", **content}
    return (FaultSpec.model_validate(content),)


def test_a_level_decodes_to_the_river(flood: Scenario, measure: Measure, scene: Scene) -> None:
    for spec in flood.devices:
        if spec.device_type != "dragino-ldds75":
            continue
        levels = scene.world.level(spec.place, HOURS)
        for values, level in zip(measure(spec.name, noise=0.0), levels, strict=True):
            assert values["water.level"] == pytest.approx(level, abs=0.00051)
            assert 0.3 <= values["distance"] <= 7.5


def test_noise_is_small(measure: Measure, scene: Scene) -> None:
    told = np.array([values["water.level"] for values in measure(PHU_HIEP)])
    errors = told - scene.world.level("phu-hiep", HOURS)
    assert np.abs(errors).max() < 0.03
    assert 0.002 < np.std(errors) < 0.006


@pytest.mark.parametrize("elevation", [104.3, 114.0])
def test_out_of_range_gives_no_distance(measure: Measure, elevation: float) -> None:
    (values,) = measure(PHU_HIEP, [0.0], variables={"sensor_elevation_m": elevation})
    assert values.keys() == {"battery.voltage"}


def test_a_rain_gauge_counts_the_rain(measure: Measure, scene: Scene) -> None:
    values = measure("Mưa Bảo Lộc")
    totals = np.array([one["rain.total"] for one in values])
    assert (np.diff(totals) >= 0).all()
    first, last = scene.world.rain_total("la-nga-upper", HOURS[[0, -1]])
    assert totals[-1] - totals[0] == pytest.approx(last - first, rel=0.1)
    assert sum(one["rain.interval"] for one in values[1:]) == pytest.approx(totals[-1] - totals[0])


def test_air_decodes_to_the_air(measure: Measure, scene: Scene) -> None:
    celsius, humidity = scene.world.air("bien-hoa", HOURS)
    for n, values in enumerate(measure("Nhiệt độ, độ ẩm Biên Hòa", noise=0.0)):
        assert values["air.temperature"] == pytest.approx(celsius[n], abs=0.055)
        assert values["air.humidity"] == pytest.approx(humidity[n], abs=0.26)


@pytest.mark.parametrize(
    ("kind", "amount", "expected"),
    [
        ("bias", 0.4, lambda level, hour: level + 0.4),
        ("drift", 2.4, lambda level, hour: level + 0.1 * (hour - 10.0)),
    ],
)
def test_a_fault_is_as_told_and_only_in_its_time(
    flood: Scenario, measure: Measure, kind: str, amount: float, expected: Callable[[Any, Any], Any]
) -> None:
    hours = np.arange(5.0, 25.0, 0.5)
    right = np.array([v["water.level"] for v in measure(PHU_HIEP, hours)])
    faults = _fault(flood, PHU_HIEP, kind=kind, metric="water.level", amount=amount)
    wrong = np.array([v["water.level"] for v in measure(PHU_HIEP, hours, faults=faults)])
    during = (hours >= 10.0) & (hours < 20.0)
    assert wrong[~during].tolist() == right[~during].tolist()
    assert wrong[during] == pytest.approx(expected(right, hours)[during], abs=0.0011)


def test_a_stuck_sensor_keeps_its_last_value(flood: Scenario, measure: Measure, scene: Scene) -> None:
    values = measure(PHU_HIEP, np.arange(10.0, 20.0, 0.5), faults=_fault(flood, PHU_HIEP, kind="stuck"))
    (level,) = {value["water.level"] for value in values}
    assert level == pytest.approx(float(scene.world.level("phu-hiep", np.array(10.0))), abs=0.0006)
    assert len({value["battery.voltage"] for value in values}) > 1


def test_a_clogged_gauge_counts_nothing_until_it_is_free(flood: Scenario, measure: Measure) -> None:
    name, hours = "Mưa Bảo Lộc", np.arange(-1.0, 12.0, 0.5)
    right = np.array([one["rain.total"] for one in measure(name, hours)])
    fault = _fault(flood, name, kind="stuck", metric="rain.total", begins_h=0.0, duration="8h")
    wrong = measure(name, hours, faults=fault)
    during = (hours >= 0.0) & (hours < 8.0)
    totals = np.array([one["rain.total"] for one in wrong])
    assert len(set(totals[during])) == 1 < len(set(right[during]))
    assert totals[~during].tolist() == right[~during].tolist()
    assert sum(one["rain.interval"] for one in wrong[3:18]) == 0.0


def test_spikes_noise_silence_and_an_empty_battery(flood: Scenario, measure: Measure, scene: Scene) -> None:
    hours = np.arange(10.0, 20.0, 0.05)
    truth = scene.world.level("phu-hiep", hours)

    def errors(**fault: object) -> Any:
        told = measure(PHU_HIEP, hours, faults=_fault(flood, PHU_HIEP, **fault))
        return np.array([value["water.level"] for value in told]) - truth

    spikes = errors(kind="spike", metric="water.level", amount=-1.5) < -1.0
    assert 0.04 < spikes.mean() < 0.2
    assert 0.015 < np.std(errors(kind="noise", metric="water.level", amount=6.0)) < 0.04
    silent = measure(PHU_HIEP, [9.9, 10.0, 19.9, 20.0], faults=_fault(flood, PHU_HIEP, kind="silent"))
    assert list(map(bool, silent)) == [True, False, False, True]
    dying = measure(PHU_HIEP, hours, faults=_fault(flood, PHU_HIEP, kind="battery", amount=3.0))
    volts = [value["battery.voltage"] for value in dying if value]
    assert volts[0] > 3.4
    assert volts[-1] < 2.6
    assert len(volts) < len(hours)


def test_devices_do_not_share_randomness(flood: Scenario, scene: Scene) -> None:
    whole, alone = (
        Fleet(replace(flood, devices=devices, size=len(devices)), scene, load_codecs(), seed=1)
        for devices in (flood.devices, flood.devices[3:4])
    )
    at = np.full(len(flood.devices), 3600.0)
    every = whole.measure(np.arange(len(flood.devices)), at)
    assert every[3] == alone.measure(np.array([0]), at[:1])[0]
    assert whole.charge[3] == alone.charge[0]


def test_a_sensor_saturates_where_its_frame_ends(flood: Scenario, measure: Measure) -> None:
    name = "Nhiệt độ, độ ẩm Biên Hòa"
    faults = _fault(flood, name, kind="bias", metric="air.temperature", amount=100_000.0)
    (values,) = measure(name, [12.0], faults=faults)
    assert values["air.temperature"] > 50.0


def test_a_number_beyond_its_field_is_the_nearest_that_fits(flood: Scenario) -> None:
    type_ = flood.device_types["decentlab-dl-atm41"]
    plan = Plan(type_, load_codecs().get(type_.codec), {"rain.interval", "air.temperature"})
    values = {
        "rain.interval": 76.007,
        "air.temperature": 25.0,
        "battery.voltage": 3.6,
        "device.temperature": 28.0,
    }
    offsets = plan.offsets({})
    fields, _, _ = plan.frame([values[sense.metric] for sense in plan.senses], offsets, 1, 600.0)
    told = {value.metric: value.value for value in normalise(fields, type_, {}).values}
    assert told["rain.interval"] == pytest.approx(32.767, abs=0.001)
    assert told["air.temperature"] == 25.0
