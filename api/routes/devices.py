"""Devices: those that report, and what we were told of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field, FiniteFloat, StringConstraints, model_validator

from decoders.device_types import check_variables
from telemetry.errors import ConflictError

from ..audit import audit
from ..auth import Engineer, require
from ..database import Connection
from ..devices import (
    SELECT_DEVICE,
    DecodeJobView,
    DeviceStatus,
    DeviceView,
    ask_for_decoding,
    device_views,
    find_device,
)
from ..fields import Body, DevEui, SlugId, StationCode, Text, Words
from ..names import device_type_map, station_id
from ..paging import Keyset, Page, Paging, Row, text, whole
from ..problems import invalid, not_found
from ..services import Db
from ..where import Where, like
from . import BASE

router = APIRouter(prefix=f"{BASE}/devices", tags=["devices"])

_KEYSET = Keyset("devices", dev_eui=text)
_JOBS = Keyset("decode-jobs", id=whole)
_LIST = SQL(SELECT_DEVICE + " WHERE {where} ORDER BY d.dev_eui LIMIT %(fetch)s")
_LIST_JOBS = SQL("SELECT * FROM decode_job WHERE {where} ORDER BY id DESC LIMIT %(fetch)s")
_PUT = """
    INSERT INTO device (dev_eui, name, status, device_type, station_id, variables, firmware, simulated)
    VALUES (%(dev_eui)s, %(name)s, %(status)s, %(device_type)s, %(station_id)s, %(variables)s,
            nullif(%(firmware)s::text, ''), coalesce(%(simulated)s::boolean, false))
    ON CONFLICT (dev_eui) DO UPDATE SET
        name = excluded.name, status = excluded.status, device_type = excluded.device_type,
        station_id = excluded.station_id, variables = excluded.variables,
        firmware = CASE WHEN %(firmware)s::text IS NULL THEN device.firmware ELSE excluded.firmware END,
        simulated = coalesce(%(simulated)s::boolean, device.simulated), updated_at = now()
    RETURNING id
