"""Owners: the organisations that stations, facilities and gateways belong to."""

from __future__ import annotations

import psycopg
from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from pydantic import BaseModel

from telemetry.errors import ConflictError

from ..audit import audit
from ..auth import Engineer, require
from ..fields import Body, Code, LongText, Name, Text, Words
from ..paging import Keyset, Page, Paging, text
from ..problems import not_found
from ..services import Db
from ..where import Where, like
from . import BASE

router = APIRouter(prefix=f"{BASE}/owners", tags=["owners"])

_KEYSET = Keyset("owners", code=text)
_LIST = SQL("SELECT * FROM owner WHERE {where} ORDER BY code LIMIT %(fetch)s")
_PUT = """
    INSERT INTO owner (code, name, name_en, kind, address, contact, note)
    VALUES (%(code)s, %(name)s, %(name_en)s, %(kind)s, %(address)s, %(contact)s, %(note)s)
    ON CONFLICT (code) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, kind = excluded.kind, address = excluded.address,
        contact = excluded.contact, note = excluded.note, updated_at = now()
    RETURNING *, xmax = 0 AS created
"""


class OwnerBody(Body):
    """An organisation; `kind` is a word of one's own, as `agency` or `company`."""

    read_only = frozenset({"code"})

    name: Name
    name_en: Text = ""
    kind: Text = ""
    address: Text = ""
    contact: Text = ""
    note: LongText = ""


class OwnerView(BaseModel):
    """An owner as it is stored."""

    code: str
    name: str
    name_en: str
    kind: str
    address: str
    contact: str
    note: str


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_owners(page: Paging, db: Db, q: Words = None) -> Page[OwnerView]:
    """Owners by code."""
    where = Where(fetch=page.fetch)
    where.add("(name ILIKE %(q)s OR name_en ILIKE %(q)s OR code ILIKE %(q)s)", q=like(q))
    where.after("code > %(after_code)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[OwnerView.model_validate(row) for row in shown], next=following)


@router.get("/{code}", dependencies=[Depends(require("viewer"))])
async def get_owner(code: Code, db: Db) -> OwnerView:
    """One owner."""
    row = await (await db.execute("SELECT * FROM owner WHERE code = %s", (code,))).fetchone()
    if row is None:
        raise not_found("owner", code)
    return OwnerView.model_validate(row)


@router.put("/{code}")
async def put_owner(
    code: Code, body: OwnerBody, principal: Engineer, response: Response, db: Db
) -> OwnerView:
    """Create an owner (201) or replace what we know of it (200)."""
    async with db.transaction():
        row = await (await db.execute(_PUT, {**body.model_dump(), "code": code})).fetchone()
        assert row is not None
        await audit(db, principal, "owner.put", code, body.model_dump(mode="json"))
    response.status_code = 201 if row["created"] else 200
    return OwnerView.model_validate(row)


@router.delete("/{code}", status_code=204)
async def delete_owner(code: Code, principal: Engineer, db: Db) -> None:
    """Remove an owner that nothing belongs to, or ever did; else 409."""
    try:
        async with db.transaction():
            cursor = await db.execute("DELETE FROM owner WHERE code = %s", (code,))
            if cursor.rowcount == 0:
                raise not_found("owner", code)
            await audit(db, principal, "owner.delete", code)
    except psycopg.errors.ForeignKeyViolation as error:
        raise ConflictError(f"Something belongs to the owner {code}, or did; it stays.") from error
