"""Rollups: what the readings of an hour or a day come to, with every bucket of the span."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from ..answers import page_answer
from ..auth import require_briefly
from ..buckets import Buckets, Resolution, Span, bucket_of, read_buckets, span_of
from ..fields import DevEui, From, To, check_span
from ..paging import Keyset, Page, PageRequest, Row, moment, paging, whole
from ..series import Asked, Series, series_of
from ..services import ReadDb, Svc
from . import BASE

router = APIRouter(prefix=BASE, tags=["readings"])

MOST_SERIES = 10_000
MOST_BUCKETS = 10_000
# What is shown when `from` is left out.
USUAL: dict[Resolution, timedelta] = {"1h": timedelta(days=31), "1d": timedelta(days=366)}

_KEY = {"time": moment, "device_id": whole, "metric_id": whole, "channel": whole}


class RollupView(BaseModel):
    """One bucket of one series; `time` is its beginning. Values are in `unit` (UCUM).

    mean, min, max, last and sum are over readings whose quality is neither 4 nor 9, null where there is none.
    """

    time: datetime
    dev_eui: str
    station: str | None
    metric: str
    channel: int
    unit: str
    count: int = Field(description="All readings, whatever their quality; 0 in a gap.")
    good: int = Field(description="Readings of quality 1.")
    mean: float | None
    min: float | None
    max: float | None
    last: float | None
    sum: float | None = Field(description="Only of metrics that tell an amount per interval.")
    coverage: float | None = Field(
        description="Share of the readings that the device type's interval promises, at most 1; null where "
        "no interval is known. Of the present bucket it grows until the bucket ends."
    )
    complete: bool = Field(description="Whether the bucket has ended. Late data may still change it.")


@router.get("/rollups", dependencies=[Depends(require_briefly("viewer"))], response_model=Page[RollupView])
async def list_rollups(
    page: Annotated[PageRequest, Depends(paging(MOST_BUCKETS, 1000))],
    db: ReadDb,
    services: Svc,
    resolution: Resolution = "1h",
    start: From = None,
    end: To = None,
    device: Annotated[list[DevEui], Query(max_length=1000)] = [],  # noqa: B006
    station: str | None = None,
    metric: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006
    channel: Annotated[int | None, Query(ge=0, le=32767)] = None,
) -> Response:
    """Hours or days (00:00 in Vietnam, 17:00 UTC) by time. A bucket without readings is listed, with nulls.

    The bucket that `from` lies in is listed whole; buckets still to come are not. Without `from`: the last 31
    days of hours, or 366 days. `device` and `metric` may be repeated.
    `station` is where the device was when the bucket began; of another time, the buckets are gaps.
    """
    now = services.clock.now()
    end = end or now
    start = start or end - USUAL[resolution]
    check_span(start, end)
    keyset = Keyset(f"rollups-{resolution}", **_KEY)
    after = keyset.after(page.cursor)
    span = span_of(resolution, start, end, now)
    series = await series_of(db, Asked(device, station, metric, channel), start, end, MOST_SERIES)
    if after is not None and after["time"] > span.first:
        span = span._replace(first=after["time"])
    if not series:
        return page_answer([], None)
    # Every bucket has a row of every series, so that many make a page whatever is stored.
    window = min(span.end, span.first + (page.fetch // len(series) + 2) * span.width)
    span = Span(span.first, window, span.width)
    found = await read_buckets(db, resolution, series, span)
    return await asyncio.to_thread(_answer, found, series, span, now, page, keyset)


def _answer(
    found: Buckets, series: Sequence[Series], span: Span, now: datetime, page: PageRequest, keyset: Keyset
) -> Response:
    after = keyset.after(page.cursor)
    rows: list[Row] = []
    for time in span.times():
        for one in series:
            if after is not None and (time, *one.key) <= tuple(after.values()):
                continue
            rows.append(
                {
                    "time": time,
                    "dev_eui": one.device.dev_eui,
                    "station": one.device.station_at(time),
                    "metric": one.metric.key,
                    "channel": one.channel,
                    "unit": one.metric.unit,
                    **bucket_of(found, time, one),
                    "complete": time + span.width <= now,
                    "device_id": one.device.id,
                    "metric_id": one.metric_id,
                }
            )
    shown, following = keyset.cut(rows, page)
    for row in shown:
        del row["device_id"], row["metric_id"]
    return page_answer(shown, following)
