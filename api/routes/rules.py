"""Rules: what must be true for an alert."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Response
from psycopg.sql import SQL
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from alerting.rules import parse_rule
from telemetry.catalogue import CATALOGUE

from ..audit import audit
from ..auth import Engineer, require
from ..fields import JsonObject
from ..paging import Keyset, Page, Paging, text
from ..problems import invalid, not_found
from ..services import Db
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/rules", tags=["rules"])

_KEYSET = Keyset("rules", id=text)
_LIST = SQL("SELECT * FROM rule WHERE {where} ORDER BY id LIMIT %(fetch)s")
_PUT = """
    INSERT INTO rule (id, definition, enabled, updated_by)
    VALUES (%(id)s, %(definition)s, %(enabled)s, %(actor)s)
    ON CONFLICT (id) DO UPDATE SET
        version = rule.version + 1, definition = excluded.definition, enabled = excluded.enabled,
        updated_at = now(), updated_by = excluded.updated_by
    RETURNING *
"""


class RuleView(BaseModel):
    """A rule; `version` grows with every change."""

    id: str
    version: int
    enabled: bool
    definition: dict[str, Any]
    updated_at: datetime
    updated_by: str


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_rules(page: Paging, db: Db) -> Page[RuleView]:
    """Rules by id."""
    where = Where(fetch=page.fetch)
    where.after("id > %(after_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[RuleView.model_validate(row) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("viewer"))])
async def get_rule(id: str, db: Db) -> RuleView:
    """One rule."""
    row = await (await db.execute("SELECT * FROM rule WHERE id = %s", (id,))).fetchone()
    if row is None:
        raise not_found("rule", id)
    return RuleView.model_validate(row)


@router.put("/{id}")
async def put_rule(
    id: str, definition: Annotated[JsonObject, Body()], principal: Engineer, response: Response, db: Db
) -> RuleView:
    """Create a rule (201) or replace one (200); the body is its definition, as in a rules file."""
    if definition.setdefault("id", id) != id:
        raise invalid("id", f"differs from the {id!r} of the address")
    rule = parse_rule(definition, CATALOGUE)
    async with db.transaction():
        cursor = await db.execute(
            _PUT,
            {"id": id, "definition": Jsonb(definition), "enabled": rule.enabled, "actor": principal.actor},
        )
        row = await cursor.fetchone()
        assert row is not None
        await audit(db, principal, "rule.put", id, {"version": row["version"], "definition": definition})
    response.status_code = 201 if row["version"] == 1 else 200
    return RuleView.model_validate(row)


@router.delete("/{id}", status_code=204)
async def delete_rule(id: str, principal: Engineer, db: Db) -> None:
    """Remove a rule; the alerts it raised stay."""
    async with db.transaction():
        cursor = await db.execute("DELETE FROM rule WHERE id = %s", (id,))
        if cursor.rowcount == 0:
            raise not_found("rule", id)
        await audit(db, principal, "rule.delete", id)
