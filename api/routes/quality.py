"""Quality: people's word on readings, and readings that are judged anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from psycopg.sql import SQL
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..audit import audit
from ..auth import Engineer, Operator, require
from ..database import Connection
from ..fields import Body, DevEui, LongText, Moment, SmallId
from ..names import metric_ids, metric_names
from ..paging import Keyset, Page, Paging, Row, whole
from ..problems import invalid, not_found
from ..services import Db
from ..where import Where
from . import BASE
from .provenance import Said

router = APIRouter(prefix=BASE, tags=["quality"])

_OVERRIDES = Keyset("quality-overrides", id=whole)
_JOBS = Keyset("quality-jobs", id=whole)
_LIST = SQL("""
    SELECT o.*, d.dev_eui, m.key AS metric
    FROM quality_override o JOIN device d ON d.id = o.device_id JOIN metric m ON m.id = o.metric_id
    WHERE {where} ORDER BY o.id DESC LIMIT %(fetch)s
""")
_LIST_JOBS = SQL("""
    SELECT j.*, d.dev_eui, m.key AS metric
    FROM quality_job j JOIN device d ON d.id = j.device_id LEFT JOIN metric m ON m.id = j.metric_id
    WHERE {where} ORDER BY j.id DESC LIMIT %(fetch)s
""")
_ADD = """
    INSERT INTO quality_override
        (device_id, metric_id, channel, valid_from, valid_to, quality, reason, created_by)
    VALUES (%(device)s, %(metric_id)s, %(channel)s, %(start)s, %(end)s, %(quality)s, %(reason)s, %(by)s)
    RETURNING id
"""
_WITHDRAW = """
    UPDATE quality_override SET withdrawn_at = now(), withdrawn_by = %s, withdrawn_reason = %s
    WHERE id = %s AND withdrawn_at IS NULL RETURNING id
"""
_ASK = """
    INSERT INTO quality_job (device_id, metric_id, valid_from, valid_to, why)
    VALUES (%s, %s, %s, %s, %s) RETURNING id
