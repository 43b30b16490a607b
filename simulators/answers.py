"""The answer sheet of a run: when what the sensors measure really passed the levels of their stations.

It is worked out from the world, without noise, loss and sending intervals, so that what a product raised can
be scored (`simulators.score`). Times are those that the run's messages carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from telemetry.errors import UsageError

from .devices import MODELS, DeviceSpec, Quantity
from .scenario import Scenario
from .traffic import Timeline
from .world.basin import World
from .world.rain import Array
from .yamlfile import Model

_STEP_S = 60.0
_FRAMES = 3  # of which one must have arrived
_HOLD_S = 10.0  # event time that a rule may wait for


class Truth(NamedTuple):
    """A metric as the world has it; `margin` is how far sensors may be off, in its unit."""

    metric: str
    margin: float
    value: Callable[[World, str, Array], Array]


TRUTHS: Mapping[Quantity, Truth] = {"level": Truth("water.level", 0.05, World.level)}
"""By what a sensor measures. The margin of a level is twelve times the ultrasonic sensor's noise."""


class Passage(Model):
    """Once above a level, or near it: within the margin nobody can tell.

    From `earliest` on an alarm is no false one, by `latest` it must be there if the passage is `sure`, and
    after `gone` a new one is false.

    `rising_at` is None where the run began above the level, `falling_at` and `gone` where it ended there.
    """

    rising_at: datetime | None
    falling_at: datetime | None
    earliest: datetime | None
    latest: datetime
    gone: datetime | None
    peak: float
    sure: bool


class AnswerLevel(Model):
    """A level of the station; its passages in their order, none where it was never near."""

    level: int
    label: str
    value: float
    passages: tuple[Passage, ...]


class Target(Model):
    """A sensor, what it measures where, and the levels that hold at its station."""

    dev_eui: str
    station: str
    point: str
    metric: str
    margin: float
    levels: tuple[AnswerLevel, ...]


class Lie(Model):
    """A sensor said what was not so."""

    dev_eui: str
    kind: str
    begins: datetime
    ends: datetime | None


class AnswerSheet(Model):
    """`tolerance_s`: so many seconds of the messages' time an alarm may come late, since sensors send now and
    then, frames are lost and rules wait. It is in `latest` and `gone` already."""

    version: Literal[1] = 1
    scenario: str
    seed: int
    starts: datetime
    ends: datetime
    tolerance_s: float = Field(ge=0)
    targets: tuple[Target, ...]
    lies: tuple[Lie, ...] = ()


def answer_sheet(scenario: Scenario, world: World, timeline: Timeline, *, seed: int) -> AnswerSheet:
    """Of the scenario from its start to its end, at the times that `timeline` gives."""
    measuring = [(device, truth) for device in scenario.devices if (truth := _truth(scenario, device))]
    slowest = max((device.interval for device, _ in measuring), default=0.0)
    return AnswerSheet(
        scenario=scenario.id,
        seed=seed,
        starts=timeline.start,
        ends=timeline.when(scenario.duration),
        tolerance_s=_FRAMES * slowest / timeline.speed + _HOLD_S,
        targets=tuple(_target(scenario, world, timeline, device, truth) for device, truth in measuring),
    )


def write_answers(
    path: Path, scenario: Scenario, world: World, timeline: Timeline, *, seed: int
) -> AnswerSheet:
    """The sheet as a file.

    Raises:
        UsageError: it cannot be written.
    """
    sheet = answer_sheet(scenario, world, timeline, seed=seed)
    try:
        path.write_text(sheet.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"answers: cannot write {path}: {error.strerror}") from None
    return sheet


def read_answers(path: Path) -> AnswerSheet:
    """What `write_answers` wrote.

    Raises:
        UsageError: it cannot be read, or is no answer sheet; one line for each fault.
    """
    try:
        return AnswerSheet.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        faults = (f"{path}: {'.'.join(map(str, f['loc'])) or 'content'}: {f['msg']}" for f in error.errors())
        raise UsageError("\n".join(faults)) from None


class Above(NamedTuple):
    """World seconds of one passage, as `Passage` has them; `proven` is when the margin was passed, too."""

    earliest: float | None
    rising: float | None
    proven: float | None
    falling: float | None
    gone: float | None
    peak: float


def passages(times: Sequence[float], values: Sequence[float], level: float, margin: float) -> Iterator[Above]:
    """Each time that the values, linear between their times, were above `level` less `margin`."""
    lowest = level - margin
    for begin, end in _spans(times, values, lowest):
        inside = [
            *([] if begin is None else [(begin, lowest)]),
            *(
                (at, value)
                for at, value in zip(times, values, strict=True)
                if (begin is None or at > begin) and (end is None or at < end)
            ),
            *([] if end is None else [(end, lowest)]),
        ]
        own_times, own_values = zip(*inside, strict=True)
        spans = list(_spans(own_times, own_values, level))
        proven = list(_spans(own_times, own_values, level + margin))
        yield Above(
            begin,
            spans[0][0] if spans else None,
            (own_times[0] if proven[0][0] is None else proven[0][0]) if proven else None,
            spans[-1][1] if spans else None,
            end,
            max(own_values),
        )


def _spans(
    times: Sequence[float], values: Sequence[float], level: float
) -> Iterator[tuple[float | None, float | None]]:
    """Where the values are at or above `level`; None for a bound that lies outside the times."""
    begin: float | None = None
    above = bool(values) and values[0] >= level
    for (t0, v0), (t1, v1) in pairwise(zip(times, values, strict=True)):
        if (v1 >= level) == above:
            continue
        crossing = t0 + (t1 - t0) * (level - v0) / (v1 - v0)
        if above:
            yield begin, crossing
        begin, above = crossing, not above
    if above:
        yield begin, None


def _truth(scenario: Scenario, device: DeviceSpec) -> Truth | None:
    """What is asked of this device; None where its station has no levels for it."""
    model = MODELS[scenario.device_types[device.device_type].codec]
    truth = TRUTHS.get(model.quantity)
    return truth if truth and scenario.stations[device.station].thresholds.get(truth.metric) else None


def _target(scenario: Scenario, world: World, timeline: Timeline, device: DeviceSpec, truth: Truth) -> Target:
    count = int(scenario.duration // _STEP_S) + 1
    times = [n * _STEP_S for n in range(count)]
    values = truth.value(world, device.place, np.array(times) / 3600.0).tolist()
    late = _FRAMES * device.interval + _HOLD_S * timeline.speed

    def passage(found: Above) -> Passage:
        when = _when(timeline)
        sure = found.proven is not None
        latest = next((at for at in (found.proven, found.gone) if at is not None), times[-1])
        return Passage(
            rising_at=when(found.rising),
            falling_at=when(found.falling),
            earliest=when(found.earliest),
            latest=timeline.when(latest + late),
            gone=when(None if found.gone is None else found.gone + late),
            peak=round(found.peak, 3),
            sure=sure,
        )

    return Target(
        dev_eui=device.dev_eui,
        station=device.station,
        point=device.place,
        metric=truth.metric,
        margin=truth.margin,
        levels=tuple(
            AnswerLevel(
                level=level["level"],
                label=level["label"],
                value=level["value"],
                passages=tuple(map(passage, passages(times, values, level["value"], truth.margin))),
            )
            for level in scenario.stations[device.station].thresholds[truth.metric]
        ),
    )


def _when(timeline: Timeline) -> Callable[[float | None], datetime | None]:
    return lambda at: None if at is None else timeline.when(at)
