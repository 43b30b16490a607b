"""Endpoints: who is told of alerts by webhook."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, LiteralString
from uuid import uuid4

import msgspec
from fastapi import APIRouter, Depends
from psycopg.sql import SQL, Identifier, Placeholder
from pydantic import AfterValidator, BaseModel, Field

from alerting.delivery import queue
from alerting.delivery.guard import check_url
from alerting.delivery.sign import new_secret
from alerting.outbox import EVENT_TYPES
from telemetry.errors import ConflictError

from ..audit import audit
from ..auth import Admin, require
from ..database import Connection
from ..fields import Moment, Name, SmallId
from ..paging import Keyset, Page, Paging, Row, whole
from ..problems import not_found
from ..services import Db, Svc
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/endpoints", tags=["endpoints"])

# So long the secret before signs too, for subscribers to change over.
OLD_SECRET_LIFETIME = timedelta(hours=24)
TEST_TYPE = "endpoint.test"

_KEYSET = Keyset("endpoints", id=whole)
_SELECT: LiteralString = """
    SELECT e.id, e.name, e.url, e.event_types, e.min_level, e.simulated, e.enabled, e.disabled_why,
           e.last_success, e.created_at, coalesce(p.pending, 0) AS pending
    FROM endpoint e
    LEFT JOIN LATERAL (
        SELECT count(*) AS pending FROM delivery WHERE state = 'pending' AND endpoint_id = e.id
    ) p ON true
"""
_LIST = SQL(_SELECT + " WHERE {where} ORDER BY e.id LIMIT %(fetch)s")
_INSERT = """
    INSERT INTO endpoint (name, url, secret, event_types, min_level, simulated, created_by)
    VALUES (%(name)s, %(url)s, %(secret)s, %(event_types)s, %(min_level)s, %(simulated)s, %(actor)s)
    RETURNING id
"""
_ROTATE = """
    UPDATE endpoint SET old_secret = secret, old_until = %(until)s, secret = %(secret)s WHERE id = %(id)s
