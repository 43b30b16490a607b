"""Readings: the time series, and the newest value of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, LiteralString

from fastapi import APIRouter, Depends, Query, Response
from msgspec import structs
from psycopg.rows import TupleRow, tuple_row
from psycopg.sql import SQL
from pydantic import BaseModel

from telemetry.model import Quality

from ..answers import page_answer
from ..auth import require, require_briefly
from ..fields import DevEui, From, To, check_span
from ..latest import LatestSeries, Newest
from ..names import metric_ids, metric_names
from ..paging import Keyset, Page, PageRequest, Paging, moment, number, paging, text, whole
from ..series import Stay, devices_of
from ..services import Db, ReadDb
from ..where import Where
from . import BASE

router = APIRouter(prefix=BASE, tags=["readings"])

# A request looks into the index once per device and metric; this keeps it within a second.
MOST_SERIES = 10_000
MOST_LATEST = 100_000
# So many devices show which series are not asked for, so that the database leaves them out of the others.
_FIRST_DEVICES = 200

Order = Literal["asc", "desc"]

# With the value: a map may give one series two of them at a time.
_KEY = {
    "time": moment, "device_id": whole, "metric_id": whole, "channel": whole, "uplink_id": whole,
    "value": number,
}  # fmt: skip
_KEYSETS: dict[Order, Keyset] = {
    "asc": Keyset("readings-asc", **_KEY),
    "desc": Keyset("readings-desc", **_KEY),
}
_LATEST = Keyset("latest", dev_eui=text, metric=text, channel=whole)

_WITHIN: LiteralString = "time >= coalesce(d.since, '-infinity') AND time < coalesce(d.until, 'infinity')"
_EVER = Stay(None, None, None)

# Each series is read in its index's own order and no further than the page; only their heads are merged.
_LIST = SQL("""
    SELECT r.*
    FROM unnest(%(devices)s::int[], %(since)s::timestamptz[], %(until)s::timestamptz[])
        AS d (id, since, until)
    CROSS JOIN unnest(%(metrics)s::int[]) AS m (id)
    CROSS JOIN LATERAL (
        SELECT time, value, raw, uplink_id, device_id, metric_id, channel, quality
        FROM reading
        WHERE device_id = d.id AND metric_id = m.id AND {where}
        ORDER BY {order} LIMIT %(fetch)s
    ) r
    ORDER BY {order} LIMIT %(fetch)s
""")
_ORDERS = {
    "asc": SQL("time, device_id, metric_id, channel, uplink_id, value"),
    "desc": SQL("time DESC, device_id DESC, metric_id DESC, channel DESC, uplink_id DESC, value DESC"),
}
_REACHED: LiteralString = (
    "(%(after_time)s, %(after_device_id)s, %(after_metric_id)s, %(after_channel)s, %(after_uplink_id)s,"
    " %(after_value)s::float8)"
)
_AFTER: dict[Order, LiteralString] = {
    "asc": "time >= %(after_time)s AND (time, device_id, metric_id, channel, uplink_id, value) > " + _REACHED,
    "desc": "time <= %(after_time)s AND (time, device_id, metric_id, channel, uplink_id, value) < "
    + _REACHED,
}
_DEVICES_LATEST = SQL("""
    SELECT d.dev_eui, s.code AS station, (l.readings - %(unasked)s::text[])::text AS readings
    FROM device d JOIN latest l ON l.device_id = d.id LEFT JOIN station s ON s.id = d.station_id
    WHERE {where} ORDER BY d.dev_eui LIMIT %(devices)s
