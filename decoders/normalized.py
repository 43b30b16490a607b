"""The Things Stack's normalized payload: measurements in its vocabulary become readings. Pure.

The network server sends it beside a frame (`normalized_payload`), and a codec may make it of its fields
(`normalizeUplink`). Vocabulary and units:
https://www.thethingsindustries.com/docs/integrations/payload-formatters/javascript/uplink/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Set
from datetime import datetime
from typing import Any, NamedTuple

from telemetry.catalogue import CATALOGUE

from .datalog import Logged, believed_time
from .javascript.calls import Outcome
from .mapping import DeviceType, MapEntry
from .normalise import Value, compile_mapping

MOST_MEASUREMENTS = 100
"""That are read of one payload; a LoRaWAN frame has 242 bytes at most."""
HIGHEST_CHANNEL = 32_767


class Quantity(NamedTuple):
    """Where a measurement has a quantity: `path` in `unit` (UCUM) is the catalogue's `metric`.

    `scale` leads from `unit` to the metric's unit. It stands here, and a test compares it with UCUM, because
    working it out would have every process load a library of units for two numbers.
    """

    path: str
    unit: str
    metric: str
    scale: float = 1.0


VOCABULARY = (
    Quantity("battery", "V", "battery.voltage"),
    Quantity("soil.moisture", "%", "soil.moisture"),
    Quantity("soil.temperature", "Cel", "soil.temperature"),
    Quantity("soil.ec", "dS/m", "soil.conductivity", 1000),
    Quantity("soil.pH", "[pH]", "soil.ph"),
    Quantity("air.temperature", "Cel", "air.temperature"),
    Quantity("air.relativeHumidity", "%", "air.humidity"),
    Quantity("air.pressure", "hPa", "air.pressure"),
    Quantity("air.co2", "[ppm]", "air.co2"),
    Quantity("air.lightIntensity", "lx", "light.illuminance"),
    Quantity("wind.speed", "m/s", "wind.speed"),
    Quantity("wind.direction", "deg", "wind.direction"),
    Quantity("rain.intensity", "mm/h", "rain.rate"),
    Quantity("rain.cumulative", "mm", "rain.total"),
    Quantity("water.leak", "1", "water.leak"),
    Quantity("water.temperature.current", "Cel", "water.temperature"),
    Quantity("water.temperature.avg", "Cel", "water.temperature"),
    Quantity("metering.water.total", "L", "water.volume", 0.001),
    Quantity("action.contactState", "1", "door.open"),
    Quantity("position.latitude", "deg", "position.latitude"),
    Quantity("position.longitude", "deg", "position.longitude"),
)
"""Of two paths of one metric the first that is there holds."""
WORDS: Mapping[tuple[str, str], Mapping[str, int]] = {
    ("water", "leak"): {"true": 1, "false": 0},
    ("action", "contactState"): {"open": 1, "closed": 0},
}
"""What texts mean where the vocabulary has texts."""
UNDERSTOOD = frozenset({"time", "soil.depth"})
"""What says of when and where a measurement is."""


class Measured(NamedTuple):
    """Readings of the frame's time and of other times; a sentence for each fault; what has no metric."""

    values: list[Value]
    logged: list[Logged]
    problems: list[str]
    unmapped: list[str]

    def counters(self) -> Set[str]:
        """The metrics among them that are counters."""
        told = {one.metric for one in self.values} | {one.metric for one in self.logged}
        return told & _COUNTERS


_READ = compile_mapping(
    DeviceType(
        id="normalized",
        vendor="",
        model="",
        codec="",
        expected_interval=1,
        mapping=tuple(MapEntry(field=one.path, metric=one.metric, scale=one.scale) for one in VOCABULARY),
    )
)
_COUNTERS = frozenset(one.metric for one in VOCABULARY if CATALOGUE[one.metric].kind == "counter")
_GROUPS = {one.metric: one.path.partition(".")[0] for one in VOCABULARY}