"""


def _check_types(types: list[str]) -> list[str]:
    unknown = [type_ for type_ in types if type_ not in EVENT_TYPES]
    if unknown:
        raise ValueError(f"unknown type {unknown[0][:60]!r}; there are {', '.join(EVENT_TYPES)}")
    return list(dict.fromkeys(types))


EventTypes = Annotated[list[str], AfterValidator(_check_types)]
Level = Annotated[int, Field(ge=1, le=5)]
Url = Annotated[str, Field(max_length=2048)]


class EndpointBody(BaseModel):
    """No `event_types`: all. `simulated`: whether alerts of simulated devices are sent here too."""

    name: Name
    url: Url
    event_types: EventTypes = []
    min_level: Level = 1
    simulated: bool = True


class EndpointChange(BaseModel):
    """What is left out stays as it is. Enabling sends nothing again by itself; see `recover`."""

    name: Name = Field(default="")
    url: Url = ""
    event_types: EventTypes = []
    min_level: Level = 1
    simulated: bool = True
    enabled: bool = True


class EndpointView(BaseModel):
    """An endpoint; `pending` deliveries wait to be sent, `disabled_why` tells what stopped it."""

    id: int
    name: str
    url: str
    event_types: list[str]
    min_level: int
    simulated: bool
    enabled: bool
    disabled_why: str | None
    last_success: datetime | None
    created_at: datetime
    pending: int


class Secret(BaseModel):
    """A signing secret, shown this once."""

    secret: str


class NewEndpoint(EndpointView, Secret):
    pass


class TestSent(BaseModel):
    delivery: int


class Recovery(BaseModel):
    since: Moment


class Recovered(BaseModel):
    recovered: int


@router.get("", dependencies=[Depends(require("engineer"))])
async def list_endpoints(page: Paging, db: Db) -> Page[EndpointView]:
    """Endpoints, oldest first."""
    where = Where(fetch=page.fetch)
    where.after("e.id > %(after_id)s", _KEYSET.after(page.cursor))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[EndpointView.model_validate(row) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("engineer"))])
async def get_endpoint(id: SmallId, db: Db) -> EndpointView:
    """One endpoint."""
    return EndpointView.model_validate(await _row(db, id))


@router.post("", status_code=201)
async def add_endpoint(body: EndpointBody, principal: Admin, db: Db, services: Svc) -> NewEndpoint:
    """Subscribe a webhook; its secret is shown this once."""
    check_url(body.url)
    secret = new_secret()
    values = {
        **body.model_dump(),
        "secret": services.box.encrypt(secret.encode()),
        "actor": principal.actor,
    }
    async with db.transaction():
        row = await (await db.execute(_INSERT, values)).fetchone()
        assert row is not None
        await audit(db, principal, "endpoint.add", row["id"], body.model_dump())
    return NewEndpoint.model_validate({**await _row(db, row["id"]), "secret": secret})


@router.patch("/{id}")
async def change_endpoint(id: SmallId, body: EndpointChange, principal: Admin, db: Db) -> EndpointView:
    """Change an endpoint. Switched off, what it still had to get is kept as failed."""
    changes = body.model_dump(exclude_unset=True)
    if "url" in changes:
        check_url(changes["url"])
    async with db.transaction():
        await _lock(db, id)
        if changes.get("enabled") is False:
            await queue.disable(db, id, f"switched off by {principal.actor}")
        columns = {name: value for name, value in changes.items() if name != "enabled" or value}
        if columns.get("enabled"):
            columns["disabled_why"] = None
        if columns:
            pairs = [SQL("{} = {}").format(Identifier(name), Placeholder(name)) for name in columns]
            query = SQL("UPDATE endpoint SET {} WHERE id = %(id)s").format(SQL(", ").join(pairs))
            await db.execute(query, {**columns, "id": id})
        await audit(db, principal, "endpoint.change", id, changes)
    return EndpointView.model_validate(await _row(db, id))


@router.delete("/{id}", status_code=204)
async def delete_endpoint(id: SmallId, principal: Admin, db: Db) -> None:
    """Remove an endpoint together with its deliveries."""
    async with db.transaction():
        row = await _lock(db, id)
        await db.execute("DELETE FROM endpoint WHERE id = %s", (id,))
        await audit(db, principal, "endpoint.delete", id, {"name": row["name"], "url": row["url"]})


@router.post("/{id}/rotate")
async def rotate_secret(id: SmallId, principal: Admin, db: Db, services: Svc) -> Secret:
    """Give an endpoint a new secret; for a day the one before signs too."""
    secret = new_secret()
    async with db.transaction():
        await _lock(db, id)
        await db.execute(
            _ROTATE,
            {
                "id": id,
                "secret": services.box.encrypt(secret.encode()),
                "until": services.clock.now() + OLD_SECRET_LIFETIME,
            },
        )
        await audit(db, principal, "endpoint.rotate", id)
    return Secret(secret=secret)


@router.post("/{id}/test", status_code=202)
async def test_endpoint(id: SmallId, principal: Admin, db: Db, services: Svc) -> TestSent:
    """Send a message of the type `endpoint.test`; 409 when the endpoint is disabled."""
    now = services.clock.now()
    message = f"msg_{uuid4().hex}"
    async with db.transaction():
        row = await _lock(db, id)
        if not row["enabled"]:
            raise ConflictError("This endpoint is disabled; enable it first.")
        body = msgspec.json.encode(
            {"type": TEST_TYPE, "timestamp": now, "data": {"endpoint": {"id": id, "name": row["name"]}}}
        )
        await db.execute(
            "INSERT INTO message (id, type, body, created_at) VALUES (%s, %s, %s, %s)",
            (message, TEST_TYPE, body.decode(), now),
        )
        cursor = await db.execute(
            "INSERT INTO delivery (message_id, endpoint_id, next_at, created_at) VALUES (%s, %s, %s, %s)"
            " RETURNING id",
            (message, id, now, now),
        )
        delivery = await cursor.fetchone()
        assert delivery is not None
        await audit(db, principal, "endpoint.test", id, {"delivery": delivery["id"]})
    return TestSent(delivery=delivery["id"])


@router.post("/{id}/recover", status_code=202)
async def recover_endpoint(id: SmallId, body: Recovery, principal: Admin, db: Db, services: Svc) -> Recovered:
    """Send again what this endpoint failed to get since a time."""
    async with db.transaction():
        await _lock(db, id)
        recovered = await queue.recover(db, id, since=body.since, now=services.clock.now())
        await audit(db, principal, "endpoint.recover", id, {"recovered": recovered})
    return Recovered(recovered=recovered)


async def _row(db: Connection, id_: int) -> Row:
    row = await (await db.execute(_SELECT + " WHERE e.id = %s", (id_,))).fetchone()
    if row is None:
        raise not_found("endpoint", id_)
    return row


async def _lock(db: Connection, id_: int) -> Row:
    cursor = await db.execute(
        "SELECT name, url, enabled FROM endpoint WHERE id = %s FOR NO KEY UPDATE", (id_,)
    )
    row = await cursor.fetchone()
    if row is None:
        raise not_found("endpoint", id_)
    return row
