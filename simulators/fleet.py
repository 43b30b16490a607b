"""The devices of a run as arrays: what they measure, their batteries and clocks, and when they send."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from decoders.registry import Registry
from telemetry.catalogue import CATALOGUE
from telemetry.plugin import DecodeError

from .devices import DeviceSpec
from .draws import keys, normal, uniform
from .members import euis
from .scenario import Scenario
from .sensors import battery
from .sensors.fields import GAUGE, OWN, READ_FROM, Plan, Sense, readable
from .sensors.lies import distorted
from .sensors.noise import noise_of
from .sensors.sampling import Grid
from .truths import FaultSpec
from .world.rain import Array
from .world.scene import Scene, Spot
from .yamlfile import Document

Index = NDArray[np.int64]
_JITTER = 0.01
_OUT_OF_POWER = 0.001
_USUAL_C = 27.0
_VOLTS_SD = 0.003
_CASE_SD = 0.5
_MOST = {"air.humidity": 99.9}
"""What sensors say at most: 100 % would be 100.003 in a DL-PM's words, and no possible humidity."""


class Fleet:
    """All devices under a seed. Arrays are (n,) by device; `interval` in seconds can be changed by an order.

    `size` devices, the scenario's own first and then copies of them in turn. `offsets` are what their plans
    take off, by spec.

    Raises:
        UsageError: a device's codec needs more than can be measured there, or two would have one EUI.
    """

    def __init__(
        self,
        scenario: Scenario,
        scene: Scene,
        codecs: Registry,
        *,
        seed: int,
        run: str = "live",
        interval: float | None = None,
    ) -> None:
        specs = scenario.devices
        size = scenario.size
        number = np.arange(size)
        self.specs = specs
        self.spec: Index = number % len(specs)
        self.copy: Index = number // len(specs)
        self.eui = euis(specs, size)
        self.keys = keys(seed, self.eui)
        self.luck = keys(f"{seed} {run}", self.eui)
        own = np.array([interval or spec.interval for spec in specs])
        self.interval: Array = own[self.spec]
        self.frames = np.zeros(size, dtype=np.int64)
        self._awake_s: Array = np.full(size, np.nan)
        self.siren = np.zeros(size, dtype=np.bool_)
        charge = np.array([np.nan if spec.battery is None else spec.battery for spec in specs])[self.spec]
        drawn = 0.80 + 0.18 * uniform(self.keys, 0, "charge")
        self.charge: Array = np.where(np.isnan(charge), drawn, charge)
        self._rate = np.array([1.0 + 1e-6 * spec.clock.drift_ppm for spec in specs])
        self._noise = np.array([spec.noise for spec in specs])
        self._caught = 0.92 + 0.16 * uniform(self.keys, 0, "catch")
        self._before_mm = 800.0 + 1600.0 * uniform(self.keys, 0, "rain before")
        self._counted = np.full(size, np.nan)
        self._grid = Grid()
        self._known: dict[tuple[str, Spot], int] = {}
        self._scene = scene
        self._spots = [scenario.spot(spec) for spec in specs]
        self._kind_of, self._kinds = _plans(scenario, scene, codecs)
        self._plans: list[Plan] = [self._kinds[kind] for kind in self._kind_of.tolist()]
        self.offsets = [plan.offsets(spec.variables) for plan, spec in zip(self._plans, specs, strict=True)]
        self._refuse_unsayable(scenario)
        self._rows = [self._series(plan, i) for i, plan in enumerate(self._kinds)]
        self._air = np.array([self._air_row(spot) for spot in self._spots])
        self._faults = [(_index(specs, fault.device), fault) for fault in scenario.faults]

    def _refuse_unsayable(self, scenario: Scenario) -> None:
        for i, (plan, offsets) in enumerate(zip(self._plans, self.offsets, strict=True)):
            try:
                plan.frame([sum(CATALOGUE[s.metric].range) / 2 for s in plan.senses], offsets, 0, 60.0)
            except DecodeError as error:
                cause = (
                    f"a {plan.type.id} at {self.specs[i].place!r} cannot tell what it measures: {error}; "
                    "describe what is missing in `world:`, or take another type"
                )
                Document(scenario.path).refuse([(("devices", i, "device_type"), cause)])

    def plan_of(self, spec: int) -> Plan:
        """How devices of that spec fill their frames."""
        return self._plans[spec]

    def plan(self, device: int) -> Plan:
        """How this device fills its frames."""
        return self.plan_of(int(self.spec[device]))

    def clock(self, device: int, at_s: float, unix: float) -> float:
        """What the device's clock shows, Unix seconds, when it is `unix` and world second `at_s`."""
        own = self.specs[int(self.spec[device])].clock
        return unix + own.offset_s + at_s * own.drift_ppm * 1e-6

    def gap(self, device: Index) -> Array:
        """Seconds until each device sends again: its interval by its own clock, within 1 %."""
        jitter = _JITTER * (2.0 * uniform(self.luck[device], self.frames[device], "jitter") - 1.0)
        gap: Array = self.interval[device] * (1.0 + jitter) / self._rate[self.spec[device]]
        return gap

    def drain(self, device: Index, airtime_s: Array, at_s: Array) -> None:
        """Take what frames at world seconds `at_s` and the sleep before them cost."""
        slept = np.where(np.isnan(self._awake_s[device]), 0.0, at_s - self._awake_s[device])
        self.charge[device] -= battery.used(airtime_s, slept)
        self._awake_s[device] = at_s

    def rewind(self, seconds: float) -> None:
        """Give every battery what it will have used in so many seconds, at some 0.2 s on air a frame."""
        self.charge += battery.used(np.full(len(self.charge), 0.2), self.interval) * seconds / self.interval

    def left(self, device: Index, at_s: Array) -> Array:
        """The share of its charge that each has left at world seconds `at_s`, faults included."""
        charge = self.charge[device]
        for index, fault in self._faults:
            if fault.kind == "battery":
                lost = (fault.amount or 0.0) * (at_s / 3600.0 - fault.begins_h) / 24.0
                charge = charge - np.where((device == index) & _during(fault, at_s), lost, 0.0)
        return np.clip(charge, 0.0, 1.0)

    def speaks(self, device: Index, at_s: Array) -> NDArray[np.bool_]:
        """Whether each can send at all at world seconds `at_s`: it has power, and no fault silences it."""
        speaking = self.left(device, at_s) > _OUT_OF_POWER
        for index, fault in self._faults:
            if fault.kind == "silent":
                speaking &= ~((device == index) & _during(fault, at_s))
        return speaking

    def measure(self, device: Index, at_s: Array) -> list[list[float]]:
        """What each of `device` measures at world seconds `at_s`, all near each other, by its plan's senses.

        To be asked once for each frame: gauges count from one to the next.
        """
        found: list[list[float]] = [[]] * len(device)
        kinds = self._kind_of[self.spec[device]]
        for kind in np.unique(kinds).tolist():
            chosen = np.flatnonzero(kinds == kind)
            columns = self._columns(kind, device[chosen], at_s[chosen])
            for where, row in zip(chosen.tolist(), np.column_stack(columns).tolist(), strict=True):
                found[where] = row
        return found

    def _columns(self, kind: int, device: Index, at_s: Array) -> list[Array]:
        plan, rows = self._kinds[kind], self._rows[kind]
        columns: list[Array] = []
        gauge: Mapping[str, Array] = {}
        for j, sense in enumerate(plan.senses):
            if sense.metric in OWN:
                columns.append(self._own(sense.metric, device, at_s))
                continue
            truth = self._grid.at(rows[self.spec[device], j], at_s)
            if sense.metric in GAUGE:
                if not gauge:
                    fallen = self._faulty(sense, device, at_s, truth, np.zeros_like(truth))
                    gauge = self._counts(plan.tip, device, fallen)
                columns.append(gauge[sense.metric])
            else:
                columns.append(self._noisy(sense, device, at_s, truth))
        return columns

    def _own(self, metric: str, device: Index, at_s: Array) -> Array:
        if metric == "siren.on":
            return self.siren[device].astype(np.float64)
        if metric == "power.external":
            return np.ones(len(device))
        rows = self._air[self.spec[device]]
        celsius = np.where(rows < 0, _USUAL_C, self._grid.at(np.maximum(rows, 0), at_s))
        if metric == "device.temperature":
            return celsius + self._deviation(metric, device, _CASE_SD)
        charge = self.left(device, at_s)
        if metric == "battery.level":
            return np.round(100.0 * charge)
        return battery.voltage(charge, celsius) + self._deviation("battery.voltage", device, _VOLTS_SD)

    def _counts(self, tip: float, device: Index, fallen_mm: Array) -> Mapping[str, Array]:
        """A gauge catches a little more or less than falls over its area, and tells whole tips."""
        tips = np.floor((self._before_mm[device] + self._caught[device] * fallen_mm) / tip)
        since = np.maximum(np.nan_to_num(tips - self._counted[device]), 0.0)
        self._counted[device] = tips
        return {"rain.total": tips * tip, "rain.interval": since * tip}

    def _noisy(self, sense: Sense, device: Index, at_s: Array, truth: Array) -> Array:
        name = f"{sense.metric} {sense.channel}"
        deviation = self._deviation(name, device, noise_of(sense.metric).sd(truth))
        values = self._faulty(sense, device, at_s, truth + deviation, deviation)
        low, high = CATALOGUE[sense.metric].range
        if sense.metric == "wind.direction":
            return np.mod(values, 360.0)
        return np.clip(values, low, _MOST.get(sense.metric, high))

    def _faulty(self, sense: Sense, device: Index, at_s: Array, values: Array, deviation: Array) -> Array:
        """What sensors say of `values` that are off by `deviation`: the same, but for those that fail."""
        for index, fault in self._faults:
            of = GAUGE if sense.metric in GAUGE else (sense.metric,)
            if fault.kind in ("silent", "battery") or fault.metric not in (None, *of):
                continue
            hit = (device == index) & _during(fault, at_s)
            if hit.any():
                who = device[hit]
                luck = uniform(self.luck[who], self.frames[who], f"spike {sense.metric} {sense.channel}")
                begin = self._when_begun(fault, sense)
                values = values.copy()
                values[hit] = distorted(fault, values[hit], at_s[hit] / 3600.0, deviation[hit], begin, luck)
        return values

    def _deviation(self, what: str, device: Index, sd: Array | float) -> Array:
        scale: Array = sd * self._noise[self.spec[device]]
        return normal(self.luck[device], self.frames[device], what) * scale

    def _when_begun(self, fault: FaultSpec, sense: Sense) -> Callable[[], float]:
        spot = self._spots[_index(self.specs, fault.device)]
        metric = READ_FROM.get(sense.metric, sense.metric)
        return lambda: float(self._scene.series(metric, _deeper(spot, sense))(np.array([fault.begins_h]))[0])

    def _series(self, plan: Plan, kind: int) -> Index:
        """The grid's rows of a plan's senses, (specs, senses); -1 where a spec is of another plan."""
        rows = np.full((len(self.specs), len(plan.senses)), -1, dtype=np.int64)
        for i in np.flatnonzero(self._kind_of == kind).tolist():
            for j, sense in enumerate(plan.senses):
                if sense.metric not in OWN:
                    metric = READ_FROM.get(sense.metric, sense.metric)
                    rows[i, j] = self._row(metric, _deeper(self._spots[i], sense))
        return rows

    def _row(self, metric: str, spot: Spot) -> int:
        if (metric, spot) not in self._known:
            self._known[metric, spot] = self._grid.add(self._scene.series(metric, spot))
        return self._known[metric, spot]

    def _air_row(self, spot: Spot) -> int:
        measurable = self._scene.metrics(spot.point)
        return self._row("air.temperature", spot) if "air.temperature" in measurable else -1


