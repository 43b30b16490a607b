"""Calibrations: how a device's readings are corrected, and for which period."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import psycopg
from fastapi import APIRouter, Depends
from psycopg.sql import SQL
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from decoders.calibration import Calibration, parse_calibrations
from telemetry.catalogue import CATALOGUE
from telemetry.errors import ConflictError, UsageError

from ..audit import audit
from ..auth import Engineer, require
from ..database import Connection
from ..fields import Body, DevEui, Moment, SmallId
from ..paging import Keyset, Page, Paging, Row, whole
from ..problems import Problem, invalid, not_found, usage_problem
from ..services import Db
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/devices/{{eui}}", tags=["calibrations"])

_KEYSET = Keyset("calibrations", id=whole)
_JOBS = Keyset("calibration-jobs", id=whole)
_LIST = SQL("""
    SELECT c.id, m.key AS metric, channel, valid_from, valid_to, definition, created_at, created_by
    FROM calibration c JOIN metric m ON m.id = metric_id
    WHERE {where} ORDER BY c.id LIMIT %(fetch)s
""")
_LIST_JOBS = SQL("""
    SELECT j.*, m.key AS metric FROM calibration_job j JOIN metric m ON m.id = metric_id
    WHERE {where} ORDER BY j.id DESC LIMIT %(fetch)s
""")
_DEVICE = """
    SELECT device.id, mapping FROM device LEFT JOIN device_type t ON t.id = device_type WHERE dev_eui = %s
"""
_ADD = """
    INSERT INTO calibration (device_id, metric_id, channel, valid_from, valid_to, definition, created_by)
    SELECT %(device)s, id, %(channel)s, %(start)s, %(end)s, %(definition)s, %(by)s
    FROM metric WHERE key = %(metric)s RETURNING id
"""
_CHANGE = """
    UPDATE calibration SET
        (metric_id, channel, valid_from, valid_to, definition, created_at, created_by) =
        ((SELECT id FROM metric WHERE key = %(metric)s), %(channel)s, %(start)s, %(end)s, %(definition)s,
         now(), %(by)s)
    WHERE id = %(id)s AND device_id = %(device)s RETURNING id
