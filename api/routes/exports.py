"""Exports: asked for, made beside the API, fetched in one piece or in several."""

from __future__ import annotations

import shutil
from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse
from psycopg.sql import SQL
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field

from ..audit import audit
from ..auth import Operator, require
from ..database import Connection
from ..exports.jobs import file_of_job, folder_of_job
from ..exports.known import UNKNOWN, problem
from ..exports.selection import Selection
from ..names import metric_ids, metric_names
from ..paging import Keyset, Page, Paging, Row, moment, uuid
from ..problems import FieldProblem, Problem, invalid_fields, not_found
from ..services import Db, Services, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/exports", tags=["exports"])

MOST_OPEN = 5  # of one account or key
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_KEYSET = Keyset("exports", requested_at=moment, id=uuid)
_COLUMNS = SQL(
    "id, selection, state, requested_by, requested_at, finished_at, expires_at, share, rows, bytes, sha256,"
    " error"
)
_LIST = SQL("""
    SELECT {columns} FROM export_job WHERE {where} ORDER BY requested_at DESC, id DESC LIMIT %(fetch)s
""")
_OPEN = """
    SELECT count(*) AS open FROM export_job WHERE requested_by = %s AND state IN ('waiting', 'running')
"""
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('export_job'), hashtext(%s))"
_ADD = SQL("""
    INSERT INTO export_job (selection, requested_by, requested_at)
    VALUES (%(selection)s, %(actor)s, %(now)s) RETURNING {columns}
""")


class ExportView(BaseModel):
    """An export: `share` is how much is done, from 0 to 1; `sha256` is that of the whole file.

    `error` of one that is not failed is why it waits.
    """

    id: UUID
    selection: Selection
    state: Literal["waiting", "running", "done", "failed"]
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="When the file and this entry are removed.")
    share: float
    rows: int
    bytes: int | None
    sha256: str | None
    error: str | None


@router.get("", dependencies=[Depends(require("operator"))])
async def list_exports(page: Paging, db: Db) -> Page[ExportView]:
    """Exports, newest first."""
    where = Where(fetch=page.fetch)
    where.after("(requested_at, id) < (%(after_requested_at)s, %(after_id)s)", _KEYSET.after(page.cursor))
    cursor = await db.execute(_LIST.format(columns=_COLUMNS, where=where.sql), where.values)
    rows, following = _KEYSET.cut(await cursor.fetchall(), page)
    return Page(items=[ExportView.model_validate(row) for row in rows], next=following)


@router.post("", status_code=202)
async def add_export(
    body: Selection, principal: Operator, response: Response, db: Db, services: Svc
) -> ExportView:
    """Ask for one. It is made beside the API; ask `GET /exports/{id}` until its state is done."""
    if not services.settings.export_dir:
        raise Problem(503, "unavailable", "This API process has no folder for exports (QUANTRAC_EXPORT_DIR).")
    metric_ids(await metric_names(db), body.metrics)
    await _refuse_unknown(db, body)
    now = services.clock.now()
    async with db.transaction():
        await db.execute(_ONE_AT_A_TIME, (principal.actor,))
        row = await (await db.execute(_OPEN, (principal.actor,))).fetchone()
        if row and row["open"] >= MOST_OPEN:
            raise Problem(
                409, "conflict", f"You have {MOST_OPEN} exports under way; wait for one, or remove one."
            )
        selection = body.until(now).model_dump(mode="json", by_alias=True)
        values = {"selection": Jsonb(selection), "actor": principal.actor, "now": now}
        made = await (await db.execute(_ADD.format(columns=_COLUMNS), values)).fetchone()
        assert made is not None
        await audit(db, principal, "export.add", made["id"], selection)
    services.exports.wake()
    response.headers["Location"] = f"{BASE}/exports/{made['id']}"
    return ExportView.model_validate(made)


@router.get("/{id}", dependencies=[Depends(require("operator"))])
async def get_export(id: UUID, db: Db) -> ExportView:
    """One, and how far it is."""
    return ExportView.model_validate(await _row(db, id))


@router.get("/{id}/file", dependencies=[Depends(require("operator"))], response_class=FileResponse)
async def get_export_file(id: UUID, db: Db, services: Svc) -> FileResponse:
    """The file. `Range` and `If-Range` go on with a download that broke off; the ETag is the SHA-256."""
    row = await _row(db, id)
    if row["state"] != "done":
        raise Problem(409, "conflict", f"The export is {row['state']}; its file is there when it is done.")
    file = file_of_job(services.exports.folder, id, Selection.model_validate(row["selection"]))
    if not file.is_file():
        raise Problem(
            404,
            "not-found",
            "The file is not on this machine; several API processes need one QUANTRAC_EXPORT_DIR.",
        )
    return FileResponse(
        file,
        filename=file.name,
        media_type=_TYPES[row["selection"]["format"]],
        headers={"ETag": f'"{row["sha256"]}"', "Cache-Control": "private, no-cache"},
    )


@router.delete("/{id}", status_code=204)
async def delete_export(id: UUID, principal: Operator, db: Db, services: Svc) -> None:
    """Stop it, if it is under way, and remove its file."""
    async with db.transaction():
        cursor = await db.execute("DELETE FROM export_job WHERE id = %s", (id,))
        if cursor.rowcount == 0:
            raise not_found("export", id)
        await audit(db, principal, "export.delete", id)
    _remove(services, id)


async def _refuse_unknown(db: Connection, selection: Selection) -> None:
    faults = []
    for field, query in UNKNOWN.items():
        names = list(getattr(selection, field))
        rows = await (await db.execute(query, (names,))).fetchall() if names else []
        if rows:
            faults.append(FieldProblem(field=field, problem=problem(field, [row["name"] for row in rows])))
    if faults:
        raise invalid_fields(faults)


def _remove(services: Services, id_: UUID) -> None:
    # One that is being written is swept by its worker, which finds its job gone.
    shutil.rmtree(folder_of_job(services.exports.folder, id_), ignore_errors=True)


async def _row(db: Connection, id_: UUID) -> Row:
    where = Where(fetch=1)
    where.add("id = %(id)s", id=id_)
    row = await (await db.execute(_LIST.format(columns=_COLUMNS, where=where.sql), where.values)).fetchone()
    if row is None:
        raise not_found("export", id_)
    return row
