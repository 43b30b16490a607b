"""What happens in a scenario that rules are to find, whether or not one of today's could."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Literal

from telemetry.errors import UsageError

from .course import Course
from .passages import joined, spans
from .sheet import Hazard
from .truths import Crossing, HazardSpec, measured_by
from .yamlfile import Text

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


def _at_station(course: Course, spec: HazardSpec, station: str) -> Iterator[Hazard]:
    """As the first of the station's devices should see it that measures the metric.

    Raises:
        UsageError: it cannot be measured there in this world.
    """
    there = (device for device in course.scenario.devices if device.station == station)
    devices = [d for d in there if spec.metric in measured_by(d, course.scenario.device_types)]
    crossed, limit = spec.crossing
    truth = course.truth(devices[0], spec.metric)
    if truth is None:
        raise UsageError(f"{course.scenario.path}: hazards: {spec.metric} is not in the world of {station}")
    values = truth(course.hours)
    if crossed == "rises_per_h":
        values = values - truth(course.hours - 1.0)
    sign = -1.0 if crossed == "below" else 1.0
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
            devices=tuple(device.dev_eui for device in devices),
            begins=course.when(begin),
            ends=course.when(end),
            found_by=_FOUND_BY[crossed],
        )
