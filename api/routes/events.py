"""Everything a network server said that is no uplink: joins, status, acknowledgements, logs."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends
from psycopg.sql import SQL
from pydantic import BaseModel

from ..auth import require
from ..fields import DevEui, From, To, check_span
from ..paging import Keyset, Page, Paging, moment, uuid
from ..services import Db
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/events", tags=["events"])

_KEYSET = Keyset("events", time=moment, dedup_key=uuid)
_LIST = SQL("""
    SELECT e.id, e.time, e.ingest_time, d.dev_eui, e.kind, e.network, e.dedup_key, e.data, e.topic, e.message
    FROM event e LEFT JOIN device d ON d.id = e.device_id
    WHERE {where} ORDER BY e.time DESC, e.dedup_key DESC LIMIT %(fetch)s
""")


class EventView(BaseModel):
    """One event; `message` is the network server's own, in base64."""

    id: str
    time: datetime
    ingest_time: datetime
    dev_eui: str | None
    kind: str
    network: str
    dedup_key: UUID
    data: Any
    topic: str
    message: str


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_events(
    page: Paging,
    db: Db,
    start: From = None,
    end: To = None,
    device: DevEui | None = None,
    kind: str | None = None,
) -> Page[EventView]:
    """Events, newest first."""
    check_span(start, end)
    where = Where(fetch=page.fetch)
    where.add("e.device_id = (SELECT id FROM device WHERE dev_eui = %(device)s)", device=device)
    where.add("e.kind = %(kind)s", kind=kind)
    where.add("e.time >= %(start)s", start=start)
    where.add("e.time < %(end)s", end=end)
    where.after(
        "e.time <= %(after_time)s AND (e.time, e.dedup_key) < (%(after_time)s, %(after_dedup_key)s)",
        _KEYSET.after(page.cursor),
    )
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    items = [
        EventView.model_validate(
            {**row, "id": str(row["id"]), "message": base64.b64encode(row["message"]).decode()}
        )
        for row in shown
    ]
    return Page(items=items, next=following)
