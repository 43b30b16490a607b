"""Columns of a chart: raw readings with their gaps, thinned where there are many, or rollups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.model import Quality

from .buckets import Resolution, read_buckets, span_of
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
    SELECT p.device_id, p.metric_id, r.*
    FROM unnest(%(devices)s::int[], %(metrics)s::int[]) AS p (device_id, metric_id)
    CROSS JOIN LATERAL (
        SELECT array_agg(channel) AS channels, array_agg(seconds) AS seconds, array_agg(value::float8) AS values,
               array_agg(quality) AS qualities
        FROM (
            SELECT channel, extract(epoch FROM time)::float8 AS seconds, value, quality
            FROM reading
            WHERE device_id = p.device_id AND metric_id = p.metric_id
              AND time >= %(start)s AND time < %(end)s
            ORDER BY reading.time LIMIT %(most)s
        ) few
    ) r
"""


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


async def raw_lines(db: Connection, asking: Asking, most: int) -> RawLines | None:
    """The readings of each series; None when a device has more than `most` of one metric."""
    pairs = sorted({(one.device.id, one.metric_id) for one in asking.series})
    values = {
        "devices": [device for device, _ in pairs],
        "metrics": [metric for _, metric in pairs],
        "start": asking.start,
        "end": asking.end,
        "most": most + 1,
    }
    found = {}
    for row in await (await db.execute(_RAW, values)).fetchall():
        if row["seconds"] is None:
            continue
        if len(row["seconds"]) > most:
            return None
        found[row["device_id"], row["metric_id"]] = {
            name: np.array(row[name]) for name in ("channels", "seconds", "values", "qualities")
        }
    columns, thinned = [], False
    for one in asking.series:
        arrays = found.get((one.device.id, one.metric_id))
        line: Columns = {"time": [], "value": [], "quality": []}
        if arrays is not None:
            own = arrays["channels"] == one.channel
            thinned |= int(own.sum()) > asking.points
            seconds, read, flags = (arrays[name][own] for name in ("seconds", "values", "qualities"))
            line = _line(seconds, read, flags, asking.points)
        columns.append({**_head(one), **line})
    return RawLines(columns, thinned)


async def rollup_lines(
    db: Connection, asking: Asking, resolution: Resolution, now: datetime
) -> list[Columns]:
    """Every bucket of the span for each series, nulls where there are no readings."""
    span = span_of(resolution, asking.start, asking.end, now)
    found = await read_buckets(db, resolution, asking.series, span)
    times = list(span.times())
    lines = []
    for one in asking.series:
        rows = [found.get((time, *one.key)) for time in times]
        line = {"time": times, "value": [row and row["mean"] for row in rows]}
        line |= {name: [row and row[name] for row in rows] for name in ("min", "max")}
        lines.append({**_head(one), **line, "count": [row["count"] if row else 0 for row in rows]})
    return lines


def _line(
    seconds: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    flags: npt.NDArray[np.int64],
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
    all_values = [None if flags[i] == Quality.MISSING else float(values[i]) for i in shown]
    all_values += [None] * len(middles)
    all_flags = [*flags[shown].tolist(), *[None] * len(middles)]
    return {
        "time": [datetime.fromtimestamp(all_seconds[i], UTC) for i in order],
        "value": [all_values[i] for i in order],
        "quality": [all_flags[i] for i in order],
    }


def _head(series: Series) -> Columns:
    return {
        "dev_eui": series.device.dev_eui,
        "station": series.device.station,
        "metric": series.metric.key,
        "channel": series.channel,
        "unit": series.metric.unit,
    }
