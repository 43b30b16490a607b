"""Retention, hour by hour: what is older than the settings keep goes, gently and one process at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog

from telemetry.clock import Clock
from telemetry.settings import StoreSettings
from telemetry.store import policies, retention
from telemetry.store.edition import HYPERTABLES, Edition, detect
from telemetry.store.leader import try_to_hold

from .metrics import REMOVED, UPKEEP_ENDED

_log = structlog.get_logger()
SHARE = 0.2  # of the time, so that ingest and readers keep the disk
MOST_REST_SECONDS = 30.0
_LEADER = "upkeep"


class Upkeep:
    """Removes a few rows or chunks a transaction; it may be killed at any moment, and goes on later."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        clock: Clock,
        settings: StoreSettings,
        *,
        share: float = SHARE,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._settings = settings
        self._share = share
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run_once` return after the batch it is at."""
        self._stopping.set()

    def run_once(self) -> int:
        """Remove all that is over its time, unless another process is at it; returns how much that was.

        Raises:
            psycopg.Error: the database is away, busy or not migrated.
        """
        with self._connect() as guard, self._connect() as connection:
            if not try_to_hold(guard, _LEADER):
                return 0
            connection.autocommit = True
            return self._run(connection)

    def _run(self, connection: psycopg.Connection[Any]) -> int:
        edition, now = detect(connection), self._clock.now()
        days = retention.days_kept(self._settings)
        # On Community the database's own policies look after hypertables.
        by_policy = HYPERTABLES if edition is Edition.COMMUNITY else ()
        ours = {relation: kept for relation, kept in days.items() if kept and relation not in by_policy}
        retention.forget_passes(connection, [relation for relation in days if relation not in ours])
        if edition is Edition.COMMUNITY:
            own = retention.apply_retention(connection, self._settings)
            for change in (*own, *policies.apply_settings(connection, self._settings)):
                _log.warning("policy_changed", change=change, why="the settings of this process say so")
        removed = 0
        for relation, kept in ours.items():
            before = now - timedelta(days=kept)
            if edition is not Edition.PLAIN and relation in retention.FOLLOWS:
                before = retention.not_before(connection, retention.FOLLOWS[relation], before)
            gone = self._prune(connection, relation, before, edition)
            if gone is None:
                return removed  # asked to stop; what comes after may depend on this
            retention.note_pass(connection, relation, before, self._clock.now(), gone)
            removed += gone
        for relation in retention.OVER:
            removed += self._forget(connection, relation, now)
        UPKEEP_ENDED.set(self._clock.now().timestamp())
        return removed

    def _forget(self, connection: psycopg.Connection[Any], relation: str, now: datetime) -> int:
        gone = 0
        while not self._stopping.is_set():
            with connection.transaction(), connection.cursor() as cursor:
                batch = retention.forget_batch(cursor, relation, now)
            gone += batch
            REMOVED.labels(relation).inc(batch)
            if batch < retention.BATCH:
                break
        return gone

    def _prune(
        self, connection: psycopg.Connection[Any], relation: str, before: datetime, edition: Edition
    ) -> int | None:
        """How many went; None when asked to stop before the last."""
        chunked = edition is not Edition.PLAIN and relation in HYPERTABLES
        readings, gone = retention.Readings(), 0
        while not self._stopping.is_set():
            started = time.perf_counter()
            with connection.transaction(), connection.cursor() as cursor:
                if chunked:
                    batch = retention.drop_batch(cursor, relation, before)
                elif relation == "reading":
                    batch = readings.batch(cursor, before)
                else:
                    batch = retention.delete_batch(cursor, relation, before)
            if batch is None:
                if gone:
                    what = "chunks" if chunked else "rows"
                    _log.info(
                        "retention_removed", relation=relation, before=before.isoformat(), **{what: gone}
                    )
                return gone
            gone += batch
            REMOVED.labels(relation).inc(batch)
            rest = (time.perf_counter() - started) * (1 / self._share - 1)
            self._stopping.wait(min(rest, MOST_REST_SECONDS))
        return None
