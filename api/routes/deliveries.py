"""Deliveries: one message to one endpoint, and every try at it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, LiteralString
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from psycopg.sql import SQL
from pydantic import BaseModel

from alerting.delivery import queue
from telemetry.errors import ConflictError

from ..audit import audit
from ..auth import Engineer, require
from ..database import Connection
from ..fields import RowId, SmallId
from ..paging import Keyset, Page, Paging, Row, whole
from ..problems import not_found
from ..services import Db, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/deliveries", tags=["deliveries"])

DeliveryState = Literal["pending", "delivered", "failed"]

_KEYSET = Keyset("deliveries", id=whole)
_SELECT: LiteralString = """
    SELECT d.id, d.message_id, d.endpoint_id AS endpoint, m.type, d.alert_id AS alert, d.alert_seq AS seq,
           d.state, d.attempts, d.next_at, d.created_at, d.delivered_at, d.last_status, d.last_error
    FROM delivery d JOIN message m ON m.id = d.message_id
"""
_LIST = SQL(_SELECT + " WHERE {where} ORDER BY d.id DESC LIMIT %(fetch)s")
_TRIES = """
    SELECT at, duration_ms, status, error, response FROM attempt WHERE delivery_id = %s
    ORDER BY id DESC LIMIT 100
"""


class DeliveryView(BaseModel):
    """`endpoint` is its id, `message_id` the webhook-id; `next_at` counts while it is pending."""

    id: int
    message_id: str
    endpoint: int
    type: str
    alert: UUID | None
    seq: int | None
    state: DeliveryState
    attempts: int
    next_at: datetime
    created_at: datetime
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None


class Try(BaseModel):
    """One try; `status` is that of the answer, null when there was none."""

    at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    response: str | None


class DeliveryDetail(DeliveryView):
    """With the body as it is signed and the last hundred tries, newest first."""

    body: str
    tries: list[Try]


@router.get("", dependencies=[Depends(require("engineer"))])
async def list_deliveries(
    page: Paging,
    db: Db,
    endpoint: Annotated[SmallId | None, Query()] = None,
    state: DeliveryState | None = None,
    alert: UUID | None = None,
) -> Page[DeliveryView]:
    """Deliveries, newest first."""
    where = Where(fetch=page.fetch)
    where.add("d.endpoint_id = %(endpoint)s", endpoint=endpoint)
    where.add("d.state = %(state)s", state=state)
    where.add("d.alert_id = %(alert)s", alert=alert)
    where.after("d.id < %(after_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[DeliveryView.model_validate(row) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("engineer"))])
async def get_delivery(id: RowId, db: Db) -> DeliveryDetail:
    """One delivery with its body and its tries."""
    row = await _row(db, id)
    message = await (
        await db.execute("SELECT body FROM message WHERE id = %s", (row["message_id"],))
    ).fetchone()
    tries = await (await db.execute(_TRIES, (id,))).fetchall()
    return DeliveryDetail.model_validate({**row, "body": message["body"] if message else "", "tries": tries})


@router.post("/{id}/resend", status_code=202)
async def resend_delivery(id: RowId, principal: Engineer, db: Db, services: Svc) -> DeliveryView:
    """Send it again, under the same webhook-id, whatever became of it; 409 when its endpoint is disabled."""
    async with db.transaction():
        row = await _row(db, id)
        endpoint = await (
            await db.execute("SELECT enabled FROM endpoint WHERE id = %s", (row["endpoint"],))
        ).fetchone()
        if endpoint is None or not endpoint["enabled"]:
            raise ConflictError("The endpoint is disabled; enable it first.")
        await queue.resend(db, id, now=services.clock.now())
        await audit(db, principal, "delivery.resend", id)
    return DeliveryView.model_validate(await _row(db, id))


async def _row(db: Connection, id_: int) -> Row:
    row = await (await db.execute(_SELECT + " WHERE d.id = %s", (id_,))).fetchone()
    if row is None:
        raise not_found("delivery", id_)
    return row
