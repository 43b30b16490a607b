"""Rejects: what they show, and what may be wished of them, for routes and commands."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Literal

from psycopg.sql import SQL
from pydantic import BaseModel, Field

from telemetry.errors import ConflictError, NotFound

from .database import Connection
from .fields import Body, DevEui, Moment, RowId, Text
from .paging import Row
from .where import Where

RejectState = Literal["open", "waiting", "retried", "dismissed"]
Wish = Literal["waiting", "dismissed"]
"""`waiting` for ingest to try it again, or `dismissed` as of no use."""
SHOWN_BYTES = 65_536

_COLUMNS = SQL(
    "id, received_at, reason, field, detail, dev_eui, network, source, topic, state, tries, tried_at,"
    " octet_length(message) AS size"
)
_LIST = SQL("SELECT {columns} FROM reject WHERE {where} ORDER BY id DESC LIMIT %(fetch)s")
_ONE = SQL(
    "SELECT {columns}, substring(message FROM 1 FOR %(shown)s) AS message FROM reject WHERE id = %(id)s"
)
_CHANGE_ONE = """
    WITH found AS (SELECT id, state FROM reject WHERE id = %(id)s FOR UPDATE),
         changed AS (UPDATE reject SET state = %(wish)s
                     WHERE id IN (SELECT id FROM found WHERE state <> 'retried'))
    SELECT state FROM found
"""
_CHANGE_KIND = SQL("UPDATE reject SET state = %(wish)s WHERE {where}")


class RejectView(BaseModel):
    """`reason` is a stable code, `field` the path of what was wrong, `size` that of the message in bytes.

    `tries` counts how often it was tried again, the last time at `tried_at`.
    """

    id: int
    received_at: datetime
    reason: str
    field: str | None
    detail: str
    dev_eui: str | None
    network: str | None
    source: str
    topic: str
    size: int
    state: RejectState
    tries: int
    tried_at: datetime | None


class RejectDetail(RejectView):
    """With the message: in base64, in hexadecimal, and as UTF-8 with U+FFFD for what is none.

    A message longer than 65,536 bytes is `truncated` to that; `quantrac rejects show --out` writes all of it.
    """

    truncated: bool
    message: str
    message_hex: str
    message_text: str


class RejectKind(Body):
    """All open rejects of one kind; what is left out does not matter."""

    reason: str = Field(min_length=1, max_length=100)
    network: Text | None = None
    dev_eui: DevEui | None = None
    before: Moment | None = Field(default=None, description="Only those that came before this time.")


async def list_rejects(db: Connection, where: Where) -> list[Row]:
    cursor = await db.execute(_LIST.format(columns=_COLUMNS, where=where.sql), where.values)
    return await cursor.fetchall()


async def read_reject(db: Connection, id_: RowId) -> RejectDetail:
    """One reject with the beginning of its bytes.

    Raises:
        NotFound: there is none.
    """
    cursor = await db.execute(_ONE.format(columns=_COLUMNS), {"id": id_, "shown": SHOWN_BYTES})
    row = await cursor.fetchone()
    if row is None:
        raise _missing(id_)
    message: bytes = row["message"]
    return RejectDetail.model_validate(
        {
            **row,
            "truncated": len(message) < row["size"],
            "message": base64.b64encode(message).decode(),
            "message_hex": message.hex(),
            "message_text": message.decode("utf-8", "replace"),
        }
    )


async def read_message(db: Connection, id_: int) -> bytes:
    """All bytes of one reject.

    Raises:
        NotFound: there is none.
    """
    row = await (await db.execute("SELECT message FROM reject WHERE id = %s", (id_,))).fetchone()
    if row is None:
        raise _missing(id_)
    return bytes(row["message"])


async def change_one(db: Connection, id_: int, wish: Wish) -> None:
    """Wish for one reject, whatever was wished before.

    Raises:
        NotFound: there is none.
        ConflictError: it became an uplink or event already.
    """
    row = await (await db.execute(_CHANGE_ONE, {"id": id_, "wish": wish})).fetchone()
    if row is None:
        raise _missing(id_)
    if row["state"] == "retried":
        raise ConflictError(f"The reject {id_} was retried already, and its message is stored.")


async def change_kind(db: Connection, kind: RejectKind, wish: Wish) -> int:
    """Wish for all open rejects of a kind; returns how many those are."""
    where = Where(wish=wish)
    where.add("state = 'open'")
    where.add("reason = %(reason)s", reason=kind.reason)
    where.add("network = %(network)s", network=kind.network)
    where.add("dev_eui = %(dev_eui)s", dev_eui=kind.dev_eui)
    where.add("received_at < %(before)s", before=kind.before)
    return (await db.execute(_CHANGE_KIND.format(where=where.sql), where.values)).rowcount


def _missing(id_: int) -> NotFound:
    return NotFound(f"There is no reject {str(id_)!r}.")
