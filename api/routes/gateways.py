"""Gateways: those that somebody registered, and those that frames came through."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from pydantic import BaseModel, FiniteFloat, model_validator

from ..audit import audit
from ..auth import Engineer, require
from ..database import Connection
from ..fields import Body, Code, GatewayId, Latitude, Longitude, LongText, Text, Words
from ..names import owner_id
from ..paging import Keyset, Page, Paging, Row, text
from ..problems import not_found
from ..services import Db
from ..where import Where, like
from . import BASE

router = APIRouter(prefix=f"{BASE}/gateways", tags=["gateways"])

_KEYSET = Keyset("gateways", gateway_id=text)
_LIST = SQL("""
    SELECT * FROM (
        SELECT gateway_id, g.gateway_id IS NOT NULL AS registered, coalesce(g.name, '') AS name,
               coalesce(g.network, '') AS network, coalesce(g.place, '') AS place, o.code AS owner,
               g.latitude, g.longitude, g.altitude, coalesce(g.note, '') AS note,
               s.first_seen, s.seen_at, s.device_id
        FROM gateway g FULL JOIN gateway_seen s USING (gateway_id) LEFT JOIN owner o ON o.id = g.owner_id) g
    WHERE {where} ORDER BY gateway_id LIMIT %(fetch)s
""")
_PUT = """
    INSERT INTO gateway (gateway_id, name, network, place, owner_id, latitude, longitude, altitude, note)
    VALUES (%(gateway_id)s, %(name)s, %(network)s, %(place)s, %(owner_id)s, %(latitude)s, %(longitude)s,
            %(altitude)s, %(note)s)
    ON CONFLICT (gateway_id) DO UPDATE SET
        name = excluded.name, network = excluded.network, place = excluded.place,
        owner_id = excluded.owner_id, latitude = excluded.latitude,
        longitude = excluded.longitude, altitude = excluded.altitude, note = excluded.note, updated_at = now()
    RETURNING xmax = 0 AS created
"""
# One device's frames of one hour: few, and found by the index.
_REPORTED = """
    SELECT u.time, u.network, d.dev_eui AS device, (heard ->> 'latitude')::float8 AS latitude,
           (heard ->> 'longitude')::float8 AS longitude
    FROM uplink u JOIN device d ON d.id = u.device_id
    CROSS JOIN LATERAL jsonb_array_elements(u.gateways) heard
    WHERE u.device_id = %(device_id)s AND u.time >= %(seen_at)s AND u.time < %(seen_at)s + interval '1 hour'
      AND heard ->> 'id' = %(gateway_id)s
    ORDER BY u.time DESC LIMIT 1
"""


class GatewayBody(Body):
    """What we know of a gateway; altitude in metres, coordinates in WGS 84."""

    read_only = frozenset({"gateway_id", "registered", "first_seen", "seen_at", "reported"})

    name: Text = ""
    network: Text = ""
    place: Text = ""
    owner: Code | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    altitude: FiniteFloat | None = None
    note: LongText = ""

    @model_validator(mode="after")
    def _whole(self) -> GatewayBody:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude belong together")
        return self


class Reported(BaseModel):
    """What the network server told with the newest frame we know to have come through it."""

    time: datetime
    network: str
    device: str
    latitude: float | None
    longitude: float | None


class GatewayView(BaseModel):
    """A gateway; `first_seen` and `seen_at` are the hours in which it was first and last heard through."""

    gateway_id: str
    registered: bool
    name: str
    network: str
    place: str
    owner: str | None
    latitude: float | None
    longitude: float | None
    altitude: float | None
    note: str
    first_seen: datetime | None
    seen_at: datetime | None


class GatewayDetail(GatewayView):
    """`reported` is null when it was never heard through, or its frames are gone."""

    reported: Reported | None


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_gateways(
    page: Paging,
    db: Db,
    registered: bool | None = None,
    owner: str | None = None,
    q: Words = None,
) -> Page[GatewayView]:
    """Gateways by id; `registered=false` are those that only traffic told of."""
    where = Where(fetch=page.fetch)
    where.add("registered = %(registered)s", registered=registered)
    where.add("owner = %(owner)s", owner=owner)
    where.add("(name ILIKE %(q)s OR gateway_id ILIKE %(q)s OR place ILIKE %(q)s)", q=like(q))
    where.after("gateway_id > %(after_gateway_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[GatewayView.model_validate(row) for row in shown], next=following)


@router.get("/{gateway_id}", dependencies=[Depends(require("viewer"))])
async def get_gateway(gateway_id: GatewayId, db: Db) -> GatewayDetail:
    """One gateway, and what the network server told of it."""
    row = await _found(db, gateway_id)
    reported = None
    if row["device_id"] is not None:
        reported = await (await db.execute(_REPORTED, row)).fetchone()
    return GatewayDetail.model_validate({**row, "reported": reported})


@router.put("/{gateway_id}")
async def put_gateway(
    gateway_id: GatewayId, body: GatewayBody, principal: Engineer, response: Response, db: Db
) -> GatewayView:
    """Register a gateway (201) or replace what we know of it (200)."""
    async with db.transaction():
        values = {**body.model_dump(), "gateway_id": gateway_id, "owner_id": await owner_id(db, body.owner)}
        row = await (await db.execute(_PUT, values)).fetchone()
        assert row is not None
        await audit(db, principal, "gateway.put", gateway_id, body.model_dump(mode="json"))
    response.status_code = 201 if row["created"] else 200
    return GatewayView.model_validate(await _found(db, gateway_id))


@router.delete("/{gateway_id}", status_code=204)
async def delete_gateway(gateway_id: GatewayId, principal: Engineer, db: Db) -> None:
    """Forget what was registered; one that traffic tells of is listed as unregistered again."""
    async with db.transaction():
        cursor = await db.execute("DELETE FROM gateway WHERE gateway_id = %s", (gateway_id,))
        if cursor.rowcount == 0:
            raise not_found("gateway", gateway_id)
        await audit(db, principal, "gateway.delete", gateway_id)


async def _found(db: Connection, gateway_id: str) -> Row:
    where = Where(fetch=1)
    where.add("gateway_id = %(gateway_id)s", gateway_id=gateway_id)
    row = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchone()
    if row is None:
        raise not_found("gateway", gateway_id)
    return row
