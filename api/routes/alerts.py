"""Alerts: what fired, and what people did about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from psycopg.sql import SQL
from pydantic import BaseModel, Field

from ..alertactions import Action, act
from ..alerts import SELECT_ALERT, AlertState, AlertView, alert_view
from ..auth import Operator, require
from ..database import Connection
from ..fields import LongText, Name
from ..paging import Keyset, Page, Paging, moment, uuid, whole
from ..problems import not_found
from ..services import Db, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/alerts", tags=["alerts"])

_KEYSET = Keyset("alerts", opened_at=moment, id=uuid)
_TRANSITIONS = Keyset("transitions", seq=whole)
_LIST = SQL(SELECT_ALERT + " WHERE {where} ORDER BY a.opened_at DESC, a.id LIMIT %(fetch)s")
_LIST_TRANSITIONS = SQL("SELECT * FROM transition WHERE {where} ORDER BY seq LIMIT %(fetch)s")

Note = Annotated[LongText, Field(min_length=1)]


class TransitionView(BaseModel):
    """One change of an alert: `at` is event time, `known_at` when we knew, `withdraws` what it takes back."""

    seq: int
    at: datetime
    known_at: datetime
    kind: str
    from_level: int | None
    to_level: int | None
    label: str | None
    value: float | None
    late: bool
    withdraws: int | None
    actor: str | None
    note: str | None


class Acknowledgement(BaseModel):
    note: LongText | None = None


class Assignment(BaseModel):
    """Who takes care of it; null takes it from whoever had it."""

    assignee: Name | None
    note: LongText | None = None


class Remark(BaseModel):
    note: Note


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_alerts(
    page: Paging,
    db: Db,
    state: AlertState | None = None,
    station: str | None = None,
    rule: str | None = None,
    level: Annotated[
        int | None, Query(ge=1, le=5, description="Alerts that reached this level or a higher one.")
    ] = None,
) -> Page[AlertView]:
    """Alerts, newest first."""
    where = Where(fetch=page.fetch)
    where.add("a.state = %(state)s", state=state)
    where.add("a.station_id = (SELECT id FROM station WHERE code = %(station)s)", station=station)
    where.add("a.rule_id = %(rule)s", rule=rule)
    where.add("a.peak_level >= %(level)s", level=level)
    where.after(
        "a.opened_at <= %(after_opened_at)s AND (a.opened_at < %(after_opened_at)s OR a.id > %(after_id)s)",
        _KEYSET.after(page.cursor),
    )
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[alert_view(row) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("viewer"))])
async def get_alert(id: UUID, db: Db) -> AlertView:
    """One alert."""
    return await _shown(db, id)


@router.get("/{id}/transitions", dependencies=[Depends(require("viewer"))])
async def list_transitions(id: UUID, page: Paging, db: Db) -> Page[TransitionView]:
    """Everything that happened to an alert, in the order we knew."""
    if (await (await db.execute("SELECT FROM alert WHERE id = %s", (id,))).fetchone()) is None:
        raise not_found("alert", id)
    where = Where(fetch=page.fetch)
    where.add("alert_id = %(alert)s", alert=id)
    where.after("seq > %(after_seq)s", _TRANSITIONS.after(page.cursor))
    rows = await (await db.execute(_LIST_TRANSITIONS.format(where=where.sql), where.values)).fetchall()
    shown, following = _TRANSITIONS.cut(rows, page)
    return Page(items=[TransitionView.model_validate(row) for row in shown], next=following)


@router.post("/{id}/ack")
async def acknowledge(
    id: UUID, principal: Operator, db: Db, services: Svc, body: Acknowledgement | None = None
) -> AlertView:
    """Take note of an alert; 409 when somebody has already."""
    note = body.note if body else None
    await act(db, principal, id, Action("acknowledged", note=note), services.clock.now())
    return await _shown(db, id)


@router.post("/{id}/assign")
async def assign(id: UUID, body: Assignment, principal: Operator, db: Db, services: Svc) -> AlertView:
    """Say who takes care of an alert."""
    action = Action("assigned", note=body.note, assignee=body.assignee)
    await act(db, principal, id, action, services.clock.now())
    return await _shown(db, id)


@router.post("/{id}/comment")
async def comment(id: UUID, body: Remark, principal: Operator, db: Db, services: Svc) -> AlertView:
    """Add a remark to an alert."""
    await act(db, principal, id, Action("commented", note=body.note), services.clock.now())
    return await _shown(db, id)


@router.post("/{id}/close")
async def close(id: UUID, body: Remark, principal: Operator, db: Db, services: Svc) -> AlertView:
    """End an alert by hand; 409 when it is closed or withdrawn already."""
    await act(db, principal, id, Action("closed", note=body.note), services.clock.now())
    return await _shown(db, id)


async def _shown(db: Connection, id_: UUID) -> AlertView:
    row = await (await db.execute(SELECT_ALERT + " WHERE a.id = %s", (id_,))).fetchone()
    if row is None:
        raise not_found("alert", id_)
    return alert_view(row)
