"""Playing recordings again: chosen, moved in time, with faults, at any speed, onto a broker or elsewhere."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from math import inf
from time import monotonic
from typing import Literal, Protocol

from paho.mqtt.client import topic_matches_sub

from telemetry.clock import Clock, SystemClock
from telemetry.errors import UsageError

from .faults import Counts, Faults, mix
from .message import Message, is_json
from .recording import Recordings
from .shift import Binary, Shift

Speed = float | Literal["max"]
Progress = Callable[[int, int], None]
_BETWEEN_TURNS = timedelta(seconds=1)
_SECOND = timedelta(seconds=1)
_EUI = re.compile(r"[0-9a-f]{16}")


class Sink(Protocol):
    """Where messages go. `run` works until cancelled or failed; `cut` breaks its connection."""

    async def put(self, message: Message) -> None: ...
    async def drained(self) -> None: ...
    async def run(self) -> None: ...
    def cut(self) -> None: ...


class Selection:
    """Which messages: of any of the devices, on any of the topics (MQTT filters), arrived in a span of time.

    A device is found by its DevEUI in topic or payload, in hex, or in base64 as ChirpStack v3 may write it.

    Raises:
        UsageError: a DevEUI or a filter that is none, or a span that ends before it begins.
    """

    def __init__(
        self,
        *,
        devices: Sequence[str] = (),
        topics: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        euis = [device.lower().replace(":", "").replace("-", "") for device in devices]
        for told, eui in zip(devices, euis, strict=True):
            if not _EUI.fullmatch(eui):
                raise UsageError(f"--device: {told!r} is no DevEUI of 16 hex digits")
        for topic in topics:
            levels = topic.split("/")
            if not topic or "#" in levels[:-1] or any(len(x) > 1 and set(x) & {"+", "#"} for x in levels):
                raise UsageError(f"--topic: {topic!r} is no topic filter: + is for a level, # for the rest")
        if since and until and until <= since:
            raise UsageError("--to: lies before --from")
        self._euis = [eui.encode() for eui in euis]
        self._base64 = [b64encode(bytes.fromhex(eui)) for eui in euis]
        self._topics = topics
        self._since = since
        self._until = until

    def has(self, message: Message) -> bool:
        if (self._since and message.time < self._since) or (self._until and message.time >= self._until):
            return False
        if self._topics and not any(topic_matches_sub(topic, message.topic) for topic in self._topics):
            return False
        if not self._euis:
            return True
        text = message.topic.lower().encode("utf-8", "replace") + b" " + message.payload.lower()
        return any(eui in text for eui in self._euis) or any(one in message.payload for one in self._base64)


@dataclass(slots=True)
class Summary:
    """Messages that were read (in all turns), lines that are none, what was not chosen, what was sent."""

    read: int = 0
    skipped: int = 0
    left_out: int = 0
    sent: int = 0
    faults: Counts = field(default_factory=Counts)
    cuts: int = 0
    seconds: float = 0.0

    def flat(self) -> dict[str, int | float]:
        """All of it on one level."""
        values = asdict(self)
        faults: dict[str, int] = values.pop("faults")
        return {**values, **faults, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class _Span:
    """Of the chosen messages: how many, and when the first and the last arrived."""

    count: int
    first: datetime
    last: datetime


async def replay(
    recordings: Recordings,
    sink: Sink,
    *,
    speed: Speed = 1.0,
    selection: Selection | None = None,
    faults: Faults | None = None,
    shift_to: datetime | Literal["now"] | None = None,
    loop: int = 1,
    cut_every: int = 0,
    binary: Binary | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    progress: Progress | None = None,
) -> Summary:
    """Send what `recordings` hold to `sink`, `loop` times; `speed` is recorded seconds per second.

    Gaps are those of the arrival times; ``"max"`` knows none. When we are held up, what is late is sent at
    once. `shift_to` moves all times, in the messages too, so that the first arrives at that moment (at speed
    1, to the second), and compresses them by `speed`. ``"now"``: each arrives at the moment at which it is
    sent; at ``"max"``, the last is of now. Each further turn then lies behind the one before.

    All files are read once before anything is sent.

    Raises:
        UsageError: nothing to send, a payload that cannot be shifted, a bad speed or number, or what
            `recordings` refuses.
        SettingsError: the broker refuses user or password.
    """
    if speed != "max" and not 0 < speed < inf:
        raise UsageError(f"--speed: a number above 0 or max is needed, got {speed:g}")
    if loop < 1 or cut_every < 0:
        raise UsageError("--loop must be at least 1, and --cut-every not negative")
    clock = clock or SystemClock()
    selection = selection or Selection()
    span = await asyncio.to_thread(_survey, recordings, selection, shift_to is not None, binary)
    plan = _Plan(span, speed, shift_to, loop, clock.now())
    summary = Summary()
    began = monotonic()

    def chosen(shift: Shift | None) -> Iterator[Message]:
        for message in recordings:
            summary.read += 1
            if selection.has(message):
                # Before faults: in what they damage no times can be found.
                yield shift.payload(message, binary) if shift else message
            else:
                summary.left_out += 1

    async def feed() -> None:
        for turn in range(loop):
            shift, due = plan.shift(turn), plan.due(turn)
            for message in mix(chosen(shift), faults or Faults(), summary.faults, turn):
                if due is not None:
                    left = (due.moved(message.time) - clock.now()).total_seconds()
                    if left > 0:
                        await sleep(left)
                await sink.put(shift.arrival(message) if shift else message)
                summary.sent += 1
                if cut_every and summary.sent % cut_every == 0:
                    sink.cut()
                    summary.cuts += 1
                if progress:
                    progress(summary.read - summary.left_out, span.count * loop)
        await sink.drained()

    await _both(feed(), sink.run())
    summary.skipped = recordings.skipped
    summary.seconds = monotonic() - began
    return summary


class _Plan:
    """When the messages of each turn are due, and where their times move to."""

    def __init__(
        self, span: _Span, speed: Speed, shift_to: datetime | Literal["now"] | None, loop: int, now: datetime
    ) -> None:
        self._first = span.first
        self._period = span.last - span.first + _BETWEEN_TURNS
        self._speed = 1.0 if speed == "max" else speed
        self._live = speed != "max"
        self._begin = now
        self._start: datetime | None = None
        if shift_to is not None:
            if shift_to == "now":
                shift_to = now if self._live else now - loop * self._period
            by = shift_to - span.first
            # At speed 1 by whole seconds, so that nanoseconds stay.
            self._start = span.first + (_whole(by) if self._speed == 1 else by)
            self._begin = max(now, self._start) if shift_to == now else now

    def shift(self, turn: int) -> Shift | None:
        """How the messages' times move."""
        if self._start is None:
            return None
        return Shift(self._first, self._start + self._passed(turn), self._speed)

    def due(self, turn: int) -> Shift | None:
        """When messages are to be sent, by their arrival."""
        return Shift(self._first, self._begin + self._passed(turn), self._speed) if self._live else None

    def _passed(self, turn: int) -> timedelta:
        period = self._period / self._speed
        return turn * (_whole(period) if self._speed == 1 else period)


def _whole(span: timedelta) -> timedelta:
    """Rounded up to seconds."""
    return -(-span // _SECOND) * _SECOND


def _survey(recordings: Recordings, selection: Selection, shifted: bool, binary: Binary | None) -> _Span:
    """Read all once: what is wrong with it is said before anything is sent."""
    count, first, last = 0, None, None
    for message in recordings:
        if not selection.has(message):
            continue
        count += 1
        first = min(first or message.time, message.time)
        last = max(last or message.time, message.time)
        if shifted and not is_json(message.payload):
            try:
                Shift(message.time, message.time).payload(message, binary)
            except UsageError as error:
                raise UsageError(f"{recordings.at}: {error}") from None
    if first is None or last is None:
        raise UsageError("nothing to replay: the files hold no message that is asked for")
    return _Span(count, first, last)


async def _both(feeding: Awaitable[None], running: Awaitable[None]) -> None:
    """Feed the sink until the messages end; its failure ends the feeding, and the other way round."""
    tasks = [asyncio.ensure_future(feeding), asyncio.ensure_future(running)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            tasks[1].result()
        await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