"""
_MOMENT = timedelta(microseconds=1)
_FIRST, _END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class OverrideBody(Body):
    """A person's word on readings: of one `time`, or of a period from `from` on and, with `to`, before that.

    It holds for readings that come later, too. Of several the newest holds.
    """

    model_config = ConfigDict(populate_by_name=True)

    device: DevEui
    metric: str
    channel: Annotated[int, Field(ge=0, le=32767)] = 0
    time: Moment | None = None
    start: Moment | None = Field(None, alias="from")
    end: Moment | None = Field(None, alias="to")
    quality: Literal[1, 2, 3, 4]
    reason: Annotated[LongText, StringConstraints(min_length=3)]


class OverrideView(Said):
    """An override; it holds unless somebody withdrew it or said something newer."""

    device: str
    metric: str
    channel: int


class QualityJobBody(Body):
    """Readings of a device to judge anew: of one `metric` or all, `from` on and, with `to`, before that."""

    model_config = ConfigDict(populate_by_name=True)

    device: DevEui
    metric: str | None = None
    start: Moment = Field(alias="from")
    end: Moment | None = Field(None, alias="to")


class QualityJobView(BaseModel):
    """Readings being judged anew: those up to `reached` are done, of `readings` the flag or tests changed."""

    model_config = ConfigDict(populate_by_name=True)

    id: int
    device: str
    metric: str | None
    start: datetime = Field(alias="from")
    end: datetime | None = Field(alias="to")
    why: str
    state: Literal["waiting", "done", "failed"]
    requested_at: datetime
    reached: datetime | None
    readings: int
    finished_at: datetime | None
    error: str | None


@router.get("/quality-overrides", dependencies=[Depends(require("viewer"))])
async def list_overrides(
    page: Paging,
    db: Db,
    device: DevEui | None = None,
    metric: str | None = None,
    withdrawn: bool | None = None,
) -> Page[OverrideView]:
    """What people said of readings, newest first; `withdrawn` chooses those that were, or were not."""
    where = Where(fetch=page.fetch)
    where.add("d.dev_eui = %(device)s", device=device)
    where.add("m.key = %(metric)s", metric=metric)
    where.add("(o.withdrawn_at IS NOT NULL) = %(withdrawn)s", withdrawn=withdrawn)
    where.after("o.id < %(after_id)s", _OVERRIDES.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _OVERRIDES.cut(rows, page)
    return Page(items=[OverrideView.model_validate(_shown(row)) for row in shown], next=following)


@router.post("/quality-overrides", status_code=201)
async def add_override(body: OverrideBody, principal: Operator, db: Db) -> OverrideView:
    """Set the flag of readings by hand, with a reason; their values and what tests found stay."""
    start, end = _period(body)
    async with db.transaction():
        values: dict[str, Any] = {
            "device": await _device(db, body.device),
            "metric_id": await _metric(db, body.metric),
            "channel": body.channel,
            "start": start,
            "end": end,
            "quality": body.quality,
            "reason": body.reason,
            "by": principal.actor,
        }
        row = await (await db.execute(_ADD, values)).fetchone()
        assert row is not None
        told = body.model_dump(mode="json", by_alias=True, exclude_none=True)
        await audit(db, principal, "quality.override", body.device, {"id": row["id"], **told})
    return await _one(db, row["id"])


@router.delete("/quality-overrides/{id}", status_code=204)
async def withdraw_override(
    id: SmallId,
    principal: Operator,
    db: Db,
    reason: Annotated[str | None, Query(max_length=4000, description="Why it is taken back.")] = None,
) -> None:
    """Take it back: the readings get the flag that the tests give, or an older override. It stays listed."""
    async with db.transaction():
        before = await _one(db, id)
        cursor = await db.execute(_WITHDRAW, (principal.actor, reason, id))
        if cursor.rowcount == 1:
            detail = {"reason": reason, "before": before.model_dump(mode="json", by_alias=True)}
            await audit(db, principal, "quality.withdraw", before.device, detail)


@router.get("/quality-jobs", dependencies=[Depends(require("viewer"))])
async def list_jobs(
    page: Paging,
    db: Db,
    device: DevEui | None = None,
    state: Literal["waiting", "done", "failed"] | None = None,
) -> Page[QualityJobView]:
    """How far changed settings and overrides reached stored readings, newest first."""
    where = Where(fetch=page.fetch)
    where.add("d.dev_eui = %(device)s", device=device)
    where.add("j.state = %(state)s", state=state)
    where.after("j.id < %(after_id)s", _JOBS.after(page.cursor))
    rows = await (await db.execute(_LIST_JOBS.format(where=where.sql), where.values)).fetchall()
    shown, following = _JOBS.cut(rows, page)
    return Page(items=[QualityJobView.model_validate(_shown(row)) for row in shown], next=following)


@router.post("/quality-jobs", status_code=202)
async def add_job(body: QualityJobBody, principal: Engineer, db: Db) -> QualityJobView:
    """Have stored readings judged by the present settings: those older than a month are not by themselves."""
    _check_years(**{"from": body.start, "to": body.end})
    if body.end is not None and body.end <= body.start:
        raise invalid("to", "must be later than `from`")
    async with db.transaction():
        device = await _device(db, body.device)
        metric = None if body.metric is None else await _metric(db, body.metric)
        why = f"ordered by {principal.actor}"
        row = await (await db.execute(_ASK, (device, metric, body.start, body.end, why))).fetchone()
        assert row is not None
        told = body.model_dump(mode="json", by_alias=True, exclude_none=True)
        await audit(db, principal, "quality.job", body.device, {"id": row["id"], **told})
        where = Where(fetch=1)
        where.add("j.id = %(id)s", id=row["id"])
        made = await (await db.execute(_LIST_JOBS.format(where=where.sql), where.values)).fetchone()
        assert made is not None
    return QualityJobView.model_validate(_shown(made))


def _period(body: OverrideBody) -> tuple[datetime, datetime | None]:
    _check_years(**{"time": body.time, "from": body.start, "to": body.end})
    if body.time is not None:
        if body.start is not None or body.end is not None:
            raise invalid("time", "give either `time` or a period with `from` and `to`")
        return body.time, body.time + _MOMENT
    if body.start is None:
        raise invalid("from", "missing: `time` of one reading, or a period with `from` and `to`")
    if body.end is not None and body.end <= body.start:
        raise invalid("to", "must be later than `from`")
    return body.start, body.end


def _check_years(**moments: datetime | None) -> None:
    for name, moment in moments.items():
        if moment is not None and not _FIRST <= moment < _END:
            raise invalid(name, "a time of the years 1970 to 9998 is needed")


async def _device(db: Connection, eui: str) -> int:
    row = await (await db.execute("SELECT id FROM device WHERE dev_eui = %s", (eui,))).fetchone()
    if row is None:
        raise invalid("device", f"there is no device {eui}")
    return int(row["id"])


async def _metric(db: Connection, key: str) -> int:
    return metric_ids(await metric_names(db), [key])[0]


async def _one(db: Connection, id_: int) -> OverrideView:
    where = Where(fetch=1)
    where.add("o.id = %(id)s", id=id_)
    row = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchone()
    if row is None:
        raise not_found("quality override", id_)
    return OverrideView.model_validate(_shown(row))


def _shown(row: Row) -> Row:
    return {**row, "device": row["dev_eui"], "from": row["valid_from"], "to": row["valid_to"]}
