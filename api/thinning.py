"""Series made small enough to draw: gaps stay gaps, the highest and the lowest stay. Pure numpy."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

GAP_FACTOR = 3
NEIGHBOURS = 5
_EVERY = 2  # runs of one or two points are kept whole


class Thinned(NamedTuple):
    """`kept` are indices into the series; before each of `breaks`, positions in `kept`, lies a gap."""

    kept: Indices
    breaks: Indices


def thin(seconds: Floats, values: Floats, points: int) -> Thinned:
    """About `points` of a series that ascends in time, by Largest-Triangle-Three-Buckets.

    Every unbroken run keeps its first and its last point, its highest and its lowest; the rest of the points
    is dealt out by length. When there are more runs than points the answer is larger than asked for.

    Source: S. Steinarsson, Downsampling Time Series for Visual Representation, University of Iceland 2013,
    https://hdl.handle.net/1946/15343.
    """
    begins = np.concatenate(([0], gaps(seconds) + 1, [len(seconds)])).astype(np.intp)
    whole = len(seconds) <= points
    chosen = []
    for begin, end in pairwise(begins.tolist()):
        length = end - begin
        share = length if whole else max(_EVERY + 2, points * length // len(seconds))
        if length > share:
            run = slice(begin, end)
            chosen.append(begin + _with_extremes(lttb(seconds[run], values[run], share - 2), values[run]))
        else:
            chosen.append(np.arange(begin, end, dtype=np.intp))
    sizes = np.cumsum([len(part) for part in chosen], dtype=np.intp)
    return Thinned(np.concatenate(chosen), sizes[:-1])


def gaps(seconds: Floats) -> Indices:
    """Indices of the points after which a line must break.

    That is where a pause is over three times the usual pause on both sides, so that a change of the reporting
    interval is no gap. The usual pause of some neighbours is the longest but one: one other gap is no rule.
    """
    pauses = np.diff(seconds)
    if not len(pauses):
        return np.empty(0, np.intp)
    usual = np.maximum(_usual(pauses), _usual(pauses[::-1])[::-1])
    return np.flatnonzero((usual > 0) & (pauses > GAP_FACTOR * usual)).astype(np.intp)


def _usual(pauses: Floats) -> Floats:
    """The longest but one of the pauses before each, of one the only one, 0 where there is none."""
    padded = np.concatenate((np.full(NEIGHBOURS, -np.inf), pauses[:-1]))
    before = np.sort(np.lib.stride_tricks.sliding_window_view(padded, NEIGHBOURS), axis=1)
    found: Floats = np.where(np.isfinite(before[:, -2]), before[:, -2], before[:, -1])
    return np.where(np.isfinite(found), found, 0.0)


def lttb(seconds: Floats, values: Floats, points: int) -> Indices:
    """Indices of `points` of a run; of each bucket the point that spans the largest triangle.

    Its corners are the point chosen before and the mean of the next bucket. The first and last are kept.
    """
    last = len(seconds) - 1
    if points <= _EVERY or points > last:
        return np.array([0, last], np.intp) if points <= _EVERY else np.arange(last + 1, dtype=np.intp)
    edges = np.linspace(1, last, points - 1).astype(np.intp)
    counts = np.diff(edges)
    mean_x = np.append(np.add.reduceat(seconds[:last], edges[:-1])[1:] / counts[1:], seconds[last])
    mean_y = np.append(np.add.reduceat(values[:last], edges[:-1])[1:] / counts[1:], values[last])
    kept = np.zeros(points, np.intp)
    kept[-1] = last
    here = 0
    for bucket, (begin, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        across, up = seconds[here] - mean_x[bucket], mean_y[bucket] - values[here]
        areas = np.abs(
            across * (values[begin:end] - values[here]) - (seconds[here] - seconds[begin:end]) * up
        )
        here = begin + int(areas.argmax())
        kept[bucket + 1] = here
    return kept


def _with_extremes(kept: Indices, values: Floats) -> Indices:
    return np.union1d(kept, [values.argmax(), values.argmin()]).astype(np.intp)
