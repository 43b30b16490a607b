"""What a scenario's devices say, in order, as events that are turned into messages when they are due."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from math import inf
from typing import NamedTuple

import msgspec
import numpy as np

from decoders.registry import Registry, load_codecs

from .adr import JOIN_SF, DataRates
from .confirmed import Row, Talk
from .draws import uniform
from .ether import NOTHING_SENT, Ether, Flags, Heard, Sent
from .fleet import Fleet, Index
from .frames import Arrival, Frame, Hearing
from .message import Message
from .radio import airtime_s
from .scenario import Scenario
from .servers import Format
from .words import When, Words
from .world.rain import Array

_LOCAL_TIME = timedelta(hours=7)  # Vietnam keeps UTC+7 all year
_JOIN_TO_FIRST_FRAME_S = 6.0
_JOIN_AGAIN_S = 20.0
_JOIN_SIZE = 10  # a join-request has 23 bytes, and `airtime_s` adds the 13 of an empty frame
_AGAIN_S = 3.0  # RX2 and ACK_TIMEOUT of RP002-1.0.4, section 2.4
_SHORTEST_S, _LONGEST_S = 60.0, 600.0
_FRAMES_AT_ONCE = 4000
_BURST_S = 0.05  # between two frames of a gateway that has its backhaul back
_DUTY_CYCLE = 0.01  # as devices are set up
_COPIES_TOGETHER = 20  # that share the air: a network of a hundred thousand has more gateways
_SAME_S = 0.2  # in which ChirpStack takes what several gateways deliver for one frame


class Event(NamedTuple):
    """Something reaches the network server at world second `at`.

    `messages` puts it into words, given what turns world seconds into wall-clock time. It must be asked in
    the order of the events: servers remember what they had before.
    """

    at: float
    messages: Callable[[When], Iterator[Message]]


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
    """A scenario under a seed: its scene, and its devices on the air.

    `start` is the wall-clock time of world second 0: it sets the time of day and makes the identifiers of
    this run, which differ from those of any other run. `interval` (seconds) replaces every device's own.
    World time goes by in stretches in which a device sends once, as a rule: a frame meets all others of its
    stretch, and what began before it.
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
        local = start + _LOCAL_TIME
        hour = local.hour + local.minute / 60.0 + local.second / 3600.0
        self.scene = scenario.scene(seed=seed, start_hour=hour)
        self.fleet = Fleet(
            scenario, self.scene, codecs or load_codecs(), seed=seed, run=run, interval=interval
        )
        identity = f"{seed}/{scenario.id}/{run}/{start.isoformat()}"
        self.words = Words(scenario, self.fleet, identity=identity, fmt=fmt)
        fleet = self.fleet
        size = len(fleet.eui)
        self._ether = Ether(
            scenario.gateways,
            scenario.network,
            scenario.outages,
            self.words.places,
            fleet.keys,
            fleet.luck,
            fleet.copy // _COPIES_TOGETHER,
            seed=seed,
        )
        self._rates = DataRates(self._ether.settled())
        self._due = np.zeros(size)
        self._joined = np.ones(size, dtype=np.bool_)
        self._sessions = np.zeros(size, dtype=np.int64)
        self._f_cnt = np.zeros(size, dtype=np.int64)
        self._transmissions = np.zeros(size, dtype=np.int64)
        self._talks = {
            i: Talk(spec.datalog if fleet.plan(i).remembers else 0, self._recall)
            for i, spec in enumerate(fleet.specs[n] for n in fleet.spec.tolist())
            if spec.confirmed
        }
        self._on_air, self._on_air_rssi = NOTHING_SENT, np.empty((0, len(scenario.gateways)))
        self._late: list[tuple[float, float, int, Arrival]] = []
        self._ticket = count()
        self._delivered = np.full(len(scenario.gateways), -inf)

    def events(self, begin: float = 0.0, end: float = inf, *, joins: bool = True) -> Iterator[Event]:
        """All events of the world seconds [begin, end), in order. Each device begins within one interval.

        Without `joins` all have joined before, and the data rates have settled.
        """
        for arrival in self.arrivals(begin, end, joins=joins):
            yield Event(arrival.at, partial(self.words.of, arrival))

    def arrivals(self, begin: float = 0.0, end: float = inf, *, joins: bool = True) -> Iterator[Arrival]:
        """What reaches the server in the world seconds [begin, end), in order."""
        fleet = self.fleet
        self._due = begin + uniform(fleet.luck, 0, "first") * fleet.interval
        if begin < 0:
            fleet.rewind(-begin)
        if joins:
            self._joined[:] = False
            self._rates = DataRates(np.full(len(fleet.eui), JOIN_SF))
        now = begin
        arriving: list[Arrival] = []
        while now < end:
            until = min(now + self._stretch(), end)
            while (device := np.flatnonzero(self._due < until)).size:
                arriving += self._send(device)
            arriving += self._bursts(until)
            arriving.sort(key=_order)
            later = bisect_left(arriving, until, key=_at)
            yield from _together(arriving[:later]) if self._ether.keeps else arriving[:later]
            arriving = arriving[later:]
            self._forget(until)
            now = until

    def _stretch(self) -> float:
        """Seconds in which a device sends once, as a rule, and not too many do."""
        interval = self.fleet.interval
        most = _FRAMES_AT_ONCE * float(interval.mean()) / len(interval)
        return max(min(float(interval.min()), _LONGEST_S, most), _SHORTEST_S)

    def _bursts(self, until: float) -> Iterator[Arrival]:
        """Before `until`: what gateways kept, in the order they heard it, one after another."""
        while self._late and self._late[0][0] < until:
            earliest, sent, ticket, arrival = heapq.heappop(self._late)
            gateway = arrival.heard[0].gateway
            at = max(earliest, float(self._delivered[gateway]) + _BURST_S)
            if at < until:
                self._delivered[gateway] = at
                yield msgspec.structs.replace(arrival, at=at)
            else:
                heapq.heappush(self._late, (at, sent, ticket, arrival))

    def _send(self, device: Index) -> list[Arrival]:
        """One transmission of each of `device`, all due within this stretch."""
        fleet = self.fleet
        able = fleet.speaks(device, self._due[device])
        if not able.all():
            quiet, device = device[~able], device[able]
            fleet.frames[quiet] += 1
            self._due[quiet] += fleet.gap(quiet)
            if not device.size:
                return []
        at = self._due[device]
        frames = self._frames(device, at)
        sizes = np.array([_JOIN_SIZE if f.joining else len(f.payload) for f in frames], dtype=np.int64)
        factor = self._rates.spreading_factor[device]
        number = self._transmissions[device]
        channel = self._ether.channels(device, number, ~self._joined[device])
        sent = Sent(device, number, at, airtime_s(sizes, factor), channel, factor)
        heard = self._ether.carry(sent, self._on_air, self._on_air_rssi)
        self._on_air = self._on_air.and_(sent)
        self._on_air_rssi = np.concatenate([self._on_air_rssi, heard.rssi])
        self._transmissions[device] += 1
        fleet.drain(device, sent.airtime_s, at)
        arrivals, live = self._deliver(frames, sent, heard)
        self._go_on(frames, sent, heard, live)
        return arrivals

    def _frames(self, device: Index, at: Array) -> list[Frame]:
        """What each sends: a join-request, what it has to repeat or to recall, or a fresh measurement."""
        fleet, talks = self.fleet, self._talks
        told = [talks[i].frame if i in talks else None for i in device.tolist()]
        fresh = self._joined[device] & np.array([frame is None for frame in told])
        fleet.frames[device[fresh]] += 1
        measured = iter(fleet.measure(device[fresh], at[fresh]))
        spec, interval = fleet.spec[device].tolist(), fleet.interval[device].tolist()
        plans = [fleet.plan_of(n) for n in spec]
        joined, euis = self._joined[device].tolist(), fleet.eui[device].tolist()
        sessions, counters = self._sessions[device].tolist(), self._f_cnt[device].tolist()
        frames: list[Frame] = []
        for n, (i, moment) in enumerate(zip(device.tolist(), at.tolist(), strict=True)):
            if not joined[n]:
                frames.append(Frame(i, moment, True, sessions[n] + 1, 0, 0, b"", {}, ()))
            elif (again := told[n]) is not None:
                frames.append(again)
            else:
                values = next(measured)
                fields, port, payload = plans[n].frame(values, fleet.offsets[spec[n]], euis[n], interval[n])
                frames.append(
                    Frame(i, moment, False, sessions[n], counters[n], port, payload, fields, values)
                )
        self._f_cnt[device[fresh]] += 1
        return frames

    def _deliver(self, frames: list[Frame], sent: Sent, heard: Heard) -> tuple[list[Arrival], Flags]:
        """The arrivals at once, and which frames got through at once; what gateways keep comes later."""
        arrivals: list[Arrival] = []
        live = np.zeros(len(frames), dtype=np.bool_)
        frame_of, gateway = np.nonzero(heard.by)
        order = np.lexsort((-heard.snr[frame_of, gateway], frame_of))
        frame_of, gateway = frame_of[order], gateway[order]
        rssi = np.round(heard.rssi[frame_of, gateway]).astype(np.int64).tolist()
        hearings = list(map(Hearing, gateway.tolist(), rssi, heard.snr[frame_of, gateway].tolist()))
        ends = np.searchsorted(frame_of, np.arange(len(frames)), side="right").tolist()
        charge = self.fleet.left(sent.device, sent.begin_s).tolist()
        first = 0
        for n, (number, begin, airtime, channel, factor) in enumerate(
            zip(*(column.tolist() for column in sent[1:]), strict=True)
        ):
            by, first = tuple(hearings[first : ends[n]]), ends[n]
            if not by:
                continue
            end = begin + airtime
            arrival = Arrival(frames[n], number, end, end, channel, factor, airtime, charge[n], by)
            if self._ether.keeps:
                arrival = msgspec.structs.replace(arrival, heard=self._keep(arrival))
            if arrival.heard:
                live[n] = True
                arrivals.append(arrival)
        return arrivals, live

    def _keep(self, arrival: Arrival) -> tuple[Hearing, ...]:
        """Those who can deliver an arrival at once; of the others it arrives later, one after another."""
        now = []
        for hearing in arrival.heard:
            until = self._ether.kept_until(hearing.gateway, arrival.sent)
            if until is None:
                now.append(hearing)
            elif not arrival.frame.joining:
                late = msgspec.structs.replace(arrival, heard=(hearing,))
                heapq.heappush(self._late, (until, arrival.sent, next(self._ticket), late))
        return tuple(now)

    def _go_on(self, frames: list[Frame], sent: Sent, heard: Heard, live: Flags) -> None:
        """When each sends again, and how fast."""
        fleet, device = self.fleet, sent.device
        joining = ~self._joined[device]
        allowed = sent.begin_s + sent.airtime_s / _DUTY_CYCLE
        if joining.any():
            who, got = device[joining], live[joining]
            self._rates.rejoin(who, got)
            self._joined[who] = got
            self._sessions[who] += got
            self._f_cnt[who] = 0
            patience = _JOIN_AGAIN_S * (1.0 + uniform(fleet.luck[who], sent.number[joining], "join again"))
            self._due[who] = np.where(
                got, sent.begin_s[joining] + _JOIN_TO_FIRST_FRAME_S, allowed[joining] + patience
            )
        up = ~joining
        who = device[up]
        arrived = heard._replace(by=heard.by & live[:, None])
        self._rates.follow(who, arrived.of(up))
        measured = np.array([frame.at for frame in frames])[up]
        self._due[who] = np.maximum(measured + fleet.gap(who), allowed[up])
        if self._talks:
            answered = live & self._ether.acknowledged(sent)
            for n in np.flatnonzero(up).tolist():
                if (talk := self._talks.get(frames[n].device)) is not None:
                    self._converse(talk, frames[n], bool(answered[n]), float(allowed[n]))

    def _converse(self, talk: Talk, frame: Frame, answered: bool, allowed: float) -> None:
        what = talk.after(frame, answered)
        if what == "again":
            self._due[frame.device] = allowed + _AGAIN_S
        elif what == "join":
            self._joined[frame.device] = False
            self._rates.spreading_factor[frame.device] = JOIN_SF

    def _recall(self, after: Frame, rows: tuple[Row, ...]) -> Frame:
        """A frame of remembered values; its bytes are for its size only, until the wall clock is known."""
        device = after.device
        fields, port, payload = self.words.recalled(device, rows, None)
        f_cnt = int(self._f_cnt[device])
        self._f_cnt[device] += 1
        return Frame(device, after.at, False, after.session, f_cnt, port, payload, fields, after.values, rows)

    def _forget(self, until: float) -> None:
        """Of what was on the air, keep what still is."""
        still = self._on_air.end_s > until
        self._on_air = self._on_air.of(still)
        self._on_air_rssi = self._on_air_rssi[still]


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
        yield from event.messages(timeline.when)


def _together(arrivals: list[Arrival]) -> list[Arrival]:
    """Of what several gateways deliver late, but at once, the server makes one."""
    merged: list[Arrival] = []
    places: dict[tuple[int, int], int] = {}
    for arrival in arrivals:
        key = arrival.frame.device, arrival.number
        late = arrival.at > arrival.sent
        if late and key in places and arrival.at - merged[places[key]].at <= _SAME_S:
            first = merged[places[key]]
            heard = tuple(sorted(first.heard + arrival.heard, key=_loudest))
            merged[places[key]] = msgspec.structs.replace(first, heard=heard)
        else:
            if late:
                places[key] = len(merged)
            merged.append(arrival)
    return merged


def _at(arrival: Arrival) -> float:
    return arrival.at


def _loudest(hearing: Hearing) -> float:
    return -hearing.snr


def _order(arrival: Arrival) -> tuple[float, int, int]:
    return arrival.at, arrival.frame.device, arrival.number
