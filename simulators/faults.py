"""Faults that a network has, mixed into messages from a seed. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from random import Random

from telemetry.errors import UsageError

from .message import Message

_FURTHEST = 10


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of the messages, 0 to 1, that each fault falls on, independently of the others.

    A delayed message arrives up to `longest_delay` later; one out of order 1 to 10 messages later; of a
    corrupt one a byte is changed or the end is missing; a duplicate comes right behind, or late on its own.

    Raises:
        UsageError: a share that is none.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    corrupt: float = 0.0
    longest_delay: timedelta = timedelta(minutes=1)
    seed: int = 1

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"--{name}: a share from 0 to 1 is needed, got {getattr(self, name):g}")


SHARES = tuple(field.name for field in fields(Faults))[:5]


@dataclass(slots=True)
class Counts:
    """What fell on how many messages."""

    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0
    delayed: int = 0
    corrupted: int = 0


def mix(messages: Iterable[Message], faults: Faults, counts: Counts, turn: int = 0) -> Iterator[Message]:
    """The messages as they arrive: the same seed and `turn`, the same faults.

    `time` of what comes late is the moment it comes; it never goes back where it did not in `messages`.
    """
    if not any(getattr(faults, name) for name in SHARES):
        yield from messages
        return
    draw, detail = (Random(f"{faults.seed}:{turn}:{what}") for what in ("draw", "detail"))  # noqa: S311
    delayed: list[tuple[datetime, int, Message]] = []
    behind: list[tuple[int, int, Message]] = []
    order, number, last = 0, 0, None
    for number, message in enumerate(messages):
        while delayed and delayed[0][0] <= message.time:
            yield heapq.heappop(delayed)[2]
        # All are drawn, whatever the shares: one that is changed leaves the other faults where they were.
        drawn = [draw.random() for _ in range(7)]
        for copy in _copies(message, drawn, faults, counts, detail):
            order += 1
            late, out_of_order = drawn.pop() < faults.delay, drawn.pop() < faults.reorder
            if late:
                counts.delayed += 1
                time = copy.time + detail.random() * faults.longest_delay
                heapq.heappush(delayed, (time, order, replace(copy, time=time)))
            elif out_of_order:
                counts.reordered += 1
                heapq.heappush(behind, (number + detail.randint(1, _FURTHEST), order, copy))
            else:
                yield copy
        last = message.time
        while behind and behind[0][0] <= number:
            yield replace(heapq.heappop(behind)[2], time=last)
    while behind:
        out_of_place = heapq.heappop(behind)[2]
        yield replace(out_of_place, time=last or out_of_place.time)
    while delayed:
        yield heapq.heappop(delayed)[2]


def _copies(
    message: Message, drawn: list[float], faults: Faults, counts: Counts, detail: Random
) -> list[Message]:
    if drawn.pop() < faults.drop:
        counts.dropped += 1
        return []
    if drawn.pop() < faults.corrupt and message.payload:
        counts.corrupted += 1
        message = replace(message, payload=_damaged(message.payload, detail))
    if drawn.pop() >= faults.duplicate:
        return [message]
    counts.duplicated += 1
    return [message, message]


def _damaged(payload: bytes, detail: Random) -> bytes:
    at = detail.randrange(len(payload))
    if detail.random() < 0.5:
        return payload[:at]
    return payload[:at] + bytes([payload[at] ^ detail.randint(1, 255)]) + payload[at + 1 :]
