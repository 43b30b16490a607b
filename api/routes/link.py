"""How good a device's radio link is: by the hour, and in sum. The rules: docs/reference/link.md."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import APIRouter, Depends
from psycopg.sql import SQL
from pydantic import BaseModel, Field

from ..auth import require
from ..database import Connection
from ..fields import DevEui, From, To, check_span
from ..paging import Keyset, Page, Paging, Row, moment
from ..problems import not_found
from ..services import Db, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/devices", tags=["devices"])

_KEYSET = Keyset("link", time=moment)
_DAY, _WEEK, _MEMORY = timedelta(days=1), timedelta(days=7), timedelta(days=31)
_LIST = SQL("""
    SELECT time, received, lost_on_air, lost_by_us, resets, rejoins, rssi, snr, sf_min, sf_max, gateways,
           battery, margin
    FROM link WHERE {where} ORDER BY time DESC LIMIT %(fetch)s
""")
_PERIOD = """
    SELECT coalesce(sum(received), 0)::bigint AS received,
           coalesce(sum(lost_on_air), 0)::bigint AS lost_on_air,
           coalesce(sum(lost_by_us), 0)::bigint AS lost_by_us,
           coalesce(sum(resets), 0)::bigint AS resets, coalesce(sum(rejoins), 0)::bigint AS rejoins,
           max(rssi) AS rssi, max(snr) AS snr,
           min(sf_min) AS sf_min, max(sf_max) AS sf_max,
           ARRAY(SELECT DISTINCT unnest(gateways) FROM link
                 WHERE device_id = %(device)s AND time > %(start)s ORDER BY 1) AS gateways
    FROM link WHERE device_id = %(device)s AND time > %(start)s
"""
_NEWEST = """
    SELECT (SELECT seen_at FROM latest WHERE device_id = %(device)s) AS seen_at,
           (SELECT spreading_factor FROM uplink WHERE device_id = %(device)s AND time > %(start)s
            ORDER BY time DESC LIMIT 1) AS spreading_factor,
           (SELECT battery FROM link WHERE device_id = %(device)s AND time > %(start)s
              AND battery IS NOT NULL ORDER BY time DESC LIMIT 1) AS battery,
           (SELECT margin FROM link WHERE device_id = %(device)s AND time > %(start)s
              AND margin IS NOT NULL ORDER BY time DESC LIMIT 1) AS margin
"""
_RATIO = Field(description="received / (received + lost_on_air); null when no frame was expected.")


class _Counted(BaseModel):
    received: int
    lost_on_air: int
    lost_by_us: int
    resets: int
    rejoins: int
    delivery_ratio: float | None = _RATIO
    rssi: float | None
    snr: float | None
    sf_min: int | None
    sf_max: int | None
    gateways: list[str]


class LinkHour(_Counted):
    """One hour from `time` on. rssi (dBm) and snr (dB) are the best of it, battery is in %, margin in dB."""

    time: datetime
    battery: float | None
    margin: int | None


class LinkPeriod(_Counted):
    """The hours that began after `since`, up to now."""

    since: datetime


class LinkSummary(BaseModel):
    """The last day and week; `spreading_factor`, `battery` and `margin` are the newest of 31 days."""

    dev_eui: str
    seen_at: datetime | None
    spreading_factor: int | None
    battery: float | None
    margin: int | None
    day: LinkPeriod
    week: LinkPeriod


@router.get("/{eui}/link", dependencies=[Depends(require("viewer"))])
async def list_link_hours(
    eui: DevEui, page: Paging, db: Db, start: From = None, end: To = None
) -> Page[LinkHour]:
    """The device's link by the hour, newest first; hours without a frame, heard or missed, are left out."""
    check_span(start, end)
    where = Where(fetch=page.fetch)
    where.add("device_id = %(device)s", device=await _device_id(db, eui))
    where.add("time >= %(start)s", start=start)
    where.add("time < %(end)s", end=end)
    where.after("time < %(after_time)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[LinkHour.model_validate(_with_ratio(row)) for row in shown], next=following)


@router.get("/{eui}/link/summary", dependencies=[Depends(require("viewer"))])
async def get_link_summary(eui: DevEui, db: Db, services: Svc) -> LinkSummary:
    """What there is to know of the device's link at a glance."""
    device, now = await _device_id(db, eui), services.clock.now()
    newest = await _row(db, _NEWEST, {"device": device, "start": now - _MEMORY})
    periods = [
        LinkPeriod.model_validate(
            {
                **_with_ratio(await _row(db, _PERIOD, {"device": device, "start": now - span})),
                "since": now - span,
            }
        )
        for span in (_DAY, _WEEK)
    ]
    return LinkSummary.model_validate({**newest, "dev_eui": eui, "day": periods[0], "week": periods[1]})


async def _device_id(db: Connection, eui: str) -> int:
    row = await (await db.execute("SELECT id FROM device WHERE dev_eui = %s", (eui,))).fetchone()
    if row is None:
        raise not_found("device", eui)
    return int(row["id"])


async def _row(db: Connection, query: str, values: Row) -> Row:
    row = await (await db.execute(query, values)).fetchone()
    assert row is not None
    return row


def _with_ratio(row: Row) -> Row:
    expected = row["received"] + row["lost_on_air"]
    return {**row, "delivery_ratio": row["received"] / expected if expected else None}
