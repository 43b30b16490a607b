"""The answer sheet of a run: when what the sensors measure really passed the levels of their stations, which
of them lied, and what else happened that rules are to find.

It is worked out from the world, without noise, loss and sending intervals, so that what a product raised can
be scored (`simulators.score`). Times are those that the run's messages carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .course import Course
from .devices import DeviceSpec
from .hazards import hazards
from .passages import Above, passages
from .scenario import Scenario
from .sensors.noise import noise_of
from .sheet import AnswerLevel, AnswerSheet, Lie, Passage, Target, write_sheet
from .traffic import Timeline
from .truths import measured_by
from .world.rain import Array
from .world.scene import Scene

_FRAMES = 3  # of which one must have arrived
_HOLD_S = 10.0  # event time that a rule may wait for
_MARGIN_SD = 6.0  # by which no reading of a run is off


def answer_sheet(scenario: Scenario, scene: Scene, timeline: Timeline, *, seed: int) -> AnswerSheet:
    """Of the scenario from its start to its end, at the times that `timeline` gives."""
    course = Course(scenario, scene, timeline)
    targets = tuple(_targets(course))
    found = tuple(hazards(course))
    judged = {target.dev_eui for target in targets}.union(*(hazard.devices for hazard in found))
    slowest = max((device.interval for device in scenario.devices if device.dev_eui in judged), default=0.0)
    return AnswerSheet(
        scenario=scenario.id,
        seed=seed,
        starts=timeline.start,
        ends=timeline.when(scenario.duration),
        tolerance_s=_FRAMES * slowest / timeline.speed + _HOLD_S,
        targets=targets,
        lies=tuple(_lies(course)),
        hazards=found,
    )


def write_answers(
    path: Path, scenario: Scenario, scene: Scene, timeline: Timeline, *, seed: int
) -> AnswerSheet:
    """The sheet as a file.

    Raises:
        UsageError: it cannot be written.
    """
    sheet = answer_sheet(scenario, scene, timeline, seed=seed)
    write_sheet(path, sheet)
    return sheet


def _targets(course: Course) -> Iterator[Target]:
    """Those of everybody who takes part; copies see what their originals see, and never lie."""
    own = {device.dev_eui: tuple(_targets_of(course, device)) for device in course.scenario.devices}
    liars = {fault.device for fault in course.scenario.faults}
    honest = {
        device.dev_eui: tuple(_targets_of(course, device, honest=True))
        for device in course.scenario.devices
        if device.dev_eui in liars and course.scenario.copies > 1
    }
    for member in course.scenario.members():
        seen = honest if member.copy and member.spec.dev_eui in liars else own
        for target in seen[member.spec.dev_eui]:
            yield target.model_copy(update={"dev_eui": member.dev_eui, "station": member.station})


def _targets_of(course: Course, device: DeviceSpec, *, honest: bool = False) -> Iterator[Target]:
    """One for each metric that the device measures, the world has and the station has levels for."""
    thresholds = course.scenario.stations[device.station].thresholds
    for metric in sorted(measured_by(device, course.scenario.device_types) & thresholds.keys()):
        if (truth := course.truth(device, metric)) is None:
            continue
        values = truth(course.hours)
        blind = _cut_off(course) if honest else _cut_off(course) + _lying(course, device, metric)
        yield Target(
            dev_eui=device.dev_eui,
            station=device.station,
            point=device.place,
            metric=metric,
            levels=tuple(_level(course, device, metric, values, step, blind) for step in thresholds[metric]),
        )


def _level(
    course: Course,
    device: DeviceSpec,
    metric: str,
    values: Array,
    step: Mapping[str, Any],
    blind: list[tuple[float, float]],
) -> AnswerLevel:
    deviation = float(noise_of(metric).sd(np.array(step["value"], dtype=np.float64)))
    margin = _MARGIN_SD * deviation * max(device.noise, 1.0)
    several = _FRAMES * device.interval
    late = several + _HOLD_S * course.timeline.speed
    found = passages(course.times, values, step["value"], margin, lasting=several, blind=blind)
    return AnswerLevel(
        level=step["level"],
        label=step["label"],
        value=step["value"],
        margin=margin,
        passages=tuple(_passage(course, above, late) for above in found),
    )


def _passage(course: Course, above: Above, late: float) -> Passage:
    told = (at for at in (above.proven, above.gone) if at is not None)
    gone = above.gone
    for begin, end in sorted(_cut_off(course)):
        gone = end if gone is not None and begin <= gone < end else gone
    return Passage(
        rising_at=course.when(above.rising),
        falling_at=course.when(above.falling),
        earliest=course.when(above.earliest),
        latest=course.timeline.when(next(told, float(course.times[-1])) + late),
        gone=course.when(None if gone is None else gone + late),
        peak=round(above.peak, 3),
        sure=above.proven is not None,
    )


def _cut_off(course: Course) -> list[tuple[float, float]]:
    """World seconds in which frames are lost, or come later: then stamped when they do where the gateway has
    no clock."""
    return [outage.span for outage in course.scenario.outages]


def _lying(course: Course, device: DeviceSpec, metric: str) -> list[tuple[float, float]]:
    """World seconds in which its readings need not be true."""
    faults = (fault for fault in course.scenario.faults if fault.device == device.dev_eui)
    return [fault.span for fault in faults if fault.metric in (None, metric)]


def _lies(course: Course) -> Iterator[Lie]:
    for fault in course.scenario.faults:
        begins, ends = course.bounds(fault)
        yield Lie(dev_eui=fault.device, kind=fault.kind, metric=fault.metric, begins=begins, ends=ends)
