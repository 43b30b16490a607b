"""Messages nothing could be made of, with their bytes and the reason."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Depends
from psycopg.sql import SQL
from pydantic import BaseModel

from ..auth import require
from ..fields import RowId
from ..paging import Keyset, Page, Paging, whole
from ..problems import not_found
from ..services import Db
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/rejects", tags=["rejects"])

RejectState = Literal["open", "retried", "dismissed"]

_KEYSET = Keyset("rejects", id=whole)
_LIST = SQL("""
    SELECT id, received_at, reason, field, detail, dev_eui, network, source, topic, state,
           octet_length(message) AS size
    FROM reject WHERE {where} ORDER BY id DESC LIMIT %(fetch)s
""")
_ONE = "SELECT *, octet_length(message) AS size FROM reject WHERE id = %s"


class RejectView(BaseModel):
    """`reason` is a stable code, `field` the path of what was wrong, `size` that of the message in bytes."""

    id: int
    received_at: datetime
    reason: str
    field: str | None
    detail: str
    dev_eui: str | None
    network: str | None
    source: str
    topic: str
    size: int
    state: RejectState


class RejectDetail(RejectView):
    """With the message: in base64, in hexadecimal, and as UTF-8 with U+FFFD for what is none."""

    message: str
    message_hex: str
    message_text: str


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_rejects(
    page: Paging, db: Db, reason: str | None = None, state: RejectState | None = None
) -> Page[RejectView]:
    """Rejects, newest first."""
    where = Where(fetch=page.fetch)
    where.add("reason = %(reason)s", reason=reason)
    where.add("state = %(state)s", state=state)
    where.after("id < %(after_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[RejectView.model_validate(row) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("viewer"))])
async def get_reject(id: RowId, db: Db) -> RejectDetail:
    """One reject with its bytes."""
    row = await (await db.execute(_ONE, (id,))).fetchone()
    if row is None:
        raise not_found("reject", id)
    message: bytes = row["message"]
    return RejectDetail.model_validate(
        {
            **row,
            "message": base64.b64encode(message).decode(),
            "message_hex": message.hex(),
            "message_text": message.decode("utf-8", "replace"),
        }
    )
