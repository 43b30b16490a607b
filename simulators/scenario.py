"""Scenarios: YAML files that say what the weather does, what stands where and how it reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from decoders.device_types import DeviceType, Variable, builtin_device_types
from telemetry.errors import UsageError

from .causes import did_you_mean
from .devices import DeviceSpec
from .members import Member, copied, euis
from .network import GatewaySpec, NetworkSpec
from .sensors.fields import OWN, readable
from .stations import Station, load_stations
from .truths import FaultSpec, HazardSpec, OutageSpec, measured_by, truth_faults
from .world.basin import Basin, Storm
from .world.field import Place
from .world.scene import Scene, Spot, make_scene
from .world.spec import WorldSpec
from .yamlfile import Document, Duration, Loc, Model, Text, unknown

_DESCRIBE = "describe it in `world:`"
BUILTIN_FOLDER = Path(__file__).with_name("scenarios")


class _File(Model):
    name: Text
    description: Text
    basin: str
    stations: str | None = None
    rules: str | None = None
    duration: Duration
    speed: float = Field(gt=0, le=100_000)
    storms: list[Storm] = Field(default_factory=list)
    world: WorldSpec | None = None
    network: NetworkSpec = NetworkSpec()
    gateways: list[GatewaySpec] = Field(min_length=1)
    devices: list[DeviceSpec] = Field(min_length=1)
    faults: list[FaultSpec] = Field(default_factory=list)
    outages: list[OutageSpec] = Field(default_factory=list)
    hazards: list[HazardSpec] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeviceRegistration:
    """What the registry has to know of a simulated device before its frames can be decoded."""

    dev_eui: str
    name: str
    device_type: str
    station: str
    variables: dict[str, float]
    simulated: bool = True


@dataclass(frozen=True, slots=True)
class Registrations:
    """Master data of a scenario; every station and device is marked simulated."""

    stations: tuple[Station, ...]
    devices: tuple[DeviceRegistration, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A loaded scenario. `duration` is world time in seconds, `speed` world seconds per second.

    `devices` are those of its file; `size` take part, copies of them in turn being the rest.
    """

    id: str
    path: Path
    name: Text
    description: Text
    duration: float
    speed: float
    basin: Basin
    storms: tuple[Storm, ...]
    world: WorldSpec | None
    stations: Mapping[str, Station]
    device_types: Mapping[str, DeviceType]
    gateways: tuple[GatewaySpec, ...]
    devices: tuple[DeviceSpec, ...]
    network: NetworkSpec
    rules_path: Path | None
    size: int
    faults: tuple[FaultSpec, ...] = ()
    outages: tuple[OutageSpec, ...] = ()
    hazards: tuple[HazardSpec, ...] = ()

    @property
    def copies(self) -> int:
        """How often its devices stand there, whole or in part."""
        return -(-self.size // len(self.devices))

    def multiplied(self, size: int) -> Scenario:
        """The same with so many devices: its own first, then copies that stand at copies of their stations.

        With fewer than its own, faults of the others are left out.

        Raises:
            UsageError: fewer than one, or two would have one EUI.
        """
        if size < 1:
            raise UsageError(f"devices: at least 1 is needed, got {size}")
        euis(self.devices, size)
        if size >= len(self.devices):
            return replace(self, size=size)
        devices = self.devices[:size]
        here = {device.dev_eui for device in devices}
        faults = (fault for fault in self.faults if fault.device in here)
        return replace(self, size=size, devices=devices, faults=tuple(faults))

    def members(self) -> Iterator[Member]:
        """Everybody who takes part."""
        count = len(self.devices)
        return (Member(self.devices[i % count], i // count) for i in range(self.size))

    def registrations(self) -> Registrations:
        """The devices, and the stations they stand at."""
        used = dict.fromkeys((member.spec.station, member.copy) for member in self.members())
        return Registrations(
            tuple(copied(self.stations[code], n, self.copies).as_simulated() for code, n in sorted(used)),
            tuple(
                DeviceRegistration(m.dev_eui, m.name, m.spec.device_type, m.station, dict(m.spec.variables))
                for m in self.members()
            ),
        )

    def scene(self, *, seed: int, start_hour: float = 0.0) -> Scene:
        """What can be measured in this scenario; `start_hour` is the local time of day at its start."""
        return make_scene(
            self.world,
            self.basin,
            self.storms,
            duration_h=self.duration / 3600.0,
            seed=seed,
            start_hour=start_hour,
        )

    def spot(self, device: DeviceSpec) -> Spot:
        """Where a device measures: its station's coordinates, and its own along the river and in depth."""
        at, along = self.stations[device.station], {"river_km": device.river_km, "depth_m": device.depth_m}
        if self.world is None:
            return Spot(device.place, Place(**along))
        return Spot(device.place, self.world.origin.place(at.latitude, at.longitude, **along))


def list_scenarios() -> list[str]:
    """Names of the built-in scenarios, sorted."""
    return sorted(path.stem for path in BUILTIN_FOLDER.glob("*.yaml"))


def load_scenario(
    name_or_path: str | Path, *, device_types: Mapping[str, DeviceType] | None = None
) -> Scenario:
    """A built-in scenario by name, or any by its file; files it names are relative to it.

    Raises:
        UsageError: no such scenario, or one ``file:line: path: cause`` line for each fault.
    """
    path = _find(name_or_path)
    types = builtin_device_types() if device_types is None else device_types
    document = Document(path)
    content = document.parse(_File)
    basin_document = Document(document.beside("basin", content.basin))
    basin = basin_document.parse(Basin)
    basin_document.refuse(basin.faults())
    stations = load_stations(document.beside("stations", content.stations) if content.stations else None)
    document.refuse(_faults(content, basin, stations, types))
    document.refuse(_not_in_the_world(content, basin, types))
    return Scenario(
        id=path.stem,
        path=path,
        name=content.name,
        description=content.description,
        duration=content.duration,
        speed=content.speed,
        basin=basin,
        storms=tuple(content.storms),
        world=content.world,
        stations=stations,
        device_types=types,
        gateways=tuple(content.gateways),
        devices=tuple(content.devices),
        network=content.network,
        size=len(content.devices),
        rules_path=path.parent / content.rules if content.rules else None,
        faults=tuple(content.faults),
        outages=tuple(content.outages),
        hazards=tuple(content.hazards),
    )


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    if (builtin := BUILTIN_FOLDER / f"{path}.yaml").is_file():
        return builtin
    known = list_scenarios()
    raise UsageError(
        f"no scenario {str(path)!r}{did_you_mean(str(path), known)}; known are {', '.join(known)}, "
        "or name a .yaml file"
    )


def _faults(
    content: _File, basin: Basin, stations: Mapping[str, Station], types: Mapping[str, DeviceType]
) -> list[tuple[Loc, str]]:
    found: list[tuple[Loc, str]] = []
    for loc, hour in _begins(content):
        if hour * 3600.0 >= content.duration:
            found.append((loc, f"the scenario ends after {content.duration / 3600.0:g} h"))
    for i, storm in enumerate(content.storms):
        found += unknown(("storms", i, "catchment"), storm.catchment, basin.catchments)
    found += _repeated("gateways", "id", [gateway.id for gateway in content.gateways])
    found += _repeated("devices", "dev_eui", [device.dev_eui for device in content.devices])
    if content.world is not None:
        found += [(("world", *loc), cause) for loc, cause in content.world.faults(basin)]
    for i, device in enumerate(content.devices):
        at: tuple[str | int, ...] = ("devices", i)
        found += unknown((*at, "station"), device.station, stations)
        found += unknown((*at, "device_type"), device.device_type, types)
        if device.point is not None:
            found += unknown((*at, "point"), device.point, basin.names())
        if (type_ := types.get(device.device_type)) is None:
            continue
        if device.datalog and not device.confirmed:
            found.append(((*at, "datalog"), "only a device with `confirmed: true` knows what never arrived"))
        if device.datalog and all(entry.records is None for entry in type_.mapping):
            found.append(((*at, "datalog"), f"a {type_.id} has no frames for values of the past"))
        needed = {e.offset.name for e in type_.mapping if isinstance(e.offset, Variable)}
        found += [
            ((*at, "variables"), f"{name} is needed by a {type_.id}")
            for name in sorted(needed - device.variables.keys())
        ]
    return [*found, *truth_faults(content, types, stations)]


def _begins(content: _File) -> Iterator[tuple[Loc, float]]:
    for i, storm in enumerate(content.storms):
        yield ("storms", i, "onset_h"), storm.onset_h
    if content.world is not None:
        for loc, hour in content.world.begins():
            yield ("world", *loc), hour
    for i, fault in enumerate(content.faults):
        yield ("faults", i, "begins_h"), fault.begins_h
    for i, outage in enumerate(content.outages):
        yield ("outages", i, "begins_h"), outage.begins_h


def _not_in_the_world(
    content: _File, basin: Basin, types: Mapping[str, DeviceType]
) -> Iterator[tuple[Loc, str]]:
    """Devices that find nothing of what they measure; faults and hazards of what is not there."""
    scene = make_scene(content.world, basin, content.storms, duration_h=0.0, seed=0)

    def cures(measured: frozenset[str]) -> str:
        where = sorted(name for name in set(basin.names()) if measured & scene.metrics(name))
        return " or ".join([*([f"set point to one of {', '.join(where)}"] if where else []), _DESCRIBE])

    def missing(metric: str, place: str) -> str:
        return f"{metric} is not in the world of {place}; {cures(frozenset([metric]))}"

    for i, device in enumerate(content.devices):
        measured = measured_by(device, types) - OWN
        if measured and not measured & scene.metrics(device.place):
            cause = f"a {device.device_type} finds nothing to measure at {device.place!r}; {cures(measured)}"
            yield ("devices", i, "point" if device.point else "station"), cause
    for i, fault in enumerate(content.faults):
        place = next(device.place for device in content.devices if device.dev_eui == fault.device)
        if fault.metric is not None and fault.metric not in readable(scene.metrics(place)):
            yield ("faults", i, "metric"), missing(fault.metric, place)
    for i, hazard in enumerate(content.hazards):
        for station in hazard.stations:
            there = (device for device in content.devices if device.station == station)
            seeing = (device for device in there if hazard.metric in measured_by(device, types))
            if not any(hazard.metric in scene.metrics(device.place) for device in seeing):
                yield ("hazards", i, "metric"), missing(hazard.metric, station)


def _repeated(key: str, name: str, values: list[str]) -> list[tuple[Loc, str]]:
    return [
        ((key, i, name), f"{value} is used twice") for i, value in enumerate(values) if value in values[:i]
    ]