"""

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class DeviceBody(Body):
    """What we know of a device; `variables` are the numbers its device type's map asks for.

    `firmware` chooses among the codecs of its device type; an empty text says that it is not known.
    `simulated` and `firmware` left out stay as they are.
    """

    read_only = frozenset({"dev_eui", "origin", "seen_at", "latest", "unit", "owner", "facility"})

    name: Text = ""
    device_type: SlugId | None = None
    station: StationCode | None = None
    variables: dict[VariableName, FiniteFloat] = Field(default_factory=dict)
    firmware: Text | None = None
    status: DeviceStatus = "active"
    simulated: bool | None = None

    @model_validator(mode="after")
    def _needs_a_type(self) -> DeviceBody:
        if self.status == "active" and self.device_type is None:
            raise ValueError("an active device needs a device_type")
        return self


class Adoption(Body):
    """What turns an unregistered device into an active one; a field left out stays as it is."""

    device_type: SlugId
    name: Text | None = None
    station: StationCode | None = None
    variables: dict[VariableName, FiniteFloat] | None = None
    firmware: Text | None = None
    simulated: bool | None = None


class DecodeJobState(BaseModel):
    id: int
    state: str


class Adopted(BaseModel):
    """The device as it is now, and the job that decodes the frames it already sent.

    `missing_variables` are numbers that its type asks for and nobody gave: what needs them gives no reading.
    """

    device: DeviceView
    decode_job: DecodeJobState
    missing_variables: list[str]


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_devices(
    page: Paging,
    db: Db,
    status: DeviceStatus | None = None,
    station: str | None = None,
    q: Words = None,
) -> Page[DeviceView]:
    """Devices by DevEUI, each with its newest readings."""
    where = Where(fetch=page.fetch)
    where.add("d.status = %(status)s", status=status)
    where.add("d.station_id = (SELECT id FROM station WHERE code = %(station)s)", station=station)
    where.add("(d.name ILIKE %(q)s OR d.dev_eui ILIKE %(q)s)", q=like(q))
    where.after("d.dev_eui > %(after_dev_eui)s", _KEYSET.after(page.cursor))
    cursor = await db.execute(_LIST.format(where=where.sql), where.values)
    rows, following = _KEYSET.cut(await cursor.fetchall(), page)
    return Page(items=await device_views(db, rows), next=following)


@router.get("/{eui}", dependencies=[Depends(require("viewer"))])
async def get_device(eui: DevEui, db: Db) -> DeviceView:
    """One device."""
    return await _shown(db, eui)


@router.put("/{eui}")
async def put_device(
    eui: DevEui, body: DeviceBody, principal: Engineer, response: Response, db: Db
) -> DeviceView:
    """Register a device (201) or replace what we know of it (200).

    When that makes an unregistered device active, the frames it already sent are decoded.
    """
    async with db.transaction():
        before = await _locked(db, eui)
        id_ = await _write(db, eui, body)
        if before and before["status"] == "unregistered" and body.status == "active":
            await ask_for_decoding(db, id_, principal.actor)
        await audit(db, principal, "device.put", eui, body.model_dump(mode="json"))
    response.status_code = 200 if before else 201
    return await _shown(db, eui)


@router.post("/{eui}/adopt", status_code=202)
async def adopt_device(eui: DevEui, body: Adoption, principal: Engineer, db: Db) -> Adopted:
    """Register a device that reports already, and have the frames it sent so far decoded."""
    async with db.transaction():
        before = await _locked(db, eui)
        if before is None:
            raise not_found("device", eui)
        if before["status"] == "active":
            raise ConflictError(f"The device {eui} is active already; PUT /devices/{eui} changes it.")
        known = await _shown(db, eui)
        id_ = await _write(
            db,
            eui,
            DeviceBody(
                name=known.name if body.name is None else body.name,
                device_type=body.device_type,
                station=known.station if body.station is None else body.station,
                variables=known.variables if body.variables is None else body.variables,
                firmware=body.firmware,
                simulated=body.simulated,
            ),
        )
        job = await ask_for_decoding(db, id_, principal.actor)
        await audit(db, principal, "device.adopt", eui, body.model_dump(mode="json", exclude_none=True))
    device = await _shown(db, eui)
    _, missing = check_variables(await device_type_map(db, body.device_type), device.variables)
    return Adopted(
        device=device, decode_job=DecodeJobState(id=job.id, state=job.state), missing_variables=missing
    )


@router.get("/{eui}/decode-jobs", dependencies=[Depends(require("viewer"))])
async def list_decode_jobs(eui: DevEui, page: Paging, db: Db) -> Page[DecodeJobView]:
    """The device's decode jobs, newest first."""
    row = await (await db.execute("SELECT id FROM device WHERE dev_eui = %s", (eui,))).fetchone()
    if row is None:
        raise not_found("device", eui)
    where = Where(fetch=page.fetch)
    where.add("device_id = %(device)s", device=row["id"])
    where.after("id < %(after_id)s", _JOBS.after(page.cursor))
    rows = await (await db.execute(_LIST_JOBS.format(where=where.sql), where.values)).fetchall()
    shown, following = _JOBS.cut(rows, page)
    return Page(items=[DecodeJobView.model_validate(job) for job in shown], next=following)


@router.delete("/{eui}", status_code=204)
async def retire_device(eui: DevEui, principal: Engineer, db: Db) -> None:
    """Retire a device: its readings stay, what it still sends is stored without being decoded."""
    async with db.transaction():
        cursor = await db.execute(
            "UPDATE device SET status = 'retired', updated_at = now() WHERE dev_eui = %s", (eui,)
        )
        if cursor.rowcount == 0:
            raise not_found("device", eui)
        await audit(db, principal, "device.retire", eui)


async def _shown(db: Connection, eui: str) -> DeviceView:
    device = await find_device(db, eui)
    if device is None:
        raise not_found("device", eui)
    return device


async def _locked(db: Connection, eui: str) -> Row | None:
    cursor = await db.execute("SELECT id, status FROM device WHERE dev_eui = %s FOR UPDATE", (eui,))
    return await cursor.fetchone()


async def _write(db: Connection, eui: str, body: DeviceBody) -> int:
    if body.device_type is not None:
        unknown, missing = check_variables(await device_type_map(db, body.device_type), body.variables)
        if unknown:
            asked = f"; it asks for {', '.join(missing)}" if missing else ""
            raise invalid(
                f"variables.{unknown[0]}", f"the device type {body.device_type} does not use it{asked}"
            )
    values = body.model_dump()
    cursor = await db.execute(
        _PUT,
        {
            **values,
            "dev_eui": eui,
            "station_id": await station_id(db, body.station),
            "variables": Jsonb(values["variables"]),
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["id"])
