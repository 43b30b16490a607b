"""Rejects that are to be tried again: their bytes go through the same parse and writer as live ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import structlog

from decoders.registry import Registry
from telemetry.clock import Clock
from telemetry.model import Event, Key, RawMessage, Reject, Uplink, message_key
from telemetry.store.writer import assigned_times, stored_under

from .metrics import RETRIED
from .pipeline import parse
from .text import storable
from .times import own_time, settle
from .transaction import BatchWriter

_log = structlog.get_logger()
MOST, MOST_BYTES = 100, 16 * 2**20
_CLAIM = """
    SELECT id, octet_length(message) FROM reject WHERE state = 'waiting' ORDER BY id LIMIT %s
    FOR UPDATE SKIP LOCKED
"""
_READ = "SELECT id, topic, message, received_at, source FROM reject WHERE id = ANY(%s) ORDER BY id"
_STORED = "UPDATE reject SET state = 'retried', tries = tries + 1, tried_at = %s WHERE id = ANY(%s)"
_AGAIN = """
    UPDATE reject SET state = 'open', tries = tries + 1, tried_at = %s,
        reason = %s, field = %s, detail = %s, dev_eui = %s, network = %s
    WHERE id = %s
"""


class _Waiting(NamedTuple):
    id: int
    message: RawMessage
    outcome: Uplink | Event | Reject


class Retrier:
    """Works off rejects in the state `waiting`, oldest first, on a lane of its own.

    Many processes may run one: those it works on are locked. What became of a message is read from the
    store, so one that was stored just before a crash is found there when it is tried once more.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        writer: str,
        codecs: Registry,
        keep_messages: bool,
        max_message: int,
        clock: Clock,
    ) -> None:
        self._connect = connect
        self._writer = BatchWriter(connect, writer=writer, codecs=codecs, keep_messages=keep_messages)
        self._max_message = max_message
        self._clock = clock
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run_waiting` return after the batch it is at."""
        self._stopping.set()

    def run_waiting(self) -> int:
        """Try all that wait; returns how many were tried.

        Raises:
            psycopg.Error: the database is away, busy or not migrated; the batch waits as before.
        """
        done = 0
        try:
            with self._connect() as connection:
                connection.autocommit = True
                while not self._stopping.is_set() and (tried := self._batch(connection)):
                    done += tried
        finally:
            self._writer.close()
        return done

    def _batch(self, connection: psycopg.Connection[Any]) -> int:
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            claimed = cursor.execute(_CLAIM, (MOST,)).fetchall()
            if not claimed:
                return 0
            waiting = [self._parsed(row) for row in cursor.execute(_READ, (_first(claimed),))]
            sound = [one for one in waiting if not isinstance(one.outcome, Reject)]
            if sound:
                self._writer.commit([(one.message, one.outcome) for one in sound])
            stored = _stored(cursor, sound)
            now = self._clock.now()
            if stored:
                cursor.execute(_STORED, (now, list(stored)))
            for one in waiting:
                if one.id not in stored:
                    _reject_again(cursor, one, now)
        RETRIED.labels("stored").inc(len(stored))
        RETRIED.labels("rejected").inc(len(waiting) - len(stored))
        _log.info("rejects_tried_again", tried=len(waiting), stored=len(stored))
        return len(waiting)

    def _parsed(self, row: Sequence[Any]) -> _Waiting:
        id_, topic, payload, received_at, source = row
        message = RawMessage(topic, bytes(payload), received_at, source)
        return _Waiting(id_, message, parse(message, self._max_message))


def _first(claimed: Sequence[tuple[int, int]]) -> list[int]:
    """The ids of as many as may be held at once: one at least."""
    ids: list[int] = []
    held = 0
    for id_, size in claimed:
        held += size
        if ids and held > MOST_BYTES:
            break
        ids.append(id_)
    return ids


def _stored(cursor: psycopg.Cursor[Any], sound: Sequence[_Waiting]) -> set[int]:
    """The ids of those whose uplink or event is in the store, under any time it can have been given."""
    keys = {one.id: one.outcome.dedup_key for one in sound if not isinstance(one.outcome, Reject)}
    assigned = assigned_times(cursor, list(keys.values()))
    asked: list[tuple[Key, datetime]] = []
    for one in sound:
        assert not isinstance(one.outcome, Reject)
        ns_time = one.outcome.ns_time if isinstance(one.outcome, Uplink) else None
        times = (
            settle(one.outcome.time, ns_time, one.message.received_at)[0],
            own_time(one.outcome.time, ns_time)[0],
            assigned.get(keys[one.id]),
        )
        asked += [(keys[one.id], time) for time in times if time is not None]
    found = {key for key, _ in stored_under(cursor, asked)}
    return {id_ for id_, key in keys.items() if key in found}


def _reject_again(cursor: psycopg.Cursor[Any], one: _Waiting, now: datetime) -> None:
    outcome = one.outcome
    if not isinstance(outcome, Reject):
        outcome = Reject(
            key=message_key(one.message),
            reason="not_storable",
            detail="the database cannot take what the message holds; ingest logged why it was refused",
            dev_eui=outcome.dev_eui,
            network=outcome.network,
        )
    field = None if outcome.field is None else storable(outcome.field)
    why = (outcome.reason, field, outcome.detail, outcome.dev_eui, outcome.network)
    cursor.execute(_AGAIN, (now, *why, one.id))
