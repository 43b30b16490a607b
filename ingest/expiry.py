"""Rejects do not stay for ever: the policy, and who enforces it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import structlog

from telemetry.clock import Clock

_log = structlog.get_logger()
SETTLED_DAYS = 7
BATCH = 500
LOCK = 0x71726578  # "qrex": one process at a time
# One that waits for its retry stays: somebody asked for it.
_EXPIRE = """
    DELETE FROM reject WHERE id IN (
        SELECT id FROM reject
        WHERE received_at < %(settled)s AND state IN ('retried', 'dismissed')
              AND coalesce(tried_at, received_at) < %(settled)s
           OR received_at < %(old)s AND state <> 'waiting'
        ORDER BY received_at LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED)
"""


class RejectExpiry:
    """Deletes rejects older than `days` (0: only settled ones), a few hundred a transaction."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], clock: Clock, days: int) -> None:
        self._connect = connect
        self._clock = clock
        self._days = days
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run_once` return after the batch it is at."""
        self._stopping.set()

    def run_once(self) -> int:
        """Delete what is over its time, unless another process is at it; returns how many.

        Raises:
            psycopg.Error: the database is away, busy or not migrated.
        """
        now = self._clock.now()
        old = now - timedelta(days=self._days) if self._days else None
        values = {"settled": now - timedelta(days=SETTLED_DAYS), "old": old, "batch": BATCH}
        gone = 0
        with self._connect() as connection:
            connection.autocommit = True
            while not self._stopping.is_set():
                with connection.transaction(), connection.cursor() as cursor:
                    mine = cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,)).fetchone()
                    if not mine or not mine[0]:
                        break
                    deleted = cursor.execute(_EXPIRE, values).rowcount
                gone += deleted
                if deleted < BATCH:
                    break
        if gone:
            _log.info("rejects_expired", rejects=gone)
        return gone
