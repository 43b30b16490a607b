"""What a scenario makes happen besides its weather: sensors that lie, outages, and what rules are to find.

All of it is in the answer sheet (`simulators.answers`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, Protocol

from pydantic import Field, model_validator

from decoders.device_types import DeviceType
from telemetry.catalogue import CATALOGUE

from .devices import DeviceSpec
from .network import GatewaySpec
from .sensors.fields import GAUGE, OWN
from .yamlfile import Duration, Loc, Model, Text, unknown

FaultKind = Literal["stuck", "bias", "drift", "spike", "noise", "silent", "battery"]
Crossing = Literal["above", "below", "rises_per_h"]
_WHOLE_DEVICE: tuple[FaultKind, ...] = ("silent", "battery")
_IN_THE_UNIT: tuple[FaultKind, ...] = ("bias", "drift", "spike")
_WITHOUT_AMOUNT: tuple[FaultKind, ...] = ("stuck", "silent")


class Happening(Model):
    """Something between two times of the world."""

    begins_h: float = Field(ge=0)
    duration: Duration

    @property
    def ends_h(self) -> float:
        return self.span[1] / 3600.0

    @property
    def span(self) -> tuple[float, float]:
        """World seconds of begin and end."""
        return self.begins_h * 3600.0, self.begins_h * 3600.0 + self.duration


class FaultSpec(Happening):
    """A sensor that fails from world hour `begins_h` on: it says what is not so, or nothing.

    `amount` is in the unit of `metric`, a day for ``drift``; times the usual deviation for ``noise``; the
    share of its charge that a ``battery`` loses a day. Without `metric` all that the device measures is hit.
    """

    device: str
    kind: FaultKind
    metric: str | None = None
    amount: float | None = None

    @model_validator(mode="after")
    def _whole(self) -> FaultSpec:
        if (self.amount is None) != (self.kind in _WITHOUT_AMOUNT):
            need = "takes no amount" if self.amount is not None else "needs an amount"
            raise ValueError(f"{self.kind} {need}")
        if self.amount is not None and self.amount <= 0 and self.kind not in _IN_THE_UNIT:
            raise ValueError(f"{self.kind} needs an amount above 0")
        if self.metric is None and self.kind in _IN_THE_UNIT:
            raise ValueError(f"{self.kind} needs the metric that its amount is of")
        if self.metric is not None and self.kind in _WHOLE_DEVICE:
            raise ValueError(f"{self.kind} is of the whole device; leave metric out")
        return self


class OutageSpec(Happening):
    """Gateways (all of them when None) that are deaf, or whose way to the server is cut: `backhaul`.

    What a gateway without backhaul hears it keeps, and delivers in a burst afterwards.
    """

    gateways: tuple[str, ...] | None = Field(default=None, min_length=1)
    backhaul: bool = False


class HazardSpec(Model):
    """What a good rule would find at these stations, each for itself: `metric` at or above a value, below
    one, or risen by `rises_per_h` within an hour."""

    kind: str = Field(pattern="^[a-z][a-z0-9-]{0,62}$")
    stations: tuple[str, ...] = Field(min_length=1)
    metric: str
    above: float | None = None
    below: float | None = None
    rises_per_h: float | None = Field(default=None, gt=0)
    name: Text

    @model_validator(mode="after")
    def _one_limit(self) -> HazardSpec:
        if len(self._limits()) != 1:
            raise ValueError("give exactly one of above, below and rises_per_h")
        return self

    @property
    def crossing(self) -> tuple[Crossing, float]:
        """Which way, and what is crossed."""
        return self._limits()[0]

    def _limits(self) -> list[tuple[Crossing, float]]:
        given: tuple[tuple[Crossing, float | None], ...] = (
            ("above", self.above),
            ("below", self.below),
            ("rises_per_h", self.rises_per_h),
        )
        return [(crossed, limit) for crossed, limit in given if limit is not None]


class _Content(Protocol):
    """Of a scenario's file, what these checks look at."""

    @property
    def devices(self) -> Sequence[DeviceSpec]: ...
    @property
    def gateways(self) -> Sequence[GatewaySpec]: ...
    @property
    def faults(self) -> Sequence[FaultSpec]: ...
    @property
    def outages(self) -> Sequence[OutageSpec]: ...
    @property
    def hazards(self) -> Sequence[HazardSpec]: ...


