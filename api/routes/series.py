"""Series as a chart wants them: whatever the span, about as many points as it can show."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from ..answers import json_answer
from ..auth import require_briefly
from ..buckets import WIDTHS, Resolution
from ..chart import RAW_LONGEST, RAW_PER_POINT, Asking, raw_lines, rollup_lines
from ..fields import DevEui, From, To, check_span
from ..problems import Problem, invalid
from ..series import Asked, series_of
from ..services import ReadDb, Svc
from . import BASE

router = APIRouter(prefix=BASE, tags=["readings"])

MOST_SERIES = 50
MOST_RAW = 100_000  # of one device and metric, when raw is insisted on
MOST_READINGS = 500_000  # of all series
MOST_BUCKETS = 20_000
MOST_CELLS = 300_000  # buckets of all series
USUAL_SPAN = timedelta(days=1)

Wanted = Literal["auto", "raw", "1h", "1d"]


class LineView(BaseModel):
    """One series in columns of one length. A line must break where `value` is null.

    Raw: `value` as it was read, with its QARTOD `quality`, null where the line breaks. Rollups: `time` is the
    bucket's beginning, `value` its mean, `min` and `max` its band, `count` its readings, 0 in a gap.
    """

    dev_eui: str
    station: str | None
    metric: str
    channel: int
    unit: str
    time: list[datetime]
    value: list[float | None]
    quality: list[int | None] | None = None
    min: list[float | None] | None = None
    max: list[float | None] | None = None
    count: list[int] | None = None


class SeriesView(BaseModel):
    """What was shown, and how: `resolution` raw, 1h or 1d; `thinned` when some raw readings were left out."""

    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    resolution: Literal["raw", "1h", "1d"]
    thinned: bool
    series: list[LineView]


@router.get("/series", dependencies=[Depends(require_briefly("viewer"))], response_model=SeriesView)
async def chart_series(
    db: ReadDb,
    services: Svc,
    start: From = None,
    end: To = None,
    device: Annotated[list[DevEui], Query(max_length=100)] = [],  # noqa: B006
    station: str | None = None,
    metric: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006
    channel: Annotated[int | None, Query(ge=0, le=32767)] = None,
    points: Annotated[int, Query(ge=10, le=5000, description="Wanted of each series, about.")] = 1000,
    resolution: Wanted = "auto",
) -> Response:
    """Columns for a chart: raw readings, thinned where they are many, else hours or days.

    Raw: up to 100 days, and up to ten times `points` readings of a device and metric, 500,000 of all; beyond,
    hours while there are no more of them than `points`, else days. Without `from`: the day before `to`.
    `station` asks for what was measured there while a device belonged to it; rollups go by their beginning.
    Without it, a series has the present station of its device.
    """
    now = services.clock.now()
    end = end or now
    start = start or end - USUAL_SPAN
    check_span(start, end)
    asked = Asked(device, station, metric, channel)
    asking = Asking(await series_of(db, asked, start, end, MOST_SERIES), start, end, points)
    chosen: Literal["raw", "1h", "1d"] = _by_span(start, end, points) if resolution == "auto" else resolution
    if chosen == "raw":
        most = RAW_PER_POINT * points if resolution == "auto" else MOST_RAW
        lines = await raw_lines(db, asking, most, MOST_READINGS)
        if lines is not None:
            return await _answer(start, end, "raw", lines.thinned, lines.columns)
        if resolution == "raw":
            raise Problem(
                422,
                "too-many-readings",
                f"That is more than {MOST_RAW} readings of one series, or {MOST_READINGS} of all; shorten "
                "the span, or leave `resolution` out and get hours or days.",
            )
        chosen = _rollup(start, end, points)
    _refuse_too_many(start, end, chosen, len(asking.series))
    return await _answer(start, end, chosen, False, await rollup_lines(db, asking, chosen, now))


def _by_span(start: datetime, end: datetime, points: int) -> Literal["raw", "1h", "1d"]:
    return "raw" if end - start <= RAW_LONGEST else _rollup(start, end, points)


def _rollup(start: datetime, end: datetime, points: int) -> Resolution:
    return "1h" if end - start <= points * timedelta(hours=1) else "1d"


def _refuse_too_many(start: datetime, end: datetime, resolution: Resolution, series: int) -> None:
    buckets = (end - start) / WIDTHS[resolution]
    if buckets > MOST_BUCKETS:
        raise invalid("from", f"the span has more than {MOST_BUCKETS} buckets of {resolution}; shorten it")
    if buckets * series > MOST_CELLS:
        raise invalid(
            "from",
            f"the span has more than {MOST_CELLS} buckets of {resolution} in {series} series; shorten it, or "
            "name fewer devices or metrics",
        )


async def _answer(
    start: datetime, end: datetime, resolution: str, thinned: bool, lines: list[dict[str, object]]
) -> Response:
    return await asyncio.to_thread(
        json_answer,
        {"from": start, "to": end, "resolution": resolution, "thinned": thinned, "series": lines},
    )
