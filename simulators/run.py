"""Running a scenario: live onto a broker, or as fast as possible into a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Literal

import structlog

from telemetry.clock import Clock, SystemClock
from telemetry.errors import UsageError
from telemetry.mqtt import MqttAddress, parse_mqtt_url

from .answers import write_answers
from .course import Course
from .hazards import unmet
from .message import Message
from .publish import Publisher
from .scenario import Scenario, load_scenario
from .servers import Format
from .servers.formats import FORMATS
from .traffic import Timeline, Traffic
from .words import PUBLISHED_AFTER
from .world.scene import Scene
from .yamlfile import Document

DEFAULT_START = datetime(2026, 1, 1, tzinfo=UTC)
"""Where output to a file starts unless told otherwise: fixed, so that one seed gives the same bytes."""

Speed = float | Literal["max"]
Progress = Callable[[float], None]
_LATE = timedelta(seconds=5)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run brought: messages delivered (repeats included) and world seconds that passed."""

    messages: int
    world_seconds: float


async def run(
    scenario: Scenario,
    *,
    seed: int,
    speed: Speed | None = None,
    out: MqttAddress | Path,
    clock: Clock | None = None,
    fmt: Format | None = None,
    start: datetime | None = None,
    keep_going: bool = False,
    progress: Progress | None = None,
    answers: Path | None = None,
    told: Callable[[Message], object] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Summary:
    """Play `scenario`; `speed` is world seconds per second (the scenario's own by default) or ``"max"``.

    Onto a broker, stamps are wall-clock time: `clock` and `sleep` pace it. When the machine or the broker
    held it up for over five seconds, the rest happens later instead of all at once. ``"max"`` publishes
    the scenario at world time, from `start` or so that it ends now, without waiting. With `keep_going` it
    never ends: after the scenario the world rests at what it came to, tide and air go on.

    Into a file, NDJSON of raw messages (`Message.line`), nothing waits and stamps count from `start`
    (`DEFAULT_START`): compressed by a numeric `speed`, at world time for ``"max"``. The same scenario,
    seed, start, speed and library versions give the same bytes.

    `told` hears of each message for a broker. The answer sheet goes into the file `answers` before the first
    message goes out. A live run that was held up strays from it by as much.

    Raises:
        UsageError: `start` with a live run, `keep_going` without one, a bad speed, an unwritable file.
        SettingsError: the broker refuses user or password.
    """
    pace = scenario.speed if speed is None else speed
    if pace != "max" and not 0 < pace < inf:
        raise UsageError(f"speed: a number above 0 or max is needed, got {pace}")
    live = isinstance(out, MqttAddress) and pace != "max"
    if start is not None and live:
        raise UsageError("start: a live simulation starts now; name a file as output, or speed max")
    if keep_going and not live:
        raise UsageError("keep_going: only a live simulation can go on for ever")
    clock = clock or SystemClock()
    end = inf if keep_going else scenario.duration
    if not isinstance(out, MqttAddress):
        timeline = Timeline(_utc(start or DEFAULT_START), 1.0 if pace == "max" else pace)
        traffic = Traffic(scenario, seed=seed, start=timeline.start, fmt=fmt)
        _foretell(traffic.scene, scenario, timeline, answers, seed)
        return await asyncio.to_thread(_write, traffic, timeline, out, end, progress)
    if pace == "max":
        first = _utc(start) if start else clock.now() - timedelta(seconds=scenario.duration)
        timeline = Timeline(first, 1.0)
    else:
        timeline = Timeline(clock.now(), pace)
    traffic = Traffic(scenario, seed=seed, start=timeline.start, fmt=fmt)
    _foretell(traffic.scene, scenario, timeline, answers, seed)
    wait = _Pace(clock, timeline, sleep) if live else None
    publisher = Publisher(out, traffic.words.mailbox if live else None)
    return await _publish(traffic, timeline, publisher, end, wait, progress, told)


async def simulate(
    scenario: str | Path | Scenario,
    *,
    seed: int = 1,
    speed: Speed | None = None,
    fmt: str | None = None,
    out: str | Path = "mqtt",
    mqtt_url: str | None = None,
    start: datetime | None = None,
    keep_going: bool = False,
    clock: Clock | None = None,
    progress: Progress | None = None,
    answers: Path | None = None,
    told: Callable[[Message], object] | None = None,
) -> Summary:
    """`run` for a command line: a scenario, its name or file; ``out="mqtt"`` and `mqtt_url`, or a path.

    Raises:
        UsageError: an unknown scenario, format or output, or what `run` refuses.
        SettingsError: `mqtt_url` is no broker's address.
    """
    format_ = parse_format(fmt)
    if str(out) == "mqtt" and not mqtt_url:
        raise UsageError("out: mqtt needs a broker; set QUANTRAC_MQTT_URL or name a file")
    return await run(
        scenario if isinstance(scenario, Scenario) else load_scenario(scenario),
        seed=seed,
        speed=speed,
        out=parse_mqtt_url(mqtt_url) if str(out) == "mqtt" and mqtt_url else Path(out),
        clock=clock,
        fmt=format_,
        start=start,
        keep_going=keep_going,
        progress=progress,
        answers=answers,
        told=told,
    )


def parse_format(name: str | None) -> Format | None:
    """The format of that name.

    Raises:
        UsageError: there is none.
    """
    if name is None:
        return None
    for known in FORMATS:
        if known == name:
            return known
    raise UsageError(f"format: {name!r} is none of {', '.join(FORMATS)}")


def _foretell(scene: Scene, scenario: Scenario, timeline: Timeline, answers: Path | None, seed: int) -> None:
    """Warn of hazards that the answers will lack, and write them where they are asked for."""
    for loc, cause in unmet(Course(scenario, scene, timeline)):
        _log.warning("hazard_never", problem=Document(scenario.path).said(loc, cause))
    if answers:
        write_answers(answers, scenario, scene, timeline, seed=seed)


class _Pace:
    """Waits until a world second is due, and lets the timeline slip when that is long past."""

    def __init__(self, clock: Clock, timeline: Timeline, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._timeline = timeline
        self._sleep = sleep

    async def until(self, at: float) -> None:
        left = self._timeline.when(at) + PUBLISHED_AFTER - self._clock.now()
        if left < -_LATE:
            self._timeline.shift(-left)
        elif left > timedelta(0):
            await self._sleep(left.total_seconds())


def _write(
    traffic: Traffic, timeline: Timeline, path: Path, end: float, progress: Progress | None
) -> Summary:
    count = 0
    try:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for event in traffic.events(end=end):
                for message in event.messages(timeline.when):
                    file.write(message.line() + "\n")
                    count += 1
                if progress:
                    progress(event.at / end)
    except OSError as error:
        raise UsageError(f"out: cannot write {path}: {error.strerror}") from None
    return Summary(count, end)


async def _publish(
    traffic: Traffic,
    timeline: Timeline,
    publisher: Publisher,
    end: float,
    pace: _Pace | None,
    progress: Progress | None,
    told: Callable[[Message], object] | None,
) -> Summary:
    """Feed the publisher until the events end; its failure ends the feeding, and the other way round."""

    async def feed() -> float:
        at = 0.0
        for event in traffic.events(end=end):
            at = event.at
            if pace is not None:
                await pace.until(at)
            for message in event.messages(timeline.when):
                await publisher.put(message)
                if told:
                    told(message)
            if progress and end < inf:
                progress(at / end)
        await publisher.drained()
        return at

    feeding, publishing = asyncio.create_task(feed()), asyncio.create_task(publisher.run())
    try:
        await asyncio.wait((feeding, publishing), return_when=asyncio.FIRST_COMPLETED)
        if publishing.done():
            publishing.result()
        return Summary(publisher.published, feeding.result())
    finally:
        for task in (feeding, publishing):
            task.cancel()
        await asyncio.gather(feeding, publishing, return_exceptions=True)


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise UsageError(f"start: {time.isoformat()} has no time zone; write 2026-01-01T00:00:00Z")
    return time.astimezone(UTC)
