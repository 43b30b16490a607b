"""What increments are worked out from, and where they go: SQL, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.rows import class_row, tuple_row

from telemetry.clock import from_micros, micros
from telemetry.model import Quality
from telemetry.store import binary
from telemetry.store.calibrations import READ_CALIBRATIONS, CalibrationRow
from telemetry.store.edition import UNPACK_ALL
from telemetry.store.lanes import CORRECTED_DTYPE, Readings
from telemetry.store.writer import reading_copies

Connection = psycopg.AsyncConnection[Any]
Counts = npt.NDArray[np.void]
"""A structured array of `COUNT_DTYPE`, shape (n,), by span and time; of one time the largest comes last."""

COUNT_DTYPE = np.dtype([("span", "<i8"), ("time", "<i8"), ("value", "<f8"), ("uplink_id", "<i8")])
_SOUND = [int(flag) for flag in Quality if flag not in (Quality.FAIL, Quality.MISSING)]


class Span(NamedTuple):
    """Counts of one counter that changed, from `first` to `last` (µs since 1970), both included."""

    device_id: int
    metric_id: int
    channel: int
    first: int
    last: int


_SPANS = """
    span AS MATERIALIZED (
        SELECT n, device_id, metric_id, channel,
               timestamptz 'epoch' + first * interval '1 microsecond' AS first,
               timestamptz 'epoch' + last * interval '1 microsecond' AS last
        FROM unnest(%(device_id)s::int4[], %(metric_id)s::int2[], %(channel)s::int2[], %(first)s::int8[],
                    %(last)s::int8[]) WITH ORDINALITY AS s (device_id, metric_id, channel, first, last, n)
    )
"""
# Each look-up is an index scan of its own: joined, the planner may prefer to read the whole table.
_NEIGHBOURS = f"""
    WITH {_SPANS}
    SELECT n, (extract(epoch FROM before.time) * 1000000)::int8,
           (extract(epoch FROM behind.time) * 1000000)::int8
    FROM span s
    LEFT JOIN LATERAL (
        SELECT time FROM reading r
        WHERE r.device_id = s.device_id AND r.metric_id = s.metric_id AND r.channel = s.channel
          AND r.time < s.first AND quality = ANY(%(sound)s) ORDER BY time DESC LIMIT 1) before ON true
    LEFT JOIN LATERAL (
        SELECT time FROM reading r
        WHERE r.device_id = s.device_id AND r.metric_id = s.metric_id AND r.channel = s.channel
          AND r.time > s.last AND quality = ANY(%(sound)s) ORDER BY time LIMIT 1) behind ON true
    ORDER BY n
"""  # noqa: S608
_COUNTS = f"""
    WITH {_SPANS}
    SELECT n - 1, (extract(epoch FROM time) * 1000000)::int8, value, uplink_id FROM span s
    CROSS JOIN LATERAL (
        SELECT time, value, uplink_id FROM reading r
        WHERE r.device_id = s.device_id AND r.metric_id = s.metric_id AND r.channel = s.channel
          AND r.time BETWEEN s.first AND s.last AND quality = ANY(%(sound)s) OFFSET 0) r
    ORDER BY n, time, value, uplink_id
"""  # noqa: S608
_HELD = f"""
    WITH {_SPANS}
    SELECT (extract(epoch FROM time) * 1000000)::int8, value, uplink_id, s.device_id, s.metric_id, s.channel,
           base_flag(quality, tests), coalesce(raw, 'NaN') FROM span s
    CROSS JOIN LATERAL (
        SELECT time, value, uplink_id, quality, tests, raw FROM reading r
        WHERE r.device_id = s.device_id AND r.metric_id = s.metric_id AND r.channel = s.channel
          AND r.time > s.first AND r.time <= s.last OFFSET 0) r
