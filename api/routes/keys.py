"""API keys."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends
from psycopg.sql import SQL
from pydantic import BaseModel

from ..accounts import add_key
from ..audit import audit
from ..auth import Admin, require
from ..fields import Name, SmallId
from ..paging import Keyset, Page, Paging, whole
from ..problems import not_found
from ..roles import KeyRole
from ..services import Db, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/keys", tags=["keys"])

_KEYSET = Keyset("keys", id=whole)
_LIST = SQL("""
    SELECT id, name, role, hint, created_at, created_by, used_at, revoked_at
    FROM api_key WHERE {where} ORDER BY id LIMIT %(fetch)s
""")


class KeyBody(BaseModel):
    name: Name
    role: KeyRole


class KeyView(BaseModel):
    """A key without itself; `hint` are its first letters, `used_at` when it last came, to the minute."""

    id: int
    name: str
    role: KeyRole
    hint: str
    created_at: datetime
    created_by: str
    used_at: datetime | None
    revoked_at: datetime | None


class NewKey(KeyView):
    """A key just made; `key` is shown this once."""

    key: str


@router.get("", dependencies=[Depends(require("admin"))])
async def list_keys(page: Paging, db: Db) -> Page[KeyView]:
    """Keys, oldest first, revoked ones included."""
    where = Where(fetch=page.fetch)
    where.after("id > %(after_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[KeyView.model_validate(row) for row in shown], next=following)


@router.post("", status_code=201)
async def create_key(body: KeyBody, principal: Admin, db: Db) -> NewKey:
    """Make a key; it is shown this once."""
    async with db.transaction():
        row, key = await add_key(db, name=body.name, role=body.role, created_by=principal.actor)
        await audit(db, principal, "key.add", row["id"], body.model_dump())
    return NewKey.model_validate({**row, "key": key})


@router.delete("/{id}", status_code=204)
async def revoke_key(id: SmallId, principal: Admin, db: Db, services: Svc) -> None:
    """Revoke a key, at once and for good."""
    async with db.transaction():
        cursor = await db.execute(
            "UPDATE api_key SET revoked_at = %s WHERE id = %s AND revoked_at IS NULL",
            (services.clock.now(), id),
        )
        if cursor.rowcount == 0:
            raise not_found("valid key", id)
        await audit(db, principal, "key.revoke", id)
