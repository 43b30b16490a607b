"""A cumulative counter (rain, a water meter) becomes increments, in event time. Pure.

Two neighbours in time, `a` and then `b`, `seconds` apart, decide alone; so what was lost, came twice or came
late changes nothing but the neighbours that are left. With ``limit`` = the most that can be counted in
`seconds` (`max_change` of the metric) and M = what is counted between two wraps:

| kind | when | increment |
|---|---|---|
| replacement | a boundary lies in (a, b]: another meter, another calibration | none |
| growth | a ≤ b, and b − a ≤ limit | b − a |
| wrap | b < a, M known, and b − a + M ≤ min(limit, M / 4) | b − a + M |
| reset | b < a, no wrap, b ≤ a / 2 and b ≤ limit: the device restarted and counts from 0 | b |
| unexplained | anything else | none |

That a fall without a wrap is a restart from 0 is the rule of Prometheus
(https://prometheus.io/docs/prometheus/latest/querying/functions/#rate), that a known modulus makes it a wrap
the rule of RRDtool (https://oss.oetiker.ch/rrdtool/doc/rrdcreate.en.html, COUNTER against DERIVE). Each alone
invents rain: the first after a backward step, the second after a restart. The bounds are ours.

What two numbers cannot tell, and what follows:

- What was counted between `a` and a restart is lost; only `b` is known.
- More than M / 4 in one gap is not taken for a wrap, nor are two wraps in one gap ever seen.
- A restart shortly before a wrap is taken for the wrap: at most ``limit`` too much.
- A restarted device that has overtaken `a` already is growth: `a` too little.
- A restart after which more than half of the old count has been counted is unexplained: `b` too little.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.catalogue import Change

Times = npt.NDArray[np.int64]
"""Microseconds since 1970-01-01T00:00Z."""
Floats = npt.NDArray[np.float64]

_SECOND = 1_000_000
_WRAP_SHARE = 0.25
_RESET_SHARE = 0.5
# Scaled counts differ from their decimals by some 1e-16 of themselves: 0.1 * 3 is no fall against 0.3.
_ROUNDING = 1e-12


class Kind(IntEnum):
    """How a counter came from one reading to the next."""

    GROWTH = 0
    WRAP = 1
    RESET = 2
    REPLACEMENT = 3
    UNEXPLAINED = 4


class Increments(NamedTuple):
    """What was counted in each span (start, time], all of shape (n,), by time.

    `value` is in the counter's unit, NaN where none is known; `kind` holds `Kind`.
    """

    start: Times
    time: Times
    value: Floats
    kind: npt.NDArray[np.uint8]


def increments(
    time: Times,
    count: Floats,
    *,
    modulus: float | None = None,
    limit: Change | None = None,
    boundaries: Times | None = None,
) -> Increments:
    """The increments of one counter's readings.

    `time` and `count` have shape (n,), in any order and with repeats; NaN counts are no readings. Of several
    counts of one instant the largest holds. `modulus` and `limit` are in the unit of `count`; `boundaries`
    are times from which on another meter counts. The result has one row less than there are instants.
    """
    time, count = _in_order(time, count)
    start, end = time[:-1], time[1:]
    before, after = count[:-1], count[1:]
    growth = after - before
    growth[np.abs(growth) <= _ROUNDING * np.abs(before)] = 0.0
    most = np.full(len(growth), np.inf)
    if limit is not None:
        most = limit.by * np.maximum(1.0, (end - start) / (limit.within * _SECOND))
    fell = growth < 0
    wrapped = growth + (np.nan if modulus is None else modulus)
    is_wrap = fell & (wrapped >= 0) & (wrapped <= np.minimum(most, _WRAP_SHARE * (modulus or 0.0)))
    is_reset = fell & ~is_wrap & (after >= 0) & (after <= _RESET_SHARE * before) & (after <= most)
    kind = np.full(len(growth), Kind.UNEXPLAINED, np.uint8)
    kind[~fell & (growth <= most)] = Kind.GROWTH
    kind[is_wrap] = Kind.WRAP
    kind[is_reset] = Kind.RESET
    if boundaries is not None:
        edges = np.sort(boundaries)
        kind[np.searchsorted(edges, start, "right") < np.searchsorted(edges, end, "right")] = Kind.REPLACEMENT
    value = np.select(
        [kind == Kind.GROWTH, kind == Kind.WRAP, kind == Kind.RESET], [growth, wrapped, after], np.nan
    )
    return Increments(start, end, value, kind)


def span_to_renew(time: Times, late: Times) -> tuple[int, int]:
    """The first and the last reading that the increments touched by `late` ones need, both included.

    `time` are the readings held, those of `late` among them or not. Increments of the readings in the span
    replace the ones held whose time lies in (first, last].
    """
    held = np.sort(time)
    first, last = int(late.min()), int(late.max())
    before = int(np.searchsorted(held, first, "left")) - 1
    behind = int(np.searchsorted(held, last, "right"))
    return (
        int(held[before]) if before >= 0 else first,
        int(held[behind]) if behind < len(held) else last,
    )


def _in_order(time: Times, count: Floats) -> tuple[Times, Floats]:
    known = ~np.isnan(count)
    time, count = time[known], count[known]
    order = np.lexsort((count, time))
    time, count = time[order], count[order]
    last = np.append(time[1:] != time[:-1], True)[: len(time)]
    return time[last], count[last]
