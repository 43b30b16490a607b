"""Leaving the group for good: store what still waits for a client id, unsubscribe, end its session."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg
import structlog

from telemetry.clock import Clock
from telemetry.errors import UsageError
from telemetry.settings import StoreSettings
from telemetry.store.pool import connect

from .batcher import Batcher
from .codecs import open_codecs
from .horizon import horizon_of
from .members import BEAT_SECONDS, Connect
from .resumption import Submit, resume
from .settings import IngestSettings
from .transaction import BatchWriter

_log = structlog.get_logger()
FIRST_SECONDS = 60.0
_CLOSE_SECONDS = 20.0
_FRESH = timedelta(seconds=3 * BEAT_SECONDS)


class Row(NamedTuple):
    """What `ingest_member` knows of a client id."""

    share: str
    filters: list[str]
    seen_at: datetime
    connected: bool


def look_up(open_connection: Connect, settings: IngestSettings, now: datetime) -> Row | None:
    """The member that is to leave; None when no process of this name ever ran.

    Raises:
        UsageError: a process runs under this client id, and leaving would take its session from it.
    """
    with open_connection() as connection:
        found = connection.execute(
            "SELECT share, filters, seen_at, connected FROM ingest_member WHERE client_id = %s",
            (settings.mqtt_client_id,),
        ).fetchone()
    row = Row(*found) if found else None
    if row is not None and row.connected and now - row.seen_at < _FRESH:
        ago = max(0, round((now - row.seen_at).total_seconds()))
        raise UsageError(
            f"An ingest process runs as {settings.mqtt_client_id} (seen {ago} s ago). "
            f"Stop it first (SIGTERM); when it was killed, wait {_FRESH.seconds} seconds. Another member's "
            "client id is named with QUANTRAC_MQTT_CLIENT_ID."
        )
    return row


def mark_left(open_connection: Connect, client_id: str, now: datetime) -> None:
    """No share waits for this client id any more."""
    with open_connection() as connection:
        connection.execute(
            "UPDATE ingest_member SET left_at = %s, connected = false WHERE client_id = %s", (now, client_id)
        )


async def run(settings: IngestSettings, store: StoreSettings, clock: Clock, stop: asyncio.Event) -> int:
    """Make the client id of the settings leave; returns how many messages waited for it and are stored now.

    Raises:
        UsageError: a process runs under it.
        QuantracError: it did not get that far; it can be tried again.
    """

    def open_connection() -> psycopg.Connection[tuple[object, ...]]:
        return connect(store.database_url, application="quantrac ingest --leave")

    row = await asyncio.to_thread(look_up, open_connection, settings, clock.now())
    codecs, javascript = await asyncio.to_thread(open_codecs, settings)
    writer = BatchWriter(
        open_connection,
        writer=settings.mqtt_client_id,
        codecs=codecs,
        keep_messages=settings.keep_messages,
        javascript=javascript,
        horizon=horizon_of(store, clock),
    )
    batcher = Batcher(writer, batch_size=settings.batch_size, max_message=settings.max_message)
    try:
        stored = await leave(settings, row, batcher.submit, clock, stop)
    finally:
        await batcher.close(_CLOSE_SECONDS)
        await asyncio.to_thread(javascript.close)
    await asyncio.to_thread(mark_left, open_connection, settings.mqtt_client_id, clock.now())
    return stored


async def leave(
    settings: IngestSettings, row: Row | None, submit: Submit, clock: Clock, stop: asyncio.Event
) -> int:
    """Drain the session, unsubscribe, drain again, end it; returns how many messages were stored.

    Drained before, since some brokers forget what waits for a subscription together with it; for at most
    `FIRST_SECONDS`, as a share goes on getting its part until it unsubscribes.

    Raises:
        QuantracError: interrupted by `stop`, by the broker or by a full backlog. Nothing is lost: the
            session is still there, and leaving can be tried again.
    """
    session = await resume(settings, submit, clock)
    try:
        await session.drain(stop, most=FIRST_SECONDS)
        await session.unsubscribe(_filters(settings, row))
        _log.info("unsubscribed", client_id=settings.mqtt_client_id, stored=session.stored)
        await session.drain(stop)
        await session.end()
    finally:
        await session.close()
    return session.stored


def _filters(settings: IngestSettings, row: Row | None) -> list[str]:
    """What it subscribed to, as far as we know, and what the settings say now."""
    known = [(settings.mqtt_share, settings.mqtt_topics), *([(row.share, row.filters)] if row else [])]
    filters = [f"$share/{share}/{topic}" if share else topic for share, topics in known for topic in topics]
    return list(dict.fromkeys(filters))
