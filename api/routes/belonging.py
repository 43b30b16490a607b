"""Who belonged to whom when: the places of a device; the unit, owner and facility of a station."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from psycopg.sql import SQL
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..audit import audit
from ..auth import Engineer, require
from ..database import Connection
from ..fields import Body, DevEui, Moment, StationCode
from ..names import facility_id, owner_id, station_id, unit_id
from ..paging import Keyset, Page, PageRequest, Paging, moment, text
from ..problems import invalid, not_found
from ..services import Db, Services, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=BASE, tags=["belonging"])

What = Literal["unit", "owner", "facility"]
# A period without a beginning sorts first; no reading is that old.
_PLACEMENTS = Keyset("placements", since=moment)
_HISTORY = Keyset("station-history", what=text, since=moment)
_LIST_PLACEMENTS = SQL("""
    SELECT s.code AS station, valid_from, valid_to, coalesce(valid_from, '0001-01-02+00') AS since
    FROM device_station_period p JOIN station s ON s.id = p.station_id
    WHERE {where} ORDER BY since LIMIT %(fetch)s
""")
_LIST_HISTORY = SQL("""
    SELECT *, coalesce(valid_from, '0001-01-02+00') AS since FROM (
        SELECT 'unit' AS what, station_id, unit_reference(u) AS code, u.name, p.valid_from, p.valid_to
        FROM station_unit_period p JOIN admin_unit u ON u.id = p.unit_id
        UNION ALL
        SELECT 'owner', station_id, o.code, o.name, p.valid_from, p.valid_to
        FROM station_owner_period p JOIN owner o ON o.id = p.owner_id
        UNION ALL
        SELECT 'facility', station_id, f.code, f.name, p.valid_from, p.valid_to
        FROM station_facility_period p JOIN facility f ON f.id = p.facility_id) told
    WHERE {where} ORDER BY what, since LIMIT %(fetch)s
""")
_SET = "SELECT set_belonging(%(belonging)s, %(subject)s, %(object)s, %(start)s, %(end)s)"
_RESOLVE = {"unit": unit_id, "owner": owner_id, "facility": facility_id}


class PeriodBody(Body):
    """From `from` (null: ever) until before `to` (null: until further notice); neither lies ahead.

    `from` has to be said: forgotten, it would rewrite all that was told before.
    """

    model_config = ConfigDict(populate_by_name=True)

    start: Moment | None = Field(alias="from")
    end: Moment | None = Field(None, alias="to")


class PlacementBody(PeriodBody):
    """Where a device stood in a period; null: at no station."""

    station: StationCode | None


class BelongingBody(PeriodBody):
    """To what a station belonged in a period; null: to nothing that we know."""

    what: What
    code: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None


class Period(BaseModel):
    """A period; null is an end that is open."""

    model_config = ConfigDict(populate_by_name=True)

    start: datetime | None = Field(validation_alias="valid_from", serialization_alias="from")
    end: datetime | None = Field(validation_alias="valid_to", serialization_alias="to")


class Placement(Period):
    """A device stood at a station: readings of that time are that station's."""

    station: str


class Belonging(Period):
    """A station belonged to a unit, an owner or a facility."""

    what: What
    code: str
    name: str


@router.get("/devices/{eui}/placements", dependencies=[Depends(require("viewer"))])
async def list_placements(eui: DevEui, page: Paging, db: Db) -> Page[Placement]:
    """Where the device stood, oldest first."""
    return await _placements(db, await _device(db, eui), page)


@router.post("/devices/{eui}/placements")
async def put_placement(
    eui: DevEui, body: PlacementBody, principal: Engineer, db: Db, services: Svc
) -> Page[Placement]:
    """Say where the device stood in a period; what was told of that time before gives way."""
    _check(body, services)
    async with db.transaction():
        device = await _device(db, eui)
        station = await station_id(db, body.station)
        await _set(db, "device_station", device, station, body)
        await audit(db, principal, "device.place", eui, body.model_dump(mode="json", by_alias=True))
    return await _placements(db, device, PageRequest(1000, None))


@router.get("/stations/{code}/history", dependencies=[Depends(require("viewer"))])
async def list_history(code: StationCode, page: Paging, db: Db, what: What | None = None) -> Page[Belonging]:
    """Which unit, owner and facility the station belonged to, each oldest first."""
    return await _history(db, await _station(db, code), page, what)


@router.post("/stations/{code}/history")
async def put_history(
    code: StationCode, body: BelongingBody, principal: Engineer, db: Db, services: Svc
) -> Page[Belonging]:
    """Say to what the station belonged in a period; what was told of that time before gives way."""
    _check(body, services)
    async with db.transaction():
        station = await _station(db, code)
        await _set(db, f"station_{body.what}", station, await _RESOLVE[body.what](db, body.code), body)
        await audit(db, principal, "station.belong", code, body.model_dump(mode="json", by_alias=True))
    return await _history(db, station, PageRequest(1000, None), body.what)


def _check(body: PeriodBody, services: Services) -> None:
    now = services.clock.now()
    for field, value in (("from", body.start), ("to", body.end)):
        if value is not None and value > now:
            raise invalid(field, "lies ahead; say it when it has happened")
    if body.start is not None and body.end is not None and body.start >= body.end:
        raise invalid("to", "does not lie after `from`")


async def _set(db: Connection, belonging: str, subject: int, object_: int | None, body: PeriodBody) -> None:
    values = {"belonging": belonging, "subject": subject, "object": object_}
    await db.execute(_SET, {**values, "start": body.start, "end": body.end})


async def _device(db: Connection, eui: str) -> int:
    row = await (await db.execute("SELECT id FROM device WHERE dev_eui = %s", (eui,))).fetchone()
    if row is None:
        raise not_found("device", eui)
    return int(row["id"])


async def _station(db: Connection, code: str) -> int:
    row = await (await db.execute("SELECT id FROM station WHERE code = %s", (code,))).fetchone()
    if row is None:
        raise not_found("station", code)
    return int(row["id"])


async def _placements(db: Connection, device: int, page: PageRequest) -> Page[Placement]:
    where = Where(fetch=page.fetch)
    where.add("p.device_id = %(device)s", device=device)
    where.after("coalesce(valid_from, '0001-01-02+00') > %(after_since)s", _PLACEMENTS.after(page.cursor))
    rows = await (await db.execute(_LIST_PLACEMENTS.format(where=where.sql), where.values)).fetchall()
    shown, following = _PLACEMENTS.cut(rows, page)
    return Page(items=[Placement.model_validate(row) for row in shown], next=following)


async def _history(db: Connection, station: int, page: PageRequest, what: str | None) -> Page[Belonging]:
    where = Where(fetch=page.fetch)
    where.add("station_id = %(station)s", station=station)
    where.add("what = %(what)s", what=what)
    where.after(
        "(what, coalesce(valid_from, '0001-01-02+00')) > (%(after_what)s, %(after_since)s)",
        _HISTORY.after(page.cursor),
    )
    rows = await (await db.execute(_LIST_HISTORY.format(where=where.sql), where.values)).fetchall()
    shown, following = _HISTORY.cut(rows, page)
    return Page(items=[Belonging.model_validate(row) for row in shown], next=following)
