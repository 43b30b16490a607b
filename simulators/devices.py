"""Simulated sensors: what one measures of the world, and the very bytes it sends for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Literal

import numpy as np
from pydantic import Field as Check

from decoders.device_types import DeviceType, MapEntry, Variable
from telemetry.plugin import Codec, Fields

from .servers import Format, Session
from .world.basin import World
from .yamlfile import Duration, Model

Quantity = Literal["level", "rain", "air"]


class DeviceSpec(Model):
    """A device of a scenario. It measures at `point`, a name of the basin's: its station's code by default.

    `interval` is world time; `variables` go to the registry as they are; `noise` scales the sensor's noise.
    """

    dev_eui: str = Check(pattern="^[0-9a-f]{16}$")
    name: str = Check(min_length=1)
    device_type: str
    station: str
    point: str | None = None
    interval: Duration
    network: Format
    variables: dict[str, float] = Check(default_factory=dict)
    noise: float = Check(default=1.0, ge=0)

    @property
    def place(self) -> str:
        return self.point or self.station


@dataclass(frozen=True, slots=True)
class Frame:
    """An application payload with its counter and port, and the fields that were encoded."""

    f_cnt: int
    f_port: int
    payload: bytes
    fields: Fields


class Device:
    """One sensor with its own random stream, drawn from the scenario's seed and its EUI.

    So adding a device to a scenario changes nothing for the others.
    """

    def __init__(self, spec: DeviceSpec, type_: DeviceType, codec: Codec, *, seed: int) -> None:
        self.spec = spec
        self.type = type_
        self.codec = codec
        self.rng = np.random.Generator(np.random.PCG64([seed, int(spec.dev_eui, 16)]))
        self.f_cnt = 0
        self._sent = 0
        self._charge = float(self.rng.uniform(0.80, 0.98))
        self._rain_before_mm = float(self.rng.uniform(800.0, 2400.0))
        self._catch = float(self.rng.uniform(0.92, 1.08))
        self.session = self.join()

    @property
    def battery(self) -> float:
        """Charge left, a share of 1. About a hundred thousand frames empty it."""
        return max(self._charge - 1e-5 * self._sent, 0.0)

    def join(self) -> Session:
        """Start a new session: another address and key, counter at 0."""
        self.f_cnt = 0
        self.session = Session(f"{0x2600_0000 | int(self.rng.integers(1 << 24)):08x}", self.rng.bytes(16))
        return self.session

    def frame(self, world: World, t_h: float) -> Frame:
        """Measure at world hour `t_h` and encode."""
        fields = MODELS[self.type.codec].fields(self, world, t_h)
        f_port, payload = self.codec.encode(fields)
        frame = Frame(self.f_cnt, f_port, payload, self.codec.decode(f_port, payload))
        self.f_cnt += 1
        self._sent += 1
        return frame

    def noise(self, sd: float) -> float:
        """A normal deviate of that standard deviation, scaled by the device's `noise`."""
        return float(self.rng.normal(0.0, sd)) * self.spec.noise

    def put(self, metric: str, value: float) -> Fields:
        """The field that the device type maps to `metric`, with the number that gives `value`."""
        entry = self._entry(metric)
        return {entry.field: (value - self._offset(entry)) / entry.scale}

    def _entry(self, metric: str) -> MapEntry:
        return next(entry for entry in self.type.mapping if entry.metric == metric)

    def _offset(self, entry: MapEntry) -> float:
        return self.spec.variables[entry.offset.name] if isinstance(entry.offset, Variable) else entry.offset

    def volts(self) -> Fields:
        """Of a lithium cell: 3.0 V when empty, 3.65 V when full."""
        return self.put("battery.voltage", round(3.0 + 0.65 * self.battery + self.noise(0.003), 3))

    def rain_tips(self, world: World, t_h: float) -> int:
        """Tips since installation; a gauge catches a little more or less than falls over its area."""
        per_tip = self._entry("rain.total").scale
        return floor((self._rain_before_mm + self._catch * world.rain_total(self.spec.place, t_h)) / per_tip)


def _ldds75(device: Device, world: World, t_h: float) -> Fields:
    """Distance to the water from above; resolution 1 mm, range 0.28–7.5 m (Dragino LDDS75 user manual)."""
    level = world.level(device.spec.place, t_h) + device.noise(0.004)
    (name, millimetres), *_ = device.put("water.level", level).items()
    assert isinstance(millimetres, float)
    if millimetres < 280.0:
        return {**device.volts(), "distance_status": "too_near"}
    if millimetres > 7500.0:
        return {**device.volts(), "distance_status": "no_sensor"}
    return {**device.volts(), name: round(millimetres)}


def _dl_tbrg(device: Device, world: World, t_h: float) -> Fields:
    """Tips of a tipping bucket, of the last interval and in all."""
    total = device.rain_tips(world, t_h)
    interval = min(round(device.spec.interval), 0xFFFF)
    return {
        "device_id": int(device.spec.dev_eui[-4:], 16),
        "tips": total - device.rain_tips(world, t_h - interval / 3600.0),
        "interval_s": interval,
        "tips_total": total,
        **device.volts(),
    }


def _em300(device: Device, world: World, t_h: float) -> Fields:
    """Air temperature to 0.1 °C and humidity to 0.5 %."""
    celsius, humidity = world.air(device.spec.place, t_h)
    humidity = min(max(humidity + device.noise(0.8), 1.0), 100.0)
    return {
        **device.put("battery.level", round(device.battery * 100)),
        **device.put("air.temperature", round(celsius + device.noise(0.1), 1)),
        **device.put("air.humidity", round(humidity * 2) / 2),
    }


@dataclass(frozen=True, slots=True)
class SensorModel:
    """How a codec's sensor measures: what it needs of the world, and its fields at a world hour."""

    quantity: Quantity
    fields: Callable[[Device, World, float], Fields]


MODELS: Mapping[str, SensorModel] = {
    "dragino-ldds75": SensorModel("level", _ldds75),
    "decentlab-dl-tbrg": SensorModel("rain", _dl_tbrg),
    "milesight-em300": SensorModel("air", _em300),
}
"""By codec; a scenario's devices must be of types that speak one of these."""
