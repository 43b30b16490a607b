"""What people do about an alert: one transition, the alert's new state and its messages, all or nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from alerting.outbox import publish
from telemetry.errors import ConflictError

from .audit import audit
from .auth import Principal
from .database import Connection
from .paging import Row
from .problems import not_found

Kind = Literal["acknowledged", "assigned", "commented", "closed"]


class Action(NamedTuple):
    """One thing done by hand; `assignee` counts for ``assigned`` only."""

    kind: Kind
    note: str | None = None
    assignee: str | None = None


_TRANSITION = """
    INSERT INTO transition
        (alert_id, seq, at, known_at, kind, from_level, to_level, label, value, actor, note)
    VALUES (%(id)s, %(seq)s, %(now)s, %(now)s, %(kind)s, %(level)s, %(to_level)s, %(label)s, %(value)s,
            %(actor)s, %(note)s)
"""
_ALERT = """
    UPDATE alert SET seq = %(seq)s, updated_at = %(now)s, level = %(to_level)s, state = %(state)s,
        ended_at = %(ended_at)s, acked_at = %(acked_at)s, acked_by = %(acked_by)s, assignee = %(assignee)s
    WHERE id = %(id)s
"""


async def act(db: Connection, principal: Principal, id_: UUID, action: Action, now: datetime) -> None:
    """Do it, in one transaction; whoever comes second sees what the first did.

    Raises:
        Problem: 404, no such alert.
        ConflictError: the alert was acknowledged or closed before, or withdrawn.
    """
    async with db.transaction():
        cursor = await db.execute("SELECT * FROM alert WHERE id = %s FOR UPDATE", (id_,))
        alert = await cursor.fetchone()
        if alert is None:
            raise not_found("alert", id_)
        values = _changed(alert, action, principal.actor, now)
        await db.execute(_TRANSITION, values)
        await db.execute(_ALERT, values)
        await publish(db, alert_id=id_, seq=values["seq"])
        detail = {"seq": values["seq"], "note": action.note}
        if action.kind == "assigned":
            detail["assignee"] = action.assignee
        await audit(db, principal, f"alert.{action.kind}", id_, detail)


def _changed(alert: Row, action: Action, actor: str, now: datetime) -> Row:
    _check(alert, action.kind)
    values = {
        **alert,
        "seq": alert["seq"] + 1,
        "now": now,
        "kind": action.kind,
        "to_level": alert["level"],
        "actor": actor,
        "note": action.note,
    }
    if action.kind == "acknowledged":
        values |= {"acked_at": now, "acked_by": actor}
    elif action.kind == "assigned":
        values["assignee"] = action.assignee
    elif action.kind == "closed":
        values |= {"state": "closed", "to_level": 0, "ended_at": alert["ended_at"] or now}
    return values


def _check(alert: Row, kind: Kind) -> None:
    if kind in ("acknowledged", "closed") and alert["state"] in ("closed", "withdrawn"):
        raise ConflictError(f"This alert is {alert['state']}.")
    if kind == "acknowledged" and alert["acked_at"] is not None:
        raise ConflictError(
            f"{alert['acked_by']} acknowledged this alert at {alert['acked_at']:%Y-%m-%dT%H:%M:%SZ}."
        )
