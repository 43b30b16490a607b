"""Stations: master data, what they measure now, and the state they are in."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from ..answers import page_answer
from ..audit import audit
from ..auth import Engineer, require
from ..fields import StationCode, UnitReference, Words
from ..names import facility_id, owner_id, unit_id
from ..paging import Keyset, Page, Paging, Row, text
from ..problems import not_found
from ..services import Db, Svc
from ..stations import StationBody, StationPutView, StationView, station_views
from ..where import Where, like
from . import BASE

router = APIRouter(prefix=f"{BASE}/stations", tags=["stations"])

_KEYSET = Keyset("stations", code=text)
_LIST = SQL("SELECT * FROM station WHERE {where} ORDER BY code LIMIT %(fetch)s")
_WITHIN = """
    unit_id IN (
        WITH RECURSIVE below AS (
            SELECT id, code FROM admin_unit WHERE id = unit_id_of(%(unit)s)
            UNION
            SELECT u.id, u.code FROM below b JOIN admin_unit u ON u.parent = b.code
            WHERE daterange(u.valid_from, u.valid_to) @> vietnam_day(now())
        ) SELECT id FROM below)
"""
_PUT = """
    INSERT INTO station (code, name, name_en, kind, river, basin, admin_unit, latitude, longitude,
                         thresholds, quality, source, certainty, public, simulated, unit_id, owner_id,
                         facility_id)
    VALUES (%(code)s, %(name)s, %(name_en)s, %(kind)s, %(river)s, %(basin)s, %(admin_unit)s, %(latitude)s,
            %(longitude)s, %(thresholds)s, %(quality)s, %(source)s, %(certainty)s, %(public)s, %(simulated)s,
            %(unit)s, %(owner)s, %(facility)s)
    ON CONFLICT (code) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, kind = excluded.kind, river = excluded.river,
        basin = excluded.basin, admin_unit = excluded.admin_unit, latitude = excluded.latitude,
        longitude = excluded.longitude, thresholds = excluded.thresholds,
        quality = excluded.quality, source = excluded.source,
        certainty = excluded.certainty, public = excluded.public, simulated = excluded.simulated,
        unit_id = CASE WHEN 'unit' = ANY(%(given)s) THEN excluded.unit_id ELSE station.unit_id END,
        owner_id = CASE WHEN 'owner' = ANY(%(given)s) THEN excluded.owner_id ELSE station.owner_id END,
        facility_id = CASE WHEN 'facility' = ANY(%(given)s) THEN excluded.facility_id
                           ELSE station.facility_id END,
        updated_at = now()
    RETURNING *, xmax = 0 AS created
"""


@router.get("", dependencies=[Depends(require("viewer"))], response_model=Page[StationView])
async def list_stations(
    page: Paging,
    db: Db,
    services: Svc,
    unit: UnitReference | None = None,
    owner: str | None = None,
    facility: str | None = None,
    q: Words = None,
) -> Response:
    """Stations by code, with newest readings and state; `unit` takes those in units below it too."""
    where = Where(fetch=page.fetch)
    where.add("(name ILIKE %(q)s OR name_en ILIKE %(q)s OR code ILIKE %(q)s)", q=like(q))
    where.add(_WITHIN, unit=unit)
    where.add("owner_id = (SELECT id FROM owner WHERE code = %(owner)s)", owner=owner)
    where.add("facility_id = (SELECT id FROM facility WHERE code = %(facility)s)", facility=facility)
    where.after("code > %(after_code)s", _KEYSET.after(page.cursor))
    cursor = await db.execute(_LIST.format(where=where.sql), where.values)
    rows, following = _KEYSET.cut(await cursor.fetchall(), page)
    views = await station_views(db, rows, services.clock.now())
    return await asyncio.to_thread(page_answer, views, following)


@router.get("/{code}", dependencies=[Depends(require("viewer"))], response_model=StationView)
async def get_station(code: str, db: Db, services: Svc) -> Row:
    """One station."""
    rows = await (await db.execute("SELECT * FROM station WHERE code = %s", (code,))).fetchall()
    if not rows:
        raise not_found("station", code)
    return (await station_views(db, rows, services.clock.now()))[0]


@router.put("/{code}", response_model=StationPutView)
async def put_station(
    code: StationCode, body: StationBody, principal: Engineer, response: Response, db: Db, services: Svc
) -> Row:
    """Create a station (201) or replace its master data (200)."""
    values = body.model_dump(mode="json")
    given = [key for key in body.belonging if key in body.model_fields_set]
    async with db.transaction():
        parameters = {
            **values,
            "code": code,
            "thresholds": Jsonb(values["thresholds"]),
            "quality": Jsonb(values["quality"]),
            "unit": await unit_id(db, body.unit),
            "owner": await owner_id(db, body.owner),
            "facility": await facility_id(db, body.facility),
            "given": given,
        }
        row = await (await db.execute(_PUT, parameters)).fetchone()
        assert row is not None
        values = {key: value for key, value in values.items() if key not in body.belonging or key in given}
        await audit(db, principal, "station.put", code, values)
    response.status_code = 201 if row["created"] else 200
    (view,) = await station_views(db, [row], services.clock.now())
    return {**view, "warnings": body.warnings}


@router.delete("/{code}", status_code=204)
async def delete_station(code: StationCode, principal: Engineer, db: Db) -> None:
    """Remove a station; its devices and their readings stay, without a station."""
    async with db.transaction():
        cursor = await db.execute("DELETE FROM station WHERE code = %s", (code,))
        if cursor.rowcount == 0:
            raise not_found("station", code)
        await audit(db, principal, "station.delete", code)
