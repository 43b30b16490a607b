"""Levels over event time: what a series of readings makes of a ladder. Pure; knows no clock and no store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from .rules import Level, Rule


class Machine(msgspec.Struct, frozen=True):
    """Where an evaluation stands.

    `step` counts the ladder's steps reached (0 none). `since[i]` is the event time (µs) from which the value
    has been beyond step i+1 and the alert could rise to it, or, for a step already reached, from which
    it has been back and the alert could fall below it; None while neither is the case.
    """

    step: int
    since: tuple[int | None, ...]


class Change(NamedTuple):
    """The level changed at event time `at` (µs), proven by `value`; `machine` is the state right after."""

    at: int
    from_step: int
    to_step: int
    value: float
    machine: Machine


class Ladder(msgspec.Struct, frozen=True):
    """A rule's levels made ready; `sign` −1 turns "below" into "above". Durations in µs."""

    levels: tuple[Level, ...]
    sign: int
    hysteresis: float
    hold: int
    clear_for: int

    def start(self) -> Machine:
        return Machine(0, (None,) * len(self.levels))

    def resume(self, machine: Machine) -> Machine:
        """The machine under this ladder; when the ladder changed meanwhile only the step is carried over."""
        if len(machine.since) == len(self.levels):
            return machine
        return Machine(min(machine.step, len(self.levels)), (None,) * len(self.levels))


def make_ladder(rule: Rule, levels: tuple[Level, ...]) -> Ladder:
    return Ladder(
        levels,
        1 if rule.direction == "above" else -1,
        rule.hysteresis,
        round(rule.hold * 1_000_000),
        round(rule.clear_for * 1_000_000),
    )


def one_a_moment(ladder: Ladder, points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Points sorted by time and value, with one value a moment: the one further up the ladder.

    Two values at one time would make a rise and a fall of no duration, in an order nobody can tell.
    """
    ordered = list(points)
    if ladder.sign < 0:
        ordered.reverse()
    return sorted(dict(ordered).items())


def advance(
    ladder: Ladder, machine: Machine, points: Iterable[tuple[int, float]]
) -> tuple[Machine, list[Change]]:
    """Feed readings (event time in µs, value), oldest first, one a moment; collect the changes of level.

    A step is reached by a value at or beyond it that held for `hold`, and left by a value that stayed
    more than `hysteresis` on the safe side of it for `clear_for`; both are proven by a reading, never by
    time passing alone, so silence changes nothing.
    """
    step, since = machine.step, list(machine.since)
    thresholds = [ladder.sign * level.value for level in ladder.levels]
    changes: list[Change] = []
    for at, value in points:
        height = ladder.sign * value
        for index, threshold in enumerate(thresholds):
            moving = height >= threshold if index >= step else height < threshold - ladder.hysteresis
            if not moving:
                since[index] = None
            elif since[index] is None:
                since[index] = at
        target = _target(ladder, step, since, at)
        if target != step:
            for index in range(min(step, target), max(step, target)):
                since[index] = None
            before, step = step, target
            changes.append(Change(at, before, target, value, Machine(step, tuple(since))))
    return Machine(step, tuple(since)), changes


def _target(ladder: Ladder, step: int, since: list[int | None], at: int) -> int:
    target = step
    for index in range(step, len(since)):
        start = since[index]
        if start is not None and at - start >= ladder.hold:
            target = index + 1
    while 0 < target <= step:
        start = since[target - 1]
        if start is None or at - start < ladder.clear_for:
            break
        target -= 1
    return target
