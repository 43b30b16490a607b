"""This process as a member of the group: its signs of life in `ingest_member`, its gaps in `ingest_gap`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import structlog

from telemetry.clock import Clock
from telemetry.mqtt import parse_mqtt_url

from .gaps import Gap, GapLog
from .qos_watch import QosWatch
from .settings import IngestSettings

_log = structlog.get_logger()
BEAT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
_STATEMENT = "SET LOCAL statement_timeout = '10s'"
# After leaving, the others of the share listened in its place.
_EARLIER = """
    SELECT m.seen_at, m.left_at, m.mqtt <> '' AS subscribed, EXISTS (
        SELECT FROM ingest_member o WHERE o.share = m.share AND o.share <> '' AND o.client_id <> m.client_id
          AND o.left_at IS NULL AND o.seen_at > m.left_at) AS replaced
    FROM ingest_member m WHERE m.client_id = %s FOR NO KEY UPDATE OF m
"""
_REGISTER = """
    INSERT INTO ingest_member (client_id, share, filters, broker, started_at, seen_at)
    VALUES (%(client_id)s, %(share)s, %(filters)s, %(broker)s, %(started)s, %(now)s)
    ON CONFLICT (client_id) DO UPDATE SET share = excluded.share, filters = excluded.filters,
        broker = excluded.broker, started_at = excluded.started_at, seen_at = excluded.seen_at,
        connected = false, left_at = NULL
"""
_BEAT = """
    UPDATE ingest_member SET seen_at = %(now)s, connected = %(connected)s,
        mqtt = coalesce(%(mqtt)s, mqtt)
    WHERE client_id = %(client_id)s
"""
_INSERT_GAP = (
    "INSERT INTO ingest_gap (client_id, began_at, ended_at, why) VALUES (%s, %s, %s, %s) RETURNING id"
)
_UPDATE_GAP = "UPDATE ingest_gap SET ended_at = %s, why = %s, backfilled_at = NULL WHERE id = %s"

Connect = Callable[[], "psycopg.Connection[Any]"]


class Member:
    """Writes from a thread of its own, so a database that is away disturbs nobody.

    What happens meanwhile is remembered and written later. The source calls `on_subscribed` and `on_lost`
    on the event loop; `on_gap` is called there whenever a gap that is over has been committed.
    """

    def __init__(
        self,
        connect: Connect,
        settings: IngestSettings,
        clock: Clock,
        qos: QosWatch,
        on_gap: Callable[[], None] = lambda: None,
        *,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._clock = clock
        self._qos = qos
        self._on_gap = on_gap
        self._beat_seconds = beat_seconds
        self._loop = asyncio.get_running_loop()
        self._connection: psycopg.Connection[Any] | None = None
        self._started = clock.now()
        self._registered = False
        self._looked_back = False
        self._lock = threading.Lock()  # held for moments only, never across I/O
        self._gaps = GapLog()
        self._connected = False
        self._mqtt: str | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._told = False
        self._thread = threading.Thread(target=self._run, name="ingest-member", daemon=True)
        self._thread.start()

    def on_subscribed(self, at: datetime, *, session_present: bool, mqtt: str) -> None:
        """The broker granted our subscriptions; `mqtt` is the version spoken, 5 or 3.1.1."""
        with self._lock:
            self._gaps.subscribed(at, session_present=session_present)
            self._connected, self._mqtt = True, mqtt
        self._wake.set()

    def on_lost(self, at: datetime) -> None:
        """The connection is gone, by whomever."""
        with self._lock:
            self._connected = False
            self._gaps.lost(at)
        self._wake.set()

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Say that we stop, if the database answers within `seconds`; a hung one is left behind."""
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, seconds)

    def _run(self) -> None:
        try:
            while True:
                stopping = self._stopping
                self._wake.clear()
                self._try_beat(stopping)
                if stopping:
                    return
                self._wake.wait(self._beat_seconds)
        finally:
            self._disconnect()

    def _try_beat(self, stopping: bool) -> None:
        try:
            self._beat(stopping)
            self._told = False
        except psycopg.Error as error:
            self._disconnect()
            if not self._told:
                self._told = True
                _log.warning("member_not_written", error=" ".join(str(error).split()))

    def _beat(self, stopping: bool) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        now = self._clock.now()
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(_STATEMENT)
            if not self._registered:
                self._register(cursor, now)
            with self._lock:
                gaps = self._gaps.snapshot(now)
                connected, mqtt = self._connected and not stopping, self._mqtt
            ids = [self._write(cursor, copy) for _, copy in gaps]
            client_id = self._settings.mqtt_client_id
            cursor.execute(_BEAT, {"now": now, "connected": connected, "mqtt": mqtt, "client_id": client_id})
            self._qos.flush(cursor)
        self._registered = True
        self._qos.flushed()
        with self._lock:
            over = self._gaps.written(gaps, ids)
        if over and not stopping:
            self._loop.call_soon_threadsafe(self._on_gap)

    def _register(self, cursor: psycopg.Cursor[Any], now: datetime) -> None:
        settings = self._settings
        address = parse_mqtt_url(settings.mqtt_url)
        earlier = cursor.execute(_EARLIER, (settings.mqtt_client_id,)).fetchone()
        cursor.execute(
            _REGISTER,
            {
                "client_id": settings.mqtt_client_id,
                "share": settings.mqtt_share,
                "filters": list(settings.mqtt_topics),
                "broker": f"{address.host}:{address.port}",
                "started": self._started,
                "now": now,
            },
        )
        # Only the first time: a COMMIT whose answer never came may have written the row that is there now.
        looked_back, self._looked_back = self._looked_back, True
        if earlier is not None and not looked_back:
            seen_at, left_at, subscribed, replaced = earlier
            if subscribed and not replaced:
                with self._lock:
                    self._gaps.resume(left_at or seen_at, had_session=left_at is None)

    def _write(self, cursor: psycopg.Cursor[Any], gap: Gap) -> int:
        if gap.id is not None:
            cursor.execute(_UPDATE_GAP, (gap.ended_at, gap.why, gap.id))
            return gap.id
        row = cursor.execute(
            _INSERT_GAP, (self._settings.mqtt_client_id, gap.began_at, gap.ended_at, gap.why)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
