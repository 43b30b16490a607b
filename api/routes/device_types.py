"""Device types: which codec a model speaks, and which of its fields is which metric."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field

from decoders.device_types import parse_device_type
from telemetry.catalogue import CATALOGUE
from telemetry.errors import ConflictError, UsageError

from ..audit import audit
from ..auth import Engineer, require
from ..fields import JsonObject, Name, SlugId
from ..paging import Keyset, Page, Paging, text
from ..problems import invalid, not_found, usage_problem
from ..services import Db, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/device-types", tags=["device types"])

_KEYSET = Keyset("device-types", id=text)
_LIST = SQL("SELECT * FROM device_type WHERE {where} ORDER BY id LIMIT %(fetch)s")
_PUT = """
    INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)
    VALUES (%(id)s, %(vendor)s, %(model)s, %(codec)s, %(expected_interval)s, %(mapping)s)
    ON CONFLICT (id) DO UPDATE SET
        vendor = excluded.vendor, model = excluded.model, codec = excluded.codec,
        expected_interval = excluded.expected_interval, mapping = excluded.mapping, updated_at = now()
    WHERE NOT device_type.builtin
    RETURNING *, xmax = 0 AS created
"""


class DeviceTypeBody(BaseModel):
    """`expected_interval` is the usual time between two uplinks in seconds; `mapping` a list of entries."""

    vendor: Name
    model: Name
    codec: Name
    expected_interval: Annotated[int, Field(ge=1, le=366 * 86400)]
    mapping: list[JsonObject]


class DeviceTypeView(BaseModel):
    """A device type; those that are `builtin` come with the program and cannot be changed."""

    id: str
    vendor: str
    model: str
    codec: str
    expected_interval: int
    mapping: Any
    builtin: bool
    updated_at: datetime


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_device_types(page: Paging, db: Db) -> Page[DeviceTypeView]:
    """Device types by id."""
    where = Where(fetch=page.fetch)
    where.after("id > %(after_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[DeviceTypeView.model_validate(row) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("viewer"))])
async def get_device_type(id: str, db: Db) -> DeviceTypeView:
    """One device type."""
    row = await (await db.execute("SELECT * FROM device_type WHERE id = %s", (id,))).fetchone()
    if row is None:
        raise not_found("device type", id)
    return DeviceTypeView.model_validate(row)


@router.put("/{id}")
async def put_device_type(
    id: SlugId, body: DeviceTypeBody, principal: Engineer, response: Response, db: Db, services: Svc
) -> DeviceTypeView:
    """Create a device type (201) or replace one (200); what is decoded from then on follows it."""
    if body.codec not in services.codecs():
        raise invalid("codec", f"unknown codec; known are {', '.join(sorted(services.codecs()))}")
    mapping = _checked_mapping(id, body)
    async with db.transaction():
        cursor = await db.execute(_PUT, {**body.model_dump(), "id": id, "mapping": Jsonb(mapping)})
        row = await cursor.fetchone()
        if row is None:
            raise ConflictError(f"The device type {id!r} comes with the program; choose another id.")
        await audit(db, principal, "device_type.put", id, {**body.model_dump(), "mapping": mapping})
    response.status_code = 201 if row["created"] else 200
    return DeviceTypeView.model_validate(row)


def _checked_mapping(id_: str, body: DeviceTypeBody) -> list[dict[str, object]]:
    data = body.model_dump()
    entries = data.pop("mapping")
    try:
        parsed = parse_device_type({"id": id_, **data, "map": entries}, CATALOGUE)
    except UsageError as error:
        # Files call it `map`, as the check does; here it is `mapping`.
        lines = [f"mapping{line[3:]}" if line.startswith("map") else line for line in str(error).splitlines()]
        raise usage_problem(UsageError("\n".join(lines))) from None
    return [entry.to_dict() for entry in parsed.mapping]
