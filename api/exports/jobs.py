"""Exports as rows of the database: who asked, who works on them, how far they are."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from ..database import Connection
from .selection import Selection

LEASE = timedelta(seconds=60)
HOLD_SECONDS = 15.0  # between renewals: what a child does may take longer than a lease
MOST_TRIES = 20  # a job that kills its worker would otherwise go on for ever

_TAKE = """
    UPDATE export_job SET state = 'running', worker = %(worker)s, leased_until = %(until)s, tries = tries + 1
    WHERE id = (
        SELECT id FROM export_job
        WHERE state = 'waiting' AND coalesce(leased_until <= %(now)s, true)
           OR state = 'running' AND leased_until <= %(now)s
        ORDER BY requested_at FOR UPDATE SKIP LOCKED LIMIT 1
    ) RETURNING id, selection, tries
"""
_HOLD = """
    UPDATE export_job SET leased_until = %(until)s
    WHERE id = %(id)s AND worker = %(worker)s AND state = 'running'
"""
_GIVE_BACK = """
    UPDATE export_job SET state = 'waiting', worker = NULL, leased_until = %(until)s, error = %(error)s
    WHERE id = %(id)s AND worker = %(worker)s AND state = 'running'
"""
_FAIL = """
    UPDATE export_job SET state = 'failed', worker = NULL, error = %(error)s, finished_at = %(now)s,
                          expires_at = %(expires)s
    WHERE id = %(id)s AND worker = %(worker)s AND state = 'running'
"""
_PROGRESS = """
    UPDATE export_job SET leased_until = %(until)s, rows = %(rows)s, share = %(share)s
    WHERE id = %(id)s AND worker = %(worker)s AND state = 'running'
"""
_DONE = """
    UPDATE export_job SET state = 'done', share = 1, rows = %(rows)s, bytes = %(bytes)s, sha256 = %(sha256)s,
                          finished_at = %(now)s, expires_at = %(expires)s, worker = NULL, error = NULL
    WHERE id = %(id)s AND worker = %(worker)s AND state = 'running'
"""


class Job(NamedTuple):
    """A job that this worker has taken."""

    id: UUID
    selection: Selection
    tries: int


class JobGone(Exception):
    """Somebody removed the job, or another worker has it by now."""


def folder_of_job(folder: Path, id_: UUID) -> Path:
    return folder / str(id_)


def file_of_job(folder: Path, id_: UUID, selection: Selection) -> Path:
    return folder_of_job(folder, id_) / f"quantrac-{selection.what}.{selection.format}"


async def take(db: Connection, worker: str, now: datetime) -> Job | None:
    """The oldest job that nobody works on, for this worker."""
    row = await (await db.execute(_TAKE, {"worker": worker, "now": now, "until": now + LEASE})).fetchone()
    if row is None:
        return None
    return Job(row["id"], Selection.model_validate(row["selection"]), row["tries"])


async def give_back(
    db: Connection, worker: str, id_: UUID, *, until: datetime, error: str | None = None
) -> None:
    """Let another go on with it, from `until` on."""
    await db.execute(_GIVE_BACK, {"id": id_, "worker": worker, "until": until, "error": error})


async def hold(db: Connection, worker: str, id_: UUID, now: datetime) -> bool:
    """Renew the lease; False when the job is gone, or another worker has it."""
    return (await db.execute(_HOLD, {"id": id_, "worker": worker, "until": now + LEASE})).rowcount == 1


async def fail(
    db: Connection, worker: str, id_: UUID, error: str, *, now: datetime, expires: datetime
) -> bool:
    """Whether it was this worker's to fail."""
    values = {"id": id_, "worker": worker, "error": error, "now": now, "expires": expires}
    return (await db.execute(_FAIL, values)).rowcount == 1


def tell_progress(
    connection: psycopg.Connection[Any], worker: str, id_: UUID, rows: int, share: float, now: datetime
) -> None:
    """Keep the lease. Raises `JobGone` when there is none any more."""
    values = {"id": id_, "worker": worker, "rows": rows, "share": share, "until": now + LEASE}
    if connection.execute(_PROGRESS, values).rowcount == 0:
        raise JobGone


def tell_done(connection: psycopg.Connection[Any], worker: str, id_: UUID, **values: Any) -> None:
    """`rows`, `bytes`, `sha256`, `now`, `expires`. Raises `JobGone` when somebody removed it."""
    if connection.execute(_DONE, {"id": id_, "worker": worker, **values}).rowcount == 0:
        raise JobGone
