"""Facilities: plants with discharge permits, industrial zones."""

from __future__ import annotations

from datetime import date

import psycopg
from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from pydantic import BaseModel, model_validator

from telemetry.errors import ConflictError

from ..audit import audit
from ..auth import Engineer, require
from ..database import Connection
from ..fields import Body, Code, Latitude, Longitude, LongText, Name, Text, UnitReference, Words
from ..names import owner_id, unit_id
from ..paging import Keyset, Page, Paging, text
from ..problems import not_found
from ..services import Db
from ..where import Where, like
from . import BASE

router = APIRouter(prefix=f"{BASE}/facilities", tags=["facilities"])

_KEYSET = Keyset("facilities", code=text)
_LIST = SQL("""
    SELECT f.*, o.code AS owner, unit_reference(u) AS unit
    FROM facility f LEFT JOIN owner o ON o.id = f.owner_id LEFT JOIN admin_unit u ON u.id = f.unit_id
    WHERE {where} ORDER BY f.code LIMIT %(fetch)s
""")
_PUT = """
    INSERT INTO facility (code, name, name_en, kind, sector, address, owner_id, unit_id, latitude, longitude,
                          permit, permit_from, permit_to, note)
    VALUES (%(code)s, %(name)s, %(name_en)s, %(kind)s, %(sector)s, %(address)s, %(owner_id)s, %(unit_id)s,
            %(latitude)s, %(longitude)s, %(permit)s, %(permit_from)s, %(permit_to)s, %(note)s)
    ON CONFLICT (code) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, kind = excluded.kind, sector = excluded.sector,
        address = excluded.address, owner_id = excluded.owner_id, unit_id = excluded.unit_id,
        latitude = excluded.latitude, longitude = excluded.longitude, permit = excluded.permit,
        permit_from = excluded.permit_from, permit_to = excluded.permit_to, note = excluded.note,
        updated_at = now()
    RETURNING xmax = 0 AS created
"""


class FacilityBody(Body):
    """A facility; `permit` is the number of its discharge permit, `permit_to` the last day it holds."""

    read_only = frozenset({"code"})

    name: Name
    name_en: Text = ""
    kind: Text = ""
    sector: Text = ""
    address: Text = ""
    owner: Code | None = None
    unit: UnitReference | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    permit: Text = ""
    permit_from: date | None = None
    permit_to: date | None = None
    note: LongText = ""

    @model_validator(mode="after")
    def _whole(self) -> FacilityBody:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude belong together")
        if self.permit_from and self.permit_to and self.permit_to < self.permit_from:
            raise ValueError("permit_to lies before permit_from")
        return self


class FacilityView(BaseModel):
    """A facility as it is stored."""

    code: str
    name: str
    name_en: str
    kind: str
    sector: str
    address: str
    owner: str | None
    unit: str | None
    latitude: float | None
    longitude: float | None
    permit: str
    permit_from: date | None
    permit_to: date | None
    note: str


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_facilities(
    page: Paging,
    db: Db,
    owner: str | None = None,
    sector: str | None = None,
    q: Words = None,
) -> Page[FacilityView]:
    """Facilities by code."""
    where = Where(fetch=page.fetch)
    where.add("o.code = %(owner)s", owner=owner)
    where.add("f.sector = %(sector)s", sector=sector)
    where.add("(f.name ILIKE %(q)s OR f.name_en ILIKE %(q)s OR f.code ILIKE %(q)s)", q=like(q))
    where.after("f.code > %(after_code)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[FacilityView.model_validate(row) for row in shown], next=following)


@router.get("/{code}", dependencies=[Depends(require("viewer"))])
async def get_facility(code: Code, db: Db) -> FacilityView:
    """One facility."""
    return await _shown(db, code)


@router.put("/{code}")
async def put_facility(
    code: Code, body: FacilityBody, principal: Engineer, response: Response, db: Db
) -> FacilityView:
    """Create a facility (201) or replace what we know of it (200)."""
    async with db.transaction():
        values = {
            **body.model_dump(),
            "code": code,
            "owner_id": await owner_id(db, body.owner),
            "unit_id": await unit_id(db, body.unit),
        }
        row = await (await db.execute(_PUT, values)).fetchone()
        assert row is not None
        await audit(db, principal, "facility.put", code, body.model_dump(mode="json"))
    response.status_code = 201 if row["created"] else 200
    return await _shown(db, code)


@router.delete("/{code}", status_code=204)
async def delete_facility(code: Code, principal: Engineer, db: Db) -> None:
    """Remove a facility that no station belongs to, or ever did; else 409."""
    try:
        async with db.transaction():
            cursor = await db.execute("DELETE FROM facility WHERE code = %s", (code,))
            if cursor.rowcount == 0:
                raise not_found("facility", code)
            await audit(db, principal, "facility.delete", code)
    except psycopg.errors.ForeignKeyViolation as error:
        raise ConflictError(f"A station belongs to the facility {code}, or did; it stays.") from error


async def _shown(db: Connection, code: str) -> FacilityView:
    where = Where(fetch=1)
    where.add("f.code = %(code)s", code=code)
    row = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchone()
    if row is None:
        raise not_found("facility", code)
    return FacilityView.model_validate(row)
