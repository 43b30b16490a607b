"""Faults of the system itself: who of ingest is silent or without its broker.

Told by webhook in the transaction that writes them down. One process at a time looks, whichever has the lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import structlog

from telemetry.store.pool import Pool

from . import outbox
from .metrics import HEALTH

_log = structlog.get_logger()
LOOK_SECONDS = 5.0
SILENT, DISCONNECTED = "ingest-member-silent", "ingest-disconnected"
KINDS = (SILENT, DISCONNECTED)
_LOCK = 0x68656C7468  # "helth": whoever has it looks
_ASLEEP = timedelta(seconds=4 * LOOK_SECONDS)
_MEMBERS = "SELECT client_id, share, broker, seen_at, connected FROM ingest_member WHERE left_at IS NULL"
_OPEN = "SELECT * FROM health_alert WHERE ended_at IS NULL AND kind = ANY(%s)"
_BEGIN = """
    INSERT INTO health_alert (kind, subject, detail, cure, began_at)
    VALUES (%(kind)s, %(subject)s, %(detail)s, %(cure)s, %(began_at)s) RETURNING *
"""
_END = "UPDATE health_alert SET ended_at = greatest(%s, began_at) WHERE id = %s RETURNING *"


class Fault(NamedTuple):
    """What is wrong with whom, since when, and what to do about it."""

    kind: str
    subject: str
    detail: str
    cure: str
    began_at: datetime


class Member(NamedTuple):
    """A row of `ingest_member` that has not left."""

    client_id: str
    share: str
    broker: str
    seen_at: datetime
    connected: bool


Opened = Mapping[tuple[str, str], datetime]
"""When each open fault began, by kind and subject."""


class Watch:
    """Judges members by what it saw itself. Pure but for its memory.

    Nobody is silent who was not given the time to speak: it counts from when this watch began, and again
    after it slept itself, as when the database was away from everybody.
    """

    def __init__(self, silent: timedelta) -> None:
        self._silent = silent
        self._since: datetime | None = None
        self._looked_at: datetime | None = None
        self._without_broker: dict[str, datetime] = {}

    def judge(self, members: Sequence[Member], opened: Opened, now: datetime) -> list[Fault] | None:
        """Every fault there is; None as long as it is too early to say that there is none.

        What is open stays so until the opposite is seen, so that two watches whose clocks or looks differ
        by seconds do not open and close it in turn.
        """
        if self._looked_at is None or not timedelta(0) <= now - self._looked_at <= _ASLEEP:
            self._since = now
            self._without_broker.clear()
        self._looked_at = now
        without = {member.client_id for member in members if not member.connected}
        self._without_broker = {id_: self._without_broker.get(id_, now) for id_ in without}
        if self._since is None or now - self._since <= self._silent:
            return None
        return [fault for member in members for fault in self._faults_of(member, opened, now)]

    def _faults_of(self, member: Member, opened: Opened, now: datetime) -> Iterator[Fault]:
        told = opened.get((SILENT, member.client_id))
        silent = now - member.seen_at > self._silent or (told is not None and member.seen_at <= told)
        if silent:
            yield Fault(
                SILENT,
                member.client_id,
                f"The ingest process {member.client_id} has shown no sign of life since "
                f"{_at(member.seen_at)}. {_waits(member)}",
                "Start it again under the same client id. If it is gone for good: "
                f"QUANTRAC_MQTT_CLIENT_ID={member.client_id} quantrac ingest --leave",
                member.seen_at,
            )
        since = self._without_broker.get(member.client_id)
        if since is not None and (
            (DISCONNECTED, member.client_id) in opened or (now - since > self._silent and not silent)
        ):
            yield Fault(
                DISCONNECTED,
                member.client_id,
                f"The ingest process {member.client_id} runs, but is not subscribed at its broker "
                f"{member.broker} since {_at(since)} or longer.",
                "Start the broker, or correct QUANTRAC_MQTT_URL; `quantrac doctor` and the log of ingest "
                "tell what it answers.",
                since,
            )


async def look(pool: Pool, watch: Watch, now: datetime) -> None:
    """Bring `health_alert` in line with what the watch finds, and queue the messages that tell of it.

    Raises:
        psycopg.Error: nothing was written; it may be tried again.
    """
    async with pool.connection() as connection, connection.transaction():
        cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS mine", (_LOCK,))
        row = await cursor.fetchone()
        assert row is not None
        members = [Member(**found) for found in await (await connection.execute(_MEMBERS)).fetchall()]
        opened = await (await connection.execute(_OPEN, (list(KINDS),))).fetchall()
        began = {(one["kind"], one["subject"]): one["began_at"] for one in opened}
        found = watch.judge(members, began, now)
        if row["mine"] and found is not None:
            opened = await _reconcile(connection, found, opened, now)
    for kind in KINDS:
        HEALTH.labels(kind).set(sum(one["kind"] == kind for one in opened))


async def _reconcile(
    connection: psycopg.AsyncConnection[Any],
    found: Sequence[Fault],
    opened: Sequence[dict[str, Any]],
    now: datetime,
) -> list[dict[str, Any]]:
    known = {(row["kind"], row["subject"]): row for row in opened}
    wanted = {(fault.kind, fault.subject): fault for fault in found}
    for key, row in known.items():
        if key not in wanted:
            ended = await (await connection.execute(_END, (now, row["id"]))).fetchone()
            assert ended is not None
            await outbox.publish_fault(connection, ended, recovered=True)
            _log.info("fault_ended", kind=row["kind"], subject=row["subject"])
    for key, fault in wanted.items():
        if key not in known:
            begun = await (await connection.execute(_BEGIN, fault._asdict())).fetchone()
            assert begun is not None
            known[key] = begun
            await outbox.publish_fault(connection, begun, recovered=False)
            _log.error("fault", kind=fault.kind, subject=fault.subject, detail=fault.detail, cure=fault.cure)
    return [row for key, row in known.items() if key in wanted]


def _waits(member: Member) -> str:
    if member.share:
        return f"Its part of the share {member.share} waits at the broker for this client id."
    return "What it subscribed to waits at the broker for this client id."


def _at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