""")


class ReadingView(BaseModel):
    """One value of one series, in its metric's `unit` (UCUM); `quality` after QARTOD, `uplink` its frame.

    `raw` is what the device reported, where a calibration corrected it.
    """

    time: datetime
    dev_eui: str
    station: str | None
    metric: str
    channel: int
    value: float
    raw: float | None
    quality: int
    unit: str
    uplink: str


class LatestView(BaseModel):
    """The newest value of one series."""

    dev_eui: str
    station: str | None
    metric: str
    channel: int
    time: datetime
    value: float
    quality: int
    unit: str


@router.get("/readings", dependencies=[Depends(require_briefly("viewer"))])
async def list_readings(
    page: Paging,
    db: ReadDb,
    start: From = None,
    end: To = None,
    device: Annotated[list[DevEui], Query(max_length=1000)] = [],  # noqa: B006
    station: str | None = None,
    metric: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006
    channel: Annotated[int | None, Query(ge=0, le=32767)] = None,
    quality: Annotated[list[Quality], Query(max_length=5)] = [],  # noqa: B006
    order: Order = "asc",
) -> Page[ReadingView]:
    """Readings by time. `device`, `metric` and `quality` may be repeated.

    A reading's `station` is where its device was at that time, and `station` asks for these.
    """
    check_span(start, end)
    names = await metric_names(db)
    metrics = metric_ids(names, metric)
    after = _KEYSETS[order].after(page.cursor)
    most = MOST_SERIES // max(1, len(metrics))
    devices = {one.id: one for one in await devices_of(db, device, station, start, end, most)}
    spans = [(d.id, s.since, s.until) for d in devices.values() for s in ([_EVER] if d.whole else d.stays)]
    where = Where(
        devices=[id_ for id_, _, _ in spans],
        since=[since for _, since, _ in spans],
        until=[until for _, _, until in spans],
        metrics=metrics,
        fetch=page.fetch,
    )
    where.add(_WITHIN, station=station)
    where.add("time >= %(start)s", start=start)
    where.add("time < %(end)s", end=end)
    where.add("channel = %(channel)s", channel=channel)
    where.add("quality = ANY(%(quality)s)", quality=[int(flag) for flag in quality] or None)
    where.after(_AFTER[order], after)
    cursor = await db.execute(_LIST.format(where=where.sql, order=_ORDERS[order]), where.values)
    rows, following = _KEYSETS[order].cut(await cursor.fetchall(), page)
    items = []
    for row in rows:
        name = names[row["metric_id"]]
        of = devices[row["device_id"]]
        items.append(
            ReadingView(
                **row,
                dev_eui=of.dev_eui,
                station=of.station_at(row["time"]),
                metric=name.key,
                unit=name.unit,
                uplink=str(row["uplink_id"]),
            )
        )
    return Page(items=items, next=following)


@router.get("/latest", dependencies=[Depends(require("viewer"))], response_model=Page[LatestView])
async def list_latest(
    page: Annotated[PageRequest, Depends(paging(MOST_LATEST))],
    db: Db,
    station: str | None = None,
    metric: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006
) -> Response:
    """The newest reading of each series of devices that are not retired. `metric` may be repeated.

    `station` is the present one. It reads one row a device, however long their history; `limit` may be
    100,000.
    """
    names = await metric_names(db)
    wanted = {id_: names[id_] for id_ in metric_ids(names, metric)}
    after = _LATEST.after(page.cursor)
    newest = Newest(LatestSeries, wanted)
    found: list[LatestSeries] = []
    since = after["dev_eui"] if after else ""
    inclusive = after is not None
    fetch = min(_FIRST_DEVICES, page.fetch) if metric else page.fetch
    while len(found) < page.fetch:
        where = Where(devices=fetch, unasked=newest.unasked)
        where.add("d.status <> 'retired'")
        where.add("s.code = %(station)s", station=station)
        where.add("d.dev_eui >= %(since)s" if inclusive else "d.dev_eui > %(since)s", since=since)
        cursor = db.cursor(row_factory=tuple_row)
        await cursor.execute(_DEVICES_LATEST.format(where=where.sql), where.values)
        rows = await cursor.fetchall()
        found += await asyncio.to_thread(_series_of, rows, newest)
        if after is not None:
            key = (after["dev_eui"], after["metric"], after["channel"])
            found = [one for one in found if (one.dev_eui, one.metric, one.channel) > key]
        if len(rows) < fetch:
            break
        fetch = page.fetch
        since, inclusive = rows[-1][0], False
    last = found[page.limit - 1] if len(found) > page.limit else None
    following = _LATEST.cursor(structs.asdict(last)) if last else None
    return await asyncio.to_thread(page_answer, found[: page.limit], following)


def _series_of(rows: Sequence[TupleRow], newest: Newest[LatestSeries]) -> list[LatestSeries]:
    return [one for eui, station, readings in rows for one in newest.of(readings, eui, station)]
