"""What happens in a scenario that rules are to find, whether or not one of today's could."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Literal, NamedTuple

from .course import Course
from .passages import joined, spans
from .sheet import Hazard
from .truths import Crossing, HazardSpec, measured_by
from .world.rain import Array
from .yamlfile import Loc, Text

_HOUR_S = 3600.0
_FOUND_BY: dict[Crossing, Literal["threshold"] | None] = {
    "above": "threshold",
    "below": "threshold",
    "rises_per_h": None,
}
_OUTAGES = {
    False: ("gateway-outage", Text(vi="Trạm thu phát ngừng thu", en="Gateways hear nothing")),
    True: ("backhaul-outage", Text(vi="Trạm thu phát mất đường truyền", en="Gateways are cut off")),
}


def hazards(course: Course) -> Iterator[Hazard]:
    """All of a scenario: each time at each station, then its outages. Two with less than an hour between
    them are one."""
    for spec in course.scenario.hazards:
        for station in spec.stations:
            yield from _at_station(course, spec, station)
    for outage in course.scenario.outages:
        kind, name = _OUTAGES[outage.backhaul]
        begins, ends = course.bounds(outage)
        gateways = outage.gateways or tuple(gateway.id for gateway in course.scenario.gateways)
        yield Hazard(kind=kind, name=name, gateways=gateways, begins=begins, ends=ends, found_by=None)


def unmet(course: Course) -> Iterator[tuple[Loc, str]]:
    """Hazards that never come true at a station: where the file names it, and how near it came."""
    for i, spec in enumerate(course.scenario.hazards):
        for j, station in enumerate(spec.stations):
            watched = _watched(course, spec, station)
            if watched is None or any(_at_station(course, spec, station)):
                continue
            nearest = watched.sign * float((watched.sign * watched.values).max())
            does = "rises within an hour by" if spec.rises_per_h else "is"
            most = "most" if watched.sign > 0 else "least"
            cause = f"{spec.kind} never comes true: {spec.metric} {does} {nearest:.4g} at {most}"
            yield ("hazards", i, "stations", j), cause


class _Watched(NamedTuple):
    """EUIs of the station's devices that should see a hazard; what the first of them should, minute by minute
    (n,); and 1 where that has to be high, -1 where it has to be low."""

    devices: tuple[str, ...]
    values: Array
    sign: Literal[-1, 1]


def _watched(course: Course, spec: HazardSpec, station: str) -> _Watched | None:
    """None where nobody who takes part can see it."""
    there = (device for device in course.scenario.devices if device.station == station)
    measuring = (d for d in there if spec.metric in measured_by(d, course.scenario.device_types))
    seen = {d.dev_eui: truth for d in measuring if (truth := course.truth(d, spec.metric)) is not None}
    if not seen:
        return None
    truth = next(iter(seen.values()))
    values = truth(course.hours)
    if spec.rises_per_h is not None:
        values = values - truth(course.hours - 1.0)
    return _Watched(tuple(seen), values, -1 if spec.below is not None else 1)


def _at_station(course: Course, spec: HazardSpec, station: str) -> Iterator[Hazard]:
    watched = _watched(course, spec, station)
    if watched is None:
        return
    devices, values, sign = watched
    crossed, limit = spec.crossing
    for begin, end in joined(spans(course.times, sign * values, sign * limit), _HOUR_S):
        inside = (course.times >= (begin or 0.0)) & (course.times <= (inf if end is None else end))
        yield Hazard(
            kind=spec.kind,
            name=spec.name,
            station=station,
            metric=spec.metric,
            crossed=crossed,
            limit=limit,
            peak=round(sign * float((sign * values[inside]).max(initial=sign * limit)), 3),
            devices=devices,
            begins=course.when(begin),
            ends=course.when(end),
            found_by=_FOUND_BY[crossed],
        )
