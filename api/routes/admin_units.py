"""Administrative units with the days on which they are or were: provinces, districts, communes."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import psycopg
from fastapi import APIRouter, Depends, Response
from psycopg.sql import SQL
from pydantic import BaseModel, Field, model_validator

from telemetry.errors import ConflictError

from ..audit import audit
from ..auth import Engineer, require
from ..database import Connection
from ..fields import Body, Moment, Name, Text, UnitCode, Words
from ..paging import Keyset, Page, Paging, Row, text
from ..problems import FieldProblem, invalid_fields, not_found
from ..services import Db
from ..where import Where, like
from . import BASE

router = APIRouter(prefix=f"{BASE}/admin-units", tags=["administrative units"])

Level = Literal["province", "district", "commune"]
_KEYSET = Keyset("admin-units", code=text)
_VERSIONS = Keyset("admin-unit-history", since=text)
_SELECT = """
    SELECT u.*, coalesce(u.valid_from::text, '0001-01-01') AS since,
           ARRAY(SELECT p.code FROM admin_unit p
                 WHERE p.successors @> ARRAY[u.code] AND p.valid_to = u.valid_from ORDER BY 1) AS predecessors
    FROM admin_unit u
"""
_LIST = SQL(_SELECT + " WHERE {where} ORDER BY u.code LIMIT %(fetch)s")
_HISTORY = SQL(_SELECT + " WHERE {where} ORDER BY since LIMIT %(fetch)s")
_AT = "daterange(u.valid_from, u.valid_to) @> vietnam_day(coalesce(%(at)s::timestamptz, now()))"
_PUT = """
    INSERT INTO admin_unit (code, name, name_en, level, parent, valid_from, valid_to, successors, source,
                            certainty)
    VALUES (%(code)s, %(name)s, %(name_en)s, %(level)s, %(parent)s, %(valid_from)s, %(valid_to)s,
            %(successors)s, %(source)s, %(certainty)s)
    ON CONFLICT (code, valid_from) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, level = excluded.level, parent = excluded.parent,
        valid_to = excluded.valid_to, successors = excluded.successors, source = excluded.source,
        certainty = excluded.certainty, updated_at = now()
    RETURNING id, xmax = 0 AS created
"""
_END = """
    UPDATE admin_unit SET valid_to = %(day)s, successors = %(successors)s, updated_at = now()
    WHERE id = %(id)s
"""
_LACKING = """
    SELECT 'parent' AS field, format('there is no unit %%s in that time', u.parent) AS problem
    FROM admin_unit u WHERE u.id = %(id)s AND u.parent IS NOT NULL AND NOT EXISTS (
        SELECT FROM admin_unit o
        WHERE o.code = u.parent
          AND daterange(o.valid_from, o.valid_to) && daterange(u.valid_from, u.valid_to))
    UNION ALL
    SELECT 'successors', format('there is no unit %%s on %%s', s, u.valid_to)
    FROM admin_unit u CROSS JOIN unnest(u.successors) s
    WHERE u.id = %(id)s AND NOT EXISTS (
        SELECT FROM admin_unit o
        WHERE o.code = s AND daterange(o.valid_from, o.valid_to) @> u.valid_to)
