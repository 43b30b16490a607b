"""When a course of values was above a level: surely, or so near it that sensors cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from .world.rain import Array

Span = tuple[float | None, float | None]
"""Begin and end; None for a bound that lies outside the times that were looked at."""


class Above(NamedTuple):
    """World seconds of one passage, as `sheet.Passage` has them.

    From `proven` on it was beyond the margin, too, for as long as it takes to see that; None if never.
    """

    earliest: float | None
    rising: float | None
    proven: float | None
    falling: float | None
    gone: float | None
    peak: float


def passages(
    times: Array,
    values: Array,
    level: float,
    margin: float,
    *,
    lasting: float = 0.0,
    blind: Sequence[tuple[float, float]] = (),
) -> Iterator[Above]:
    """Each time that the values (n,), linear between their times (n,), were above `level` less `margin`.

    Beyond the margin counts when it is for `lasting` seconds, outside the spans in which the sensor is
    `blind`.
    """
    lowest = level - margin
    for begin, end in spans(times, values, lowest):
        inside = (times > (-inf if begin is None else begin)) & (times < (inf if end is None else end))
        before, after = [at for at in (begin,) if at is not None], [at for at in (end,) if at is not None]
        own_times = np.concatenate([before, times[inside], after])
        own_values = np.concatenate([[lowest] * len(before), values[inside], [lowest] * len(after)])
        above = spans(own_times, own_values, level)
        first, last = float(own_times[0]), float(own_times[-1])
        beyond = (
            (first if a is None else a, last if b is None else b)
            for a, b in spans(own_times, own_values, level + margin)
        )
        seen = (a for a, b in _outside(beyond, blind) if b - a >= lasting)
        yield Above(
            begin,
            above[0][0] if above else None,
            next(seen, None),
            above[-1][1] if above else None,
            end,
            float(own_values.max()),
        )


def spans(times: Array, values: Array, level: float) -> list[Span]:
    """Where the values (n,), linear between their times, are at or above `level`."""
    above = values >= level
    turns = np.flatnonzero(above[1:] != above[:-1])
    t0, t1, v0, v1 = times[turns], times[turns + 1], values[turns], values[turns + 1]
    bounds: list[float | None] = (t0 + (t1 - t0) * (level - v0) / (v1 - v0)).tolist()
    if above[0]:
        bounds.insert(0, None)
    if above[-1]:
        bounds.append(None)
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def joined(found: Iterable[Span], gap: float) -> list[Span]:
    """The same spans, in their order; those with less than `gap` between them are one."""
    whole: list[Span] = []
    for begin, end in found:
        before = whole[-1][1] if whole else None
        if before is not None and begin is not None and begin - before < gap:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((begin, end))
    return whole


def _outside(
    found: Iterable[tuple[float, float]], blind: Sequence[tuple[float, float]]
) -> Iterator[tuple[float, float]]:
    """What is left of the spans without the blind ones."""
    for begin, end in found:
        at = begin
        for closed, opened in sorted(blind):
            if closed >= end or opened <= at:
                continue
            if closed > at:
                yield at, closed
            at = opened
        if at <= end:
            yield at, end