def read_normalized(
    name: str, payload: object, uplink_time: datetime, taken: Container[str] = frozenset()
) -> Measured:
    """The readings in a normalized payload: one measurement, or a list of them.

    Metrics that are `taken` are left out: the device type's map gives them. A measurement with a `time` of
    its own gives readings at that time, which is judged like that of a datalog's record; any other those of
    `uplink_time` (aware). The channel of a soil with a depth is the depth in whole cm; of anything else, how
    many earlier measurements of the same time have the same group (`air`, `wind`, …). Of two values of one
    metric, channel and time the first holds. Whatever is wrong is told, as of ``name.0.air.temperature``, and
    costs only itself; what comes after the first `MOST_MEASUREMENTS` is not read.
    """
    found = Measured([], [], [], [])
    measurements = [payload] if isinstance(payload, dict) else payload
    if not isinstance(measurements, list):
        found.problems.append(f"{name}: neither a measurement nor a list of them")
        return found
    if len(measurements) > MOST_MEASUREMENTS:
        found.problems.append(
            f"{name}: {len(measurements)} measurements; the first {MOST_MEASUREMENTS} are read"
        )
    met: Counter[tuple[datetime | None, str]] = Counter()
    told: dict[tuple[datetime | None, str, int], float] = {}
    for number, one in enumerate(measurements[:MOST_MEASUREMENTS]):
        at = f"{name}.{number}"
        if not isinstance(one, dict):
            found.problems.append(f"{at}: no measurement")
            continue
        time = None
        if one.get("time") is not None:
            time, fault = believed_time(one["time"], "iso", uplink_time)
            if fault:
                found.problems.append(f"{at}.time: {fault}")
                continue
            time = None if time == uplink_time else time
        channels: dict[str, int] = {}
        for group, inner in one.items():
            if inner is None or inner == {}:
                continue
            depth = inner.get("depth") if group == "soil" and isinstance(inner, dict) else None
            if depth is None:
                channels[group] = met[time, group]
                met[time, group] += 1
            elif (channel := _whole_cm(depth)) is not None:
                channels[group] = channel
            else:
                found.problems.append(f"{at}.soil.depth: not from 0 to {HIGHEST_CHANNEL} cm")
        normalised = _READ(_in_numbers(one), {})
        found.problems.extend(f"{at}.{problem}" for problem in normalised.problems)
        found.unmapped.extend(f"{at}.{path}" for path in normalised.unmapped if path not in UNDERSTOOD)
        for value in normalised.values:
            group = _GROUPS[value.metric]
            if value.metric not in taken and group in channels:
                told.setdefault((time, value.metric, channels[group]), value.value)
    for (time, metric, channel), result in told.items():
        if time is None:
            found.values.append(Value(metric, channel, result))
        else:
            found.logged.append(Logged(time, metric, channel, result))
    return found


def read_codecs_own(own: Outcome, uplink_time: datetime, taken: Container[str] = frozenset()) -> Measured:
    """`read_normalized` of what a codec's `normalizeUplink` gave; its errors and warnings are problems."""
    name = "normalizeUplink"
    if own.errors:
        return Measured([], [], [f"{name}: {'; '.join(own.errors)}"], [])
    found = read_normalized(name, [] if own.data is None else own.data, uplink_time, taken)
    found.problems.extend(f"{name}: warning: {warning}" for warning in own.warnings)
    return found


def _whole_cm(depth: object) -> int | None:
    """None for what is no depth."""
    if isinstance(depth, bool) or not isinstance(depth, (int, float)) or not 0 <= depth <= HIGHEST_CHANNEL:
        return None
    return min(int(depth + 0.5), HIGHEST_CHANNEL)


def _in_numbers(measurement: dict[str, Any]) -> dict[str, Any]:
    """With numbers for the vocabulary's words."""
    for (group, name), meanings in WORDS.items():
        inner = measurement.get(group)
        if isinstance(inner, dict) and isinstance(word := inner.get(name), str) and word in meanings:
            measurement = {**measurement, group: {**inner, name: meanings[word]}}
    return measurement