"""
_COUNTER_OF = {metric.increment: key for key, metric in CATALOGUE.items() if metric.increment}


class CalibrationBody(Body):
    """``value * gain + offset``, or the line through `points` (reported, true), all in the metric's unit.

    It holds from `from` on and, with `to`, before that. For a counter `gain` corrects the increments, and
    both ends of the period say that another meter counts from then on.
    """

    model_config = ConfigDict(populate_by_name=True)
    read_only = frozenset({"id", "created_at", "created_by"})

    metric: str
    channel: Annotated[int, Field(ge=0, le=32767)] = 0
    start: Moment = Field(alias="from")
    end: Moment | None = Field(None, alias="to")
    gain: FiniteFloat | None = None
    offset: FiniteFloat | None = None
    points: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(min_length=2, max_length=100)] | None = (
        None
    )


class CalibrationView(BaseModel):
    """A calibration as it holds; `gain` and `offset` are null where there are `points`."""

    model_config = ConfigDict(populate_by_name=True)

    id: int
    metric: str
    channel: int
    start: datetime = Field(alias="from")
    end: datetime | None = Field(alias="to")
    gain: float | None
    offset: float | None
    points: list[tuple[float, float]] | None
    created_at: datetime
    created_by: str


class CalibrationJobView(BaseModel):
    """Stored readings being corrected anew: those up to `reached` are done, `readings` of them changed."""

    model_config = ConfigDict(populate_by_name=True)

    id: int
    metric: str
    channel: int
    start: datetime = Field(alias="from")
    end: datetime | None = Field(alias="to")
    state: Literal["waiting", "done", "failed"]
    requested_at: datetime
    reached: datetime | None
    readings: int
    finished_at: datetime | None
    error: str | None


@router.get("/calibrations", dependencies=[Depends(require("viewer"))])
async def list_calibrations(eui: DevEui, page: Paging, db: Db) -> Page[CalibrationView]:
    """The device's calibrations, in the order in which they were made."""
    where = Where(fetch=page.fetch)
    where.add("c.device_id = %(device)s", device=(await _device(db, eui))["id"])
    where.after("c.id > %(after_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[_view(row) for row in shown], next=following)


@router.post("/calibrations", status_code=201)
async def add_calibration(eui: DevEui, body: CalibrationBody, principal: Engineer, db: Db) -> CalibrationView:
    """Have readings corrected from now on, and those of the period that are stored already, in a while."""
    async with db.transaction():
        device = await _device(db, eui)
        id_ = await _write(db, _ADD, device, body, by=principal.actor)
        await audit(db, principal, "calibration.add", eui, {"id": id_, **_told(body)})
    return await _one(db, device["id"], id_)


@router.put("/calibrations/{id}")
async def put_calibration(
    eui: DevEui, id: SmallId, body: CalibrationBody, principal: Engineer, db: Db
) -> CalibrationView:
    """Replace a calibration, or end it (`to`); what either touches is corrected anew."""
    async with db.transaction():
        device = await _device(db, eui)
        before = await _one(db, device["id"], id)
        await _write(db, _CHANGE, device, body, id=id, by=principal.actor)
        was = before.model_dump(mode="json", by_alias=True)
        await audit(db, principal, "calibration.put", eui, {"id": id, **_told(body), "before": was})
    return await _one(db, device["id"], id)


@router.delete("/calibrations/{id}", status_code=204)
async def delete_calibration(eui: DevEui, id: SmallId, principal: Engineer, db: Db) -> None:
    """Take a calibration back: its readings become what the device reported."""
    async with db.transaction():
        device = await _device(db, eui)
        before = await _one(db, device["id"], id)
        await db.execute("DELETE FROM calibration WHERE id = %s", (id,))
        detail = before.model_dump(mode="json", by_alias=True)
        await audit(db, principal, "calibration.delete", eui, detail)


@router.get("/calibration-jobs", dependencies=[Depends(require("viewer"))])
async def list_calibration_jobs(eui: DevEui, page: Paging, db: Db) -> Page[CalibrationJobView]:
    """How far changes of the device's calibrations reached its stored readings, newest first."""
    where = Where(fetch=page.fetch)
    where.add("device_id = %(device)s", device=(await _device(db, eui))["id"])
    where.after("j.id < %(after_id)s", _JOBS.after(page.cursor))
    rows = await (await db.execute(_LIST_JOBS.format(where=where.sql), where.values)).fetchall()
    shown, following = _JOBS.cut(rows, page)
    items = [
        CalibrationJobView.model_validate({**row, "from": row["valid_from"], "to": row["valid_to"]})
        for row in shown
    ]
    return Page(items=items, next=following)


async def _device(db: Connection, eui: str) -> Row:
    row = await (await db.execute(_DEVICE, (eui,))).fetchone()
    if row is None:
        raise not_found("device", eui)
    return row


async def _one(db: Connection, device_id: int, id_: int) -> CalibrationView:
    where = Where(fetch=1)
    where.add("c.device_id = %(device)s", device=device_id)
    where.add("c.id = %(id)s", id=id_)
    row = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchone()
    if row is None:
        raise not_found("calibration", id_)
    return _view(row)


async def _write(db: Connection, statement: Any, device: Row, body: CalibrationBody, **values: Any) -> int:
    calibration = _checked(body, device["mapping"] or [])
    definition = {
        key: value
        for key, value in calibration.to_dict().items()
        if key not in ("metric", "channel", "from", "to")
    }
    parameters = {
        "device": device["id"],
        "metric": calibration.metric,
        "channel": calibration.channel,
        "start": calibration.start,
        "end": calibration.end,
        "definition": Jsonb(definition),
        **values,
    }
    try:
        row = await (await db.execute(statement, parameters)).fetchone()
    except psycopg.errors.ExclusionViolation as error:
        raise ConflictError(
            f"For {calibration.metric} on channel {calibration.channel}, {error.diag.message_primary}; "
            "end that one with `to`, or choose another period."
        ) from error
    if row is None:
        raise invalid("metric", f"{calibration.metric} is not in this database; run `quantrac migrate`")
    return int(row["id"])


def _checked(body: CalibrationBody, mapping: list[dict[str, Any]]) -> Calibration:
    told = body.model_dump(by_alias=True, exclude_none=True)
    if "points" in told:
        told["points"] = [list(point) for point in told["points"]]
    try:
        (calibration,) = parse_calibrations([told], CATALOGUE)
    except UsageError as error:
        raise _without_index(error) from error
    metric, channel = calibration.metric, calibration.channel
    if CATALOGUE[metric].kind == "counter":
        for name in ("offset", "points"):
            if name in told:
                raise invalid(name, f"{metric} is a counter: its growth is corrected, by `gain` alone")
    counter = _COUNTER_OF.get(metric)
    if any((entry["metric"], entry.get("channel", 0)) == (counter, channel) for entry in mapping):
        raise invalid("metric", f"{metric} is worked out from {counter}: calibrate that")
    return calibration


def _without_index(error: UsageError) -> Problem:
    return usage_problem(UsageError(str(error).replace("calibrations[0].", "")))


def _told(body: CalibrationBody) -> dict[str, Any]:
    return body.model_dump(mode="json", by_alias=True, exclude_none=True)


def _view(row: Row) -> CalibrationView:
    definition = row["definition"]
    points = definition.get("points")
    return CalibrationView.model_validate(
        {
            **row,
            "from": row["valid_from"],
            "to": row["valid_to"],
            "gain": None if points else definition.get("gain", 1.0),
            "offset": None if points else definition.get("offset", 0.0),
            "points": points,
        }
    )
