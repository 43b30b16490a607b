"""Buckets of the rollups: hours, and days as they begin in Vietnam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from psycopg.sql import SQL, Identifier

from .database import Connection
from .paging import Row
from .series import Series

Resolution = Literal["1h", "1d"]

# 00:00 in Vietnam, which is at UTC+7 and has no summer time.
_A_MIDNIGHT = datetime(2000, 1, 1, 17, tzinfo=UTC)
WIDTHS: dict[Resolution, timedelta] = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}

_READ = SQL("""
    SELECT time, device_id, metric_id, channel, count, good, mean, min, max, last, sum, coverage
    FROM {between}(%(devices)s::int[], %(metrics)s::smallint[], %(start)s, %(end)s)
""")
_EMPTY: Row = {"count": 0, "good": 0, **dict.fromkeys(("mean", "min", "max", "last", "sum"))}


Buckets = dict[tuple[datetime, int, int, int], Row]
"""What the store has, by time, device id, metric id and channel."""


class Span(NamedTuple):
    """Buckets that follow each other, from the one that begins at `first` until before `end`."""

    first: datetime
    end: datetime
    width: timedelta

    @property
    def length(self) -> int:
        return max(0, -(-(self.end - self.first) // self.width))

    def times(self) -> Iterator[datetime]:
        """When each bucket begins."""
        return (self.first + number * self.width for number in range(self.length))


def span_of(resolution: Resolution, start: datetime, end: datetime, now: datetime) -> Span:
    """The buckets that hold any moment from `start` until before `end`; those still to come are left out."""
    width = WIDTHS[resolution]
    first = _A_MIDNIGHT + (start - _A_MIDNIGHT) // width * width
    return Span(first, max(first, min(end, now)), width)


async def read_buckets(
    db: Connection, resolution: Resolution, series: Sequence[Series], span: Span
) -> Buckets:
    """What the store has of these buckets, by time and the key of the series."""
    values: dict[str, Any] = {
        "devices": sorted({one.device.id for one in series}),
        "metrics": sorted({one.metric_id for one in series}),
        "start": span.first,
        "end": span.end,
    }
    query = _READ.format(between=Identifier(f"reading_{resolution}_between"))
    rows = await (await db.execute(query, values)).fetchall()
    return {
        (row.pop("time"), row.pop("device_id"), row.pop("metric_id"), row.pop("channel")): row for row in rows
    }


def bucket_of(found: Buckets, time: datetime, series: Series) -> Row:
    """A bucket's figures. One without readings has nulls, and a coverage of 0 where coverage is known."""
    row = found.get((time, *series.key)) if series.device.meant_at(time) else None
    return row if row is not None else {**_EMPTY, "coverage": 0.0 if series.device.interval else None}
