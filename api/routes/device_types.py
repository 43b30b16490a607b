"""Device types: which codec a model speaks, and which of its fields is which metric."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field

from decoders.device_types import DeviceType, parse_device_type
from decoders.mapping import default_codec
from decoders.registry import Registry
from telemetry.catalogue import CATALOGUE
from telemetry.errors import ConflictError, UsageError

from ..audit import audit
from ..auth import Engineer, require
from ..codecs import find_codec
from ..database import Connection
from ..fields import JsonObject, Name, SlugId, Words
from ..paging import Keyset, Page, Paging, text
from ..problems import invalid, not_found, usage_problem
from ..services import Db, Svc
from ..where import Where, like
from . import BASE

router = APIRouter(prefix=f"{BASE}/device-types", tags=["device types"])

_KEYSET = Keyset("device-types", id=text)
_LIST = SQL("SELECT * FROM device_type WHERE {where} ORDER BY id LIMIT %(fetch)s")
_PUT = """
    INSERT INTO device_type (id, vendor, model, codec, codec_version, codecs, expected_interval, mapping)
    VALUES (%(id)s, %(vendor)s, %(model)s, %(codec)s, %(codec_version)s, coalesce(%(codecs)s::jsonb, '[]'),
            %(expected_interval)s, %(mapping)s)
    ON CONFLICT (id) DO UPDATE SET
        vendor = excluded.vendor, model = excluded.model, codec = excluded.codec,
        codec_version = excluded.codec_version, codecs = coalesce(%(codecs)s::jsonb, device_type.codecs),
        expected_interval = excluded.expected_interval, mapping = excluded.mapping, updated_at = now()
    WHERE NOT device_type.builtin
    RETURNING *, xmax = 0 AS created
"""


class DeviceTypeBody(BaseModel):
    """`expected_interval` is the usual time between two uplinks in seconds; `mapping` a list of entries.

    Frames are decoded by the first of `codecs` that fits their firmware and time, else by `codec` in
    `codec_version`, the newest where none is named. `codecs` left out stay as they are.
    """

    vendor: Name
    model: Name
    codec: Name
    codec_version: Name | None = None
    codecs: list[JsonObject] | None = None
    expected_interval: Annotated[int, Field(ge=1, le=366 * 86400)]
    mapping: list[JsonObject]


class DeviceTypeView(BaseModel):
    """A device type; those that are `builtin` come with the program and cannot be changed.

    One that came from a device repository may have an empty `mapping`, and no `codec` where there is none.
    """

    id: str
    vendor: str
    model: str
    codec: str
    codec_version: str | None
    codecs: Any
    expected_interval: int
    mapping: Any
    builtin: bool
    updated_at: datetime


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_device_types(page: Paging, db: Db, q: Words = None) -> Page[DeviceTypeView]:
    """Device types by id; `q` is found in id, vendor or model."""
    where = Where(fetch=page.fetch)
    where.add("concat_ws(' ', id, vendor, model) ILIKE %(words)s", words=like(q))
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
    parsed = _parsed(id, body)
    await _check_codecs(db, await asyncio.to_thread(services.codecs), parsed)
    mapping = [entry.to_dict() for entry in parsed.mapping]
    codecs = None if body.codecs is None else [choice.to_dict() for choice in parsed.codecs]
    told = {**body.model_dump(), "mapping": mapping, "codecs": codecs}
    async with db.transaction():
        cursor = await db.execute(
            _PUT,
            {
                **told,
                "id": id,
                "mapping": Jsonb(mapping),
                "codecs": None if codecs is None else Jsonb(codecs),
            },
        )
        row = await cursor.fetchone()
        if row is None:
            raise ConflictError(f"The device type {id!r} comes with the program; choose another id.")
        await audit(db, principal, "device_type.put", id, told)
    response.status_code = 201 if row["created"] else 200
    return DeviceTypeView.model_validate(row)


def _parsed(id_: str, body: DeviceTypeBody) -> DeviceType:
    data = body.model_dump()
    entries = data.pop("mapping")
    try:
        return parse_device_type({"id": id_, **data, "map": entries}, CATALOGUE)
    except UsageError as error:
        # Files call it `map`, as the check does; here it is `mapping`.
        lines = [f"mapping{line[3:]}" if line.startswith("map") else line for line in str(error).splitlines()]
        raise usage_problem(UsageError("\n".join(lines))) from None


async def _check_codecs(db: Connection, registry: Registry, device_type: DeviceType) -> None:
    """Raises a 422 where there is no such codec, or not the version of it that is named."""
    named = [("codec", default_codec(device_type))]
    named += [(f"codecs[{index}].codec", choice) for index, choice in enumerate(device_type.codecs)]
    for field, choice in named:
        found = await find_codec(db, registry, choice.codec, None, with_source=False)
        if found is None:
            raise invalid(
                field, f"unknown codec; known are {', '.join(registry.ids())} and those of GET {BASE}/codecs"
            )
        versions = [entry.version for entry in found.versions]
        if choice.version not in (None, *versions):
            field = "codec_version" if field == "codec" else field.replace(".codec", ".version")
            raise invalid(field, f"{choice.codec} has no such version; it has {', '.join(versions)}")