"""


class UnitBody(Body):
    """A unit from the day `valid_from` (null: ever) until before `valid_to` (null: further notice).

    `parent` is the code of whoever holds it, `successors` those of who took its place on `valid_to`.
    """

    read_only = frozenset({"code", "predecessors"})

    name: Name
    name_en: Text = ""
    level: Level
    parent: UnitCode | None = None
    valid_from: date | None = None
    valid_to: date | None = None
    successors: Annotated[list[UnitCode], Field(max_length=50)] = Field(default_factory=list)
    source: Text = ""
    certainty: Text = ""

    @model_validator(mode="after")
    def _whole(self) -> UnitBody:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError("valid_to does not lie after valid_from; it is the first day without the unit")
        if self.successors and self.valid_to is None:
            raise ValueError("a unit without valid_to has no successors")
        return self


class UnitEnd(Body):
    """The first day without the unit, and who took its place."""

    day: date
    successors: Annotated[list[UnitCode], Field(max_length=50)] = Field(default_factory=list)


class UnitView(BaseModel):
    """An administrative unit; `predecessors` are the codes of those it took the place of when it began."""

    code: str
    name: str
    name_en: str
    level: Level
    parent: str | None
    valid_from: date | None
    valid_to: date | None
    successors: list[str]
    predecessors: list[str]
    source: str
    certainty: str


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_units(
    page: Paging,
    db: Db,
    at: Moment | None = None,
    level: Level | None = None,
    parent: str | None = None,
    q: Words = None,
) -> Page[UnitView]:
    """The units of a moment, by default of now, by code."""
    where = Where(fetch=page.fetch, at=at)
    where.add(_AT)
    where.add("u.level = %(level)s", level=level)
    where.add("u.parent = %(parent)s", parent=parent)
    where.add("(u.name ILIKE %(q)s OR u.name_en ILIKE %(q)s OR u.code ILIKE %(q)s)", q=like(q))
    where.after("u.code > %(after_code)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[UnitView.model_validate(row) for row in shown], next=following)


@router.get("/{code}", dependencies=[Depends(require("viewer"))])
async def get_unit(code: UnitCode, db: Db, at: Moment | None = None) -> UnitView:
    """The unit that had this code at a moment, by default now."""
    return UnitView.model_validate(await _found(db, code, at))


@router.get("/{code}/history", dependencies=[Depends(require("viewer"))])
async def list_versions(code: UnitCode, page: Paging, db: Db) -> Page[UnitView]:
    """Every unit that ever had this code, oldest first."""
    where = Where(fetch=page.fetch)
    where.add("u.code = %(code)s", code=code)
    where.after("coalesce(u.valid_from::text, '0001-01-01') > %(after_since)s", _VERSIONS.after(page.cursor))
    rows = await (await db.execute(_HISTORY.format(where=where.sql), where.values)).fetchall()
    shown, following = _VERSIONS.cut(rows, page)
    return Page(items=[UnitView.model_validate(row) for row in shown], next=following)


@router.put("/{code}")
async def put_unit(
    code: UnitCode, body: UnitBody, principal: Engineer, response: Response, db: Db
) -> UnitView:
    """Create the unit that has this code from `valid_from` on (201), or replace what we know of it (200)."""
    try:
        async with db.transaction():
            row = await (await db.execute(_PUT, {**body.model_dump(), "code": code})).fetchone()
            assert row is not None
            await _check(db, row["id"])
            await audit(db, principal, "admin-unit.put", code, body.model_dump(mode="json"))
    except psycopg.errors.ExclusionViolation as error:
        raise _taken(code) from error
    response.status_code = 201 if row["created"] else 200
    return await _shown(db, row["id"])


@router.post("/{code}/end")
async def end_unit(code: UnitCode, body: UnitEnd, principal: Engineer, db: Db) -> UnitView:
    """End the unit of today; `quantrac units follow` lets what belonged to it go with its successor."""
    row = await _found(db, code, None)
    if row["valid_from"] and body.day <= row["valid_from"]:
        raise invalid_fields([FieldProblem(field="day", problem=f"{code} began on {row['valid_from']}")])
    try:
        async with db.transaction():
            await db.execute(_END, {"id": row["id"], **body.model_dump()})
            await _check(db, row["id"])
            await audit(db, principal, "admin-unit.end", code, body.model_dump(mode="json"))
    except psycopg.errors.ExclusionViolation as error:
        raise _taken(code) from error
    return await _shown(db, row["id"])


async def _found(db: Connection, code: str, at: object) -> Row:
    where = Where(fetch=1, at=at)
    where.add(_AT)
    where.add("u.code = %(code)s", code=code)
    row = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchone()
    if row is None:
        raise not_found("administrative unit at that time", code)
    return row


async def _shown(db: Connection, id_: int) -> UnitView:
    where = Where(fetch=1)
    where.add("u.id = %(id)s", id=id_)
    row = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchone()
    return UnitView.model_validate(row)


async def _check(db: Connection, id_: int) -> None:
    """Raises a 422 when its parent or a successor is no unit at the time in question."""
    lacking = await (await db.execute(_LACKING, {"id": id_})).fetchall()
    if lacking:
        raise invalid_fields([FieldProblem.model_validate(row) for row in lacking])


def _taken(code: str) -> ConflictError:
    return ConflictError(
        f"The code {code} is another unit's in a part of that time; end that one with "
        f"POST /admin-units/{code}/end, or choose other days."
    )