def truth_faults(
    content: _Content, types: Mapping[str, DeviceType], stations: Collection[str]
) -> Iterator[tuple[Loc, str]]:
    """Names that lead nowhere, and metrics that nobody measures; nothing that follows from another fault."""
    euis = [device.dev_eui for device in content.devices]
    gateways = [gateway.id for gateway in content.gateways]
    for i, fault in enumerate(content.faults):
        if len(set(euis)) == len(euis):
            yield from unknown(("faults", i, "device"), fault.device, euis)
        if euis.count(fault.device) == 1:
            device = content.devices[euis.index(fault.device)]
            if device.device_type in types:
                yield from _no_effect(i, fault, measured_by(device, types), device)
    for i, outage in enumerate(content.outages):
        for j, gateway in enumerate(outage.gateways or ()):
            if len(set(gateways)) == len(gateways):
                yield from unknown(("outages", i, "gateways", j), gateway, gateways)
    yield from _hazards_of_nobody(content, types, stations)


def _no_effect(
    i: int, fault: FaultSpec, measured: frozenset[str], device: DeviceSpec
) -> Iterator[tuple[Loc, str]]:
    if fault.kind in _WHOLE_DEVICE:
        return
    steady = measured & (OWN | frozenset(GAUGE) if fault.kind == "noise" else OWN)
    liable = measured - steady
    if not liable or fault.metric in steady:
        what = fault.metric or f"anything that a {device.device_type} tells"
        cure = f"; {fault.kind} does on {', '.join(sorted(liable))}" if liable else ""
        loc = ("faults", i, "metric" if fault.metric else "kind")
        yield loc, f"{fault.kind} does not act on {what}, but {' and '.join(_WHOLE_DEVICE)} do{cure}"
    elif fault.metric is not None:
        yield from _unmeasured(("faults", i, "metric"), fault.metric, liable, fault.device)


def _hazards_of_nobody(
    content: _Content, types: Mapping[str, DeviceType], stations: Collection[str]
) -> Iterator[tuple[Loc, str]]:
    measured: dict[str, frozenset[str]] = {}
    for device in content.devices:
        measured[device.station] = measured.get(device.station, frozenset()) | measured_by(device, types)
    everything = frozenset().union(*measured.values())
    typed = all(device.device_type in types for device in content.devices)
    placed = all(station in stations for station in measured)
    for i, hazard in enumerate(content.hazards):
        loc: Loc = ("hazards", i, "metric")
        somebody = hazard.metric in everything - OWN
        if hazard.metric in OWN:
            yield loc, f"a device knows {hazard.metric} of itself, and a hazard is something in the world"
        elif typed and not somebody:
            yield from _unmeasured(loc, hazard.metric, everything - OWN, "any device")
        for j, station in enumerate(hazard.stations):
            loc = ("hazards", i, "stations", j)
            if placed or station not in stations:
                yield from unknown(loc, station, measured)
            if typed and placed and somebody and hazard.metric not in measured.get(station, everything):
                yield loc, f"no device of {station} measures {hazard.metric}"


def _unmeasured(loc: Loc, metric: str, measured: frozenset[str], who: str) -> list[tuple[Loc, str]]:
    if metric in measured:
        return []
    if metric in CATALOGUE:
        return [(loc, f"{metric} is not what {who} measures: {', '.join(sorted(measured))}")]
    return unknown(loc, metric, measured, f"; {who} measures these")


def measured_by(device: DeviceSpec, types: Mapping[str, DeviceType]) -> frozenset[str]:
    """The metrics that its device type maps; none where there is no such type."""
    type_ = types.get(device.device_type)
    return frozenset(entry.metric for entry in type_.mapping) if type_ else frozenset()