def _plans(scenario: Scenario, scene: Scene, codecs: Registry) -> tuple[Index, list[Plan]]:
    """The plan of each spec, as its place in the list of all plans."""
    plans: dict[tuple[str, frozenset[str]], tuple[int, Plan]] = {}
    chosen = []
    for spec in scenario.devices:
        type_ = scenario.device_types[spec.device_type]
        can = readable(scene.metrics(spec.place)) & {entry.metric for entry in type_.mapping}
        key = (type_.id, can)
        if key not in plans:
            plans[key] = (len(plans), Plan(type_, codecs.get(type_.codec), can))
        chosen.append(plans[key][0])
    return np.array(chosen, dtype=np.int64), [plan for _, plan in plans.values()]


def _deeper(spot: Spot, sense: Sense) -> Spot:
    """The probes of a profile hang evenly: that of channel n at n + 1 times the depth."""
    return spot._replace(place=replace(spot.place, depth_m=spot.place.depth_m * (sense.channel + 1)))


def _index(specs: Sequence[DeviceSpec], dev_eui: str) -> int:
    return next(i for i, spec in enumerate(specs) if spec.dev_eui == dev_eui)


def _during(fault: FaultSpec, at_s: Array) -> NDArray[np.bool_]:
    return (at_s >= fault.begins_h * 3600.0) & (at_s < fault.ends_h * 3600.0)
