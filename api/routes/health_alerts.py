"""Faults of the system itself, as opposed to alerts of what it measures."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from psycopg.sql import SQL
from pydantic import BaseModel

from ..auth import require
from ..paging import Keyset, Page, Paging, whole
from ..services import Db
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/health-alerts", tags=["health"])

_KEYSET = Keyset("health-alerts", over=whole, id=whole)
_LIST = SQL("""
    SELECT * FROM (SELECT h.*, (ended_at IS NOT NULL)::int AS over FROM health_alert h) found
    WHERE {where} ORDER BY over, id DESC LIMIT %(fetch)s
""")


class HealthAlertView(BaseModel):
    """`kind` is a stable code, `subject` whom it concerns, `ended_at` null as long as it goes on."""

    id: int
    kind: str
    subject: str
    detail: str
    cure: str
    began_at: datetime
    ended_at: datetime | None


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_health_alerts(
    page: Paging,
    db: Db,
    open_: Annotated[bool | None, Query(alias="open", description="Whether they go on.")] = None,
) -> Page[HealthAlertView]:
    """Faults of the system: those that go on first, then newest first."""
    where = Where(fetch=page.fetch)
    where.add("over = %(over)s", over=None if open_ is None else int(not open_))
    where.after(
        "(over > %(after_over)s OR over = %(after_over)s AND id < %(after_id)s)", _KEYSET.after(page.cursor)
    )
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[HealthAlertView.model_validate(row) for row in shown], next=following)