"""  # noqa: S608
_REMOVE = """
    DELETE FROM reading r
    USING unnest(%(time)s::int8[], %(device_id)s::int4[], %(metric_id)s::int2[], %(channel)s::int2[],
                 %(uplink_id)s::int8[], %(value)s::float8[])
        AS gone (us, device_id, metric_id, channel, uplink_id, value)
    -- said twice, as the columnstore unpacks whatever constants do not exclude
    WHERE r.device_id = ANY(%(devices)s::int4[]) AND r.metric_id = ANY(%(metrics)s::int2[])
      AND r.device_id = gone.device_id AND r.metric_id = gone.metric_id AND r.channel = gone.channel
      AND r.time = timestamptz 'epoch' + gone.us * interval '1 microsecond'
      AND r.time BETWEEN %(first)s AND %(last)s
      AND r.uplink_id = gone.uplink_id AND r.value = gone.value
"""
_WINDOW = """
    SELECT time FROM reading
    WHERE device_id = %s AND metric_id = %s AND channel = %s AND time > %s
    ORDER BY time OFFSET %s LIMIT 1
"""


async def with_neighbours(connection: Connection, spans: Sequence[Span]) -> list[Span]:
    """The spans from the count before to the count behind each; those that overlap then become one.

    Where there is none before, a span begins a moment earlier, as no increment can end at its first count.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_NEIGHBOURS, {**_asked(spans), "sound": _SOUND})
        reach = await cursor.fetchall()
    wide = sorted(
        span._replace(
            first=span.first - 1 if before is None else before, last=span.last if behind is None else behind
        )
        for span, (_, before, behind) in zip(spans, reach, strict=True)
    )
    merged: list[Span] = []
    for span in wide:
        last = merged[-1] if merged else None
        if last is not None and last[:3] == span[:3] and span.first < last.last:
            merged[-1] = last._replace(last=max(last.last, span.last))
        else:
            merged.append(span)
    return merged


async def read_counts(connection: Connection, spans: Sequence[Span]) -> Counts:
    """The sound counts of these spans; `span` is the index of theirs."""
    async with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        await cursor.execute(_COUNTS, {**_asked(spans), "sound": _SOUND})
        return np.array(await cursor.fetchall(), COUNT_DTYPE)


async def read_held(connection: Connection, spans: Sequence[Span]) -> Readings:
    """The readings of these series, after `first` and up to `last`, with the flags they came with."""
    async with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        await cursor.execute(_HELD, _asked(spans))
        return np.array(await cursor.fetchall(), CORRECTED_DTYPE)


async def read_device_calibrations(connection: Connection, device_ids: Sequence[int]) -> list[CalibrationRow]:
    async with connection.cursor(row_factory=class_row(CalibrationRow)) as cursor:
        await cursor.execute(READ_CALIBRATIONS + "WHERE device_id = ANY(%s)", (list(device_ids),))
        return await cursor.fetchall()


async def window_end(
    connection: Connection, series: tuple[int, int, int], after: datetime, most: int
) -> int | None:
    """The time (µs since 1970) of the count that so many follow `after` with; None when there are less."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_WINDOW, (*series, after, most - 1))
        row = await cursor.fetchone()
    return None if row is None else micros(row[0])


async def replace(connection: Connection, gone: Readings, fresh: Readings) -> None:
    """Take readings out and put others in."""
    if len(gone):
        names = ("time", "device_id", "metric_id", "channel", "uplink_id", "value")
        columns: dict[str, Any] = {name: gone[name].tolist() for name in names}
        first, last = (from_micros(int(found(gone["time"]))) for found in (np.min, np.max))
        alike = {"devices": list(set(columns["device_id"])), "metrics": list(set(columns["metric_id"]))}
        await connection.execute(UNPACK_ALL)
        await connection.execute(_REMOVE, {**columns, **alike, "first": first, "last": last})
    for statement, rows in reading_copies(fresh):
        async with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for part in (binary.HEADER, rows, binary.TRAILER):
                await copy.write(part)


def _asked(spans: Sequence[Span]) -> dict[str, list[int]]:
    columns = zip(*spans, strict=True) if spans else ((),) * len(Span._fields)
    return {name: list(column) for name, column in zip(Span._fields, columns, strict=True)}
