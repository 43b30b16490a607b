"""What a scenario's devices say, in order, as events that are turned into messages when they are due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from decoders.registry import Registry, load_codecs

from .devices import Device
from .message import Message
from .network import Link
from .scenario import Scenario
from .servers import Format
from .world.basin import World

_LOCAL_TIME = timedelta(hours=7)  # Vietnam keeps UTC+7 all year
_JOIN_TO_FIRST_FRAME_S = 6.0
_JITTER = 0.01


@dataclass(frozen=True, slots=True)
class Event:
    """Something a device does at world second `at`; `messages` puts it into words, stamped with a time."""

    at: float
    messages: Callable[[datetime], Iterator[Message]]


class Timeline:
    """World seconds since the scenario's start ↔ wall-clock time."""

    def __init__(self, start: datetime, speed: float) -> None:
        self.start = start
        self.speed = speed

    def when(self, at: float) -> datetime:
        """The wall-clock time of a world second."""
        return self.start + timedelta(seconds=at / self.speed)

    def shift(self, by: timedelta) -> None:
        """Let everything from here on happen that much later."""
        self.start += by


class Traffic:
    """A scenario under a seed: its world, and its devices with their links.

    `start` is the wall-clock time of world second 0: it sets the time of day and makes the identifiers of
    this run, which differ from those of any other run. `interval` (seconds) replaces every device's own.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        start: datetime,
        fmt: Format | None = None,
        interval: float | None = None,
        run: str = "live",
        codecs: Registry | None = None,
    ) -> None:
        registry = codecs or load_codecs()
        local = start + _LOCAL_TIME
        hour = local.hour + local.minute / 60.0 + local.second / 3600.0
        self.world: World = scenario.world(seed=seed, start_hour=hour)
        self._devices: list[tuple[Device, Link]] = []
        for spec in scenario.devices:
            if interval is not None:
                spec = spec.model_copy(update={"interval": interval})
            type_ = scenario.device_types[spec.device_type]
            device = Device(spec, type_, registry.get(type_.codec), seed=seed)
            link = Link(
                device,
                scenario.stations[spec.station],
                scenario.gateways,
                scenario.network,
                seed=seed,
                run=f"{scenario.id}/{run}/{start.isoformat()}",
                fmt=fmt,
            )
            self._devices.append((device, link))

    def events(self, begin: float = 0.0, end: float = inf, *, joins: bool = True) -> Iterator[Event]:
        """All events of the world seconds [begin, end), in order. Each device begins within one interval.

        Messages must be made in the order of the events: a device's random stream goes on with them.
        """
        due: list[tuple[float, int, bool]] = []
        for index, (device, _) in enumerate(self._devices):
            first = begin + float(device.rng.random()) * device.spec.interval
            heapq.heappush(due, (first, index, joins))
        while due and due[0][0] < end:
            at, index, joining = heapq.heappop(due)
            device, link = self._devices[index]
            if joining:
                yield Event(at, _joining(device, link))
                heapq.heappush(due, (at + _JOIN_TO_FIRST_FRAME_S, index, False))
                continue
            yield Event(at, _reporting(device, link, self.world, at))
            gap = device.spec.interval * (1.0 + _JITTER * (2.0 * float(device.rng.random()) - 1.0))
            heapq.heappush(due, (at + gap, index, False))


def _joining(device: Device, link: Link) -> Callable[[datetime], Iterator[Message]]:
    def messages(time: datetime) -> Iterator[Message]:
        device.join()
        return link.join(time)

    return messages


def _reporting(
    device: Device, link: Link, world: World, at: float
) -> Callable[[datetime], Iterator[Message]]:
    def messages(time: datetime) -> Iterator[Message]:
        return link.carry(device.frame(world, at / 3600.0), time)

    return messages


def history(
    scenario: Scenario,
    until: datetime,
    hours: float,
    *,
    seed: int = 1,
    interval: float = 600.0,
    fmt: Format | None = None,
    codecs: Registry | None = None,
) -> Iterator[Message]:
    """What the scenario's devices would have said in the `hours` before `until`, every `interval` seconds.

    In real time (not compressed), from the world before the scenario's start, so that a run started at
    `until` with the same seed goes on where this ends.
    """
    traffic = Traffic(
        scenario, seed=seed, start=until, fmt=fmt, interval=interval, run="history", codecs=codecs
    )
    timeline = Timeline(until, 1.0)
    for event in traffic.events(-3600.0 * hours, -1.0, joins=False):
        yield from event.messages(timeline.when(event.at))
