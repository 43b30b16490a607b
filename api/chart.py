"""Columns of a chart: raw readings with their gaps, thinned where there are many, or rollups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg.sql import SQL, Identifier

from telemetry.clock import micros
from telemetry.model import Quality

from .buckets import Resolution, Span, span_of
from .columns import read_arrays
from .database import Connection
from .series import Series
from .thinning import thin

RAW_LONGEST = timedelta(days=100)
RAW_PER_POINT = 10

Columns = dict[str, Any]
_UNUSABLE = (Quality.FAIL, Quality.MISSING)
_DOUBTFUL = (Quality.SUSPECT, Quality.FAIL)

# As arrays, since a row of its own would cost each reading more than reading it.
_RAW = """
    SELECT array_agg(pair), array_agg(channel), array_agg(time), array_agg(value), array_agg(quality)
    FROM (
        SELECT p.pair, r.*
        FROM unnest(%(devices)s::int[], %(metrics)s::int[]) WITH ORDINALITY AS p (device_id, metric_id, pair)
        CROSS JOIN LATERAL (
            SELECT channel, time, value::float8 AS value, quality
            FROM reading
            WHERE device_id = p.device_id AND metric_id = p.metric_id
              AND time >= %(start)s AND time < %(end)s
            ORDER BY reading.time LIMIT %(most)s
        ) r LIMIT %(most_in_all)s
    ) few
"""
_ROLLUPS = SQL("""
    SELECT array_agg(device_id), array_agg(metric_id), array_agg(channel), array_agg(time), array_agg(count),
           array_agg(coalesce(mean, 'NaN')), array_agg(coalesce(min, 'NaN')), array_agg(coalesce(max, 'NaN'))
    FROM {between}(%(devices)s::int[], %(metrics)s::smallint[], %(start)s, %(end)s)
""")


class Asking(NamedTuple):
    """Series over a span, and how many points of each are wanted."""

    series: Sequence[Series]
    start: datetime
    end: datetime
    points: int


class RawLines(NamedTuple):
    """A line for each series; `thinned` when readings were left out."""

    columns: list[Columns]
    thinned: bool


async def raw_lines(db: Connection, asking: Asking, most: int, most_in_all: int) -> RawLines | None:
    """The readings of each series; None when a device has more than `most` of one metric, or there are more
    than `most_in_all`."""
    pairs = sorted({(one.device.id, one.metric_id) for one in asking.series})
    values = {
        "devices": [device for device, _ in pairs],
        "metrics": [metric for _, metric in pairs],
        "start": asking.start,
        "end": asking.end,
        "most": most + 1,
        "most_in_all": most_in_all + 1,
    }
    found = await read_arrays(db, _RAW, values)
    if found is None:
        found = [np.empty(0, np.int64)] * 5
    elif len(found[0]) > most_in_all or np.bincount(found[0]).max() > most:
        return None
    return await asyncio.to_thread(_raw_lines, asking, pairs, found)


def _raw_lines(
    asking: Asking, pairs: Sequence[tuple[int, int]], found: Sequence[npt.NDArray[Any]]
) -> RawLines:
    pair, channel, times, values, flags = found
    own = pair << 16 | channel
    order = np.lexsort((times, own))
    own, times, values, flags = own[order], times[order], values[order], flags[order]
    columns, thinned = [], False
    for one in asking.series:
        key = (pairs.index((one.device.id, one.metric_id)) + 1) << 16 | one.channel
        begin, end = np.searchsorted(own, [key, key + 1])
        line = slice(begin, end)
        meant = one.device.meant(times[line])
        thinned |= int(meant.sum()) > asking.points
        seconds = times[line][meant] / 1e6
        columns.append(
            {**_head(one), **_line(seconds, values[line][meant], flags[line][meant], asking.points)}
        )
    return RawLines(columns, thinned)


async def rollup_lines(
    db: Connection, asking: Asking, resolution: Resolution, now: datetime
) -> list[Columns]:
    """Every bucket of the span for each series, nulls where there are no readings."""
    span = span_of(resolution, asking.start, asking.end, now)
    values = {
        "devices": sorted({one.device.id for one in asking.series}),
        "metrics": sorted({one.metric_id for one in asking.series}),
        "start": span.first,
        "end": span.end,
    }
    query = _ROLLUPS.format(between=Identifier(f"reading_{resolution}_between"))
    found = await read_arrays(db, query, values)
    return await asyncio.to_thread(_rollup_lines, asking, span, found)


def _rollup_lines(asking: Asking, span: Span, found: Sequence[npt.NDArray[Any]] | None) -> list[Columns]:
    first, width = micros(span.first), span.width // timedelta(microseconds=1)
    means = np.full((3, len(asking.series), span.length), np.nan)
    counts = np.zeros(means.shape[1:], np.int64)
    if found is not None:
        device, metric, channel, times, count, *values = found
        keys, which = np.unique(np.stack((device, metric, channel)), axis=1, return_inverse=True)
        places = {one.key: place for place, one in enumerate(asking.series)}
        line = np.array([places.get(tuple(key), -1) for key in keys.T.tolist()])[which.reshape(-1)]
        bucket = (times - first) // width
        known = line >= 0
        counts[line[known], bucket[known]] = count[known]
        means[:, line[known], bucket[known]] = np.stack(values)[:, known]
    begins, moments = list(span.times()), first + width * np.arange(span.length)
    lines = []
    for place, one in enumerate(asking.series):
        strange = ~one.device.meant(moments)
        means[:, place, strange], counts[place, strange] = np.nan, 0
        mean, least, most = means[:, place].tolist()
        columns = {"time": begins, "value": mean, "min": least, "max": most}
        lines.append({**_head(one), **columns, "count": counts[place].tolist()})
    return lines


def _line(
    seconds: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    flags: npt.NDArray[np.int16],
    points: int,
) -> Columns:
    """Line points, doubtful ones beside them, and a null in the middle of every gap."""
    usable = np.flatnonzero(~np.isin(flags, _UNUSABLE))
    kept, breaks = thin(seconds[usable], values[usable], points)
    line = usable[kept]
    middles = (seconds[line[breaks - 1]] + seconds[line[breaks]]) / 2
    doubtful = np.flatnonzero(np.isin(flags, _DOUBTFUL))
    if len(doubtful) > points:
        doubtful = doubtful[np.linspace(0, len(doubtful) - 1, points).astype(np.intp)]
    missing = np.flatnonzero((flags == Quality.MISSING) & (len(seconds) <= points))
    shown = np.unique(np.concatenate((line, doubtful, missing))).astype(np.intp)
    all_seconds = np.concatenate((seconds[shown], middles))
    order = np.argsort(all_seconds, kind="stable")
    holes = np.full(len(middles), np.nan)  # NaN becomes null
    known = np.where(flags[shown] == Quality.MISSING, np.nan, values[shown])
    all_flags = [*flags[shown].tolist(), *[None] * len(middles)]
    return {
        "time": [datetime.fromtimestamp(second, UTC) for second in all_seconds[order].tolist()],
        "value": np.concatenate((known, holes))[order].tolist(),
        "quality": [all_flags[i] for i in order.tolist()],
    }


def _head(series: Series) -> Columns:
    return {
        "dev_eui": series.device.dev_eui,
        "station": series.device.station,
        "metric": series.metric.key,
        "channel": series.channel,
        "unit": series.metric.unit,
    }
