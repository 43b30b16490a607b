"""Messages nothing could be made of, with their bytes and the reason."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from .. import rejects
from ..audit import audit
from ..auth import Engineer, require
from ..fields import DevEui, RowId
from ..paging import Keyset, Page, Paging, whole
from ..rejects import RejectDetail, RejectKind, RejectState, RejectView
from ..services import Db
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/rejects", tags=["rejects"])

_KEYSET = Keyset("rejects", id=whole)


class Waiting(BaseModel):
    """How many rejects this request made wait for ingest to try them again."""

    waiting: int


class Dismissed(BaseModel):
    dismissed: int


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_rejects(
    page: Paging,
    db: Db,
    reason: str | None = None,
    state: RejectState | None = None,
    network: str | None = None,
    device: DevEui | None = None,
) -> Page[RejectView]:
    """Rejects, newest first."""
    where = Where(fetch=page.fetch)
    where.add("reason = %(reason)s", reason=reason)
    where.add("state = %(state)s", state=state)
    where.add("network = %(network)s", network=network)
    where.add("dev_eui = %(device)s", device=device)
    where.after("id < %(after_id)s", _KEYSET.after(page.cursor))
    shown, following = _KEYSET.cut(await rejects.list_rejects(db, where), page)
    return Page(items=[RejectView.model_validate(row) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("viewer"))])
async def get_reject(id: RowId, db: Db) -> RejectDetail:
    """One reject with its bytes, the first 65,536 of them."""
    return await rejects.read_reject(db, id)


@router.post("/retry", status_code=202)
async def retry_rejects(kind: RejectKind, principal: Engineer, db: Db) -> Waiting:
    """Have all open rejects of a kind tried again, as after a fix."""
    async with db.transaction():
        waiting = await rejects.change_kind(db, kind, "waiting")
        await audit(db, principal, "reject.retry", kind.reason, _detail(kind, waiting))
    return Waiting(waiting=waiting)


@router.post("/dismiss")
async def dismiss_rejects(kind: RejectKind, principal: Engineer, db: Db) -> Dismissed:
    """Put all open rejects of a kind aside; they are deleted after a week."""
    async with db.transaction():
        dismissed = await rejects.change_kind(db, kind, "dismissed")
        await audit(db, principal, "reject.dismiss", kind.reason, _detail(kind, dismissed))
    return Dismissed(dismissed=dismissed)


@router.post("/{id}/retry", status_code=202)
async def retry_reject(id: RowId, principal: Engineer, db: Db) -> Waiting:
    """Have one reject tried again; what became of it shows in its `state`, `reason` and `tries`."""
    async with db.transaction():
        await rejects.change_one(db, id, "waiting")
        await audit(db, principal, "reject.retry", id)
    return Waiting(waiting=1)


@router.post("/{id}/dismiss")
async def dismiss_reject(id: RowId, principal: Engineer, db: Db) -> Dismissed:
    """Put one reject aside."""
    async with db.transaction():
        await rejects.change_one(db, id, "dismissed")
        await audit(db, principal, "reject.dismiss", id)
    return Dismissed(dismissed=1)


def _detail(kind: RejectKind, rejects: int) -> dict[str, object]:
    return {**kind.model_dump(mode="json", exclude_none=True), "rejects": rejects}
