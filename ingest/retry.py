"""Rejects that are to be tried again: their bytes go through the same parse and writer as live ones.

A frame that is stored, but whose codec timed out, is decoded again where it lies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import structlog

from decoders.registry import Registry
from telemetry.clock import Clock
from telemetry.model import Event, Key, RawMessage, Reject, Uplink, message_key
from telemetry.store.writer import assigned_times, registry_version, stored_under

from .again import FRAME_COLUMNS, Frame, decode_again
from .decode_jobs import lock_devices
from .directory import read_directory
from .horizon import Horizon, no_horizon
from .javascript import Answers, JavaScript, Unasked
from .metrics import RETRIED
from .pipeline import Decoded, parse
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
# Without a codec's stamp there are no readings yet; whoever writes them locks the device and sets the stamp.
_UNDECODED = f"""
    SELECT device_id, {FRAME_COLUMNS} FROM uplink
    WHERE (time, dedup_key) IN (SELECT * FROM unnest(%s::timestamptz[], %s::uuid[])) AND decoded_by IS NULL
    ORDER BY time, id
"""  # noqa: S608
_DEVICES = """
    SELECT DISTINCT device_id FROM uplink
    WHERE (time, dedup_key) IN (SELECT * FROM unnest(%s::timestamptz[], %s::uuid[]))
"""
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

    @property
    def key(self) -> Key:
        return self.outcome.key if isinstance(self.outcome, Reject) else self.outcome.dedup_key


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
        javascript: JavaScript | None = None,
        horizon: Callable[[], Horizon] = no_horizon,
    ) -> None:
        self._connect = connect
        self._lane = writer
        self._codecs = codecs
        self._javascript = javascript
        self._answers = Answers(javascript)
        self._writer = BatchWriter(
            connect,
            writer=writer,
            codecs=codecs,
            keep_messages=keep_messages,
            javascript=javascript,
            horizon=horizon,
            put_aside=False,
        )
        self._horizon = horizon
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
            found = _stored(cursor, sound)
            waiting = _without_too_old(waiting, found, self._horizon())
            sound = [one for one in waiting if not isinstance(one.outcome, Reject)]
            if new := [one for one in sound if one.key not in found]:
                self._writer.commit([(one.message, one.outcome) for one in new])
                found |= _stored(cursor, new)
            failed = self._decode(found)
            stored = [one.id for one in sound if one.key in found.keys() - failed.keys()]
            now = self._clock.now()
            if stored:
                cursor.execute(_STORED, (now, stored))
            for one in waiting:
                if one.id not in stored:
                    _reject_again(cursor, one, failed.get(one.key), now)
        RETRIED.labels("stored").inc(len(stored))
        RETRIED.labels("rejected").inc(len(waiting) - len(stored))
        _log.info("rejects_tried_again", tried=len(waiting), stored=len(stored))
        return len(waiting)

    def _decode(self, found: Mapping[Key, Collection[datetime]]) -> dict[Key, Decoded]:
        """Decode those of these frames that nobody has decoded; what the codec still does not answer."""
        try:
            while found:
                try:
                    return self._attempt(found)
                except Unasked as unasked:
                    self._answers.fetch(unasked)
        finally:
            self._answers.forget()
        return {}

    def _attempt(self, found: Mapping[Key, Collection[datetime]]) -> dict[Key, Decoded]:
        places = [(time, UUID(bytes=key)) for key, times in found.items() for time in times]
        with self._connect() as connection, connection.cursor(binary=True) as cursor:
            version = registry_version(cursor)
            asked = tuple(map(list, zip(*places, strict=True)))
            lock_devices(cursor, [row[0] for row in cursor.execute(_DEVICES, asked)])
            rows = cursor.execute(_UNDECODED, asked).fetchall()
            if not rows:
                return {}
            directory = read_directory(cursor, self._codecs, version, self._javascript)
            devices = {device.id: device for device in directory.devices.values()}
            frames = [(Frame(*row[1:]), devices[row[0]]) for row in rows if row[0] in devices]
            again, _ = decode_again(
                cursor, self._lane, frames, directory, self._answers, horizon=self._horizon()
            )
        return {
            frame.dedup_key.bytes: again.decoded[frame.id]
            for frame, _ in frames
            if again.decoded[frame.id].retry is not None
        }

    def _parsed(self, row: Sequence[Any]) -> _Waiting:
        id_, topic, payload, received_at, source = row
        message = RawMessage(topic, bytes(payload), received_at, source)
        return _Waiting(id_, message, parse(message, self._max_message))


def _without_too_old(waiting: Sequence[_Waiting], found: Collection[Key], horizon: Horizon) -> list[_Waiting]:
    """With rejects in place of those that are older than what is kept, and not among the `found`."""
    told = []
    for one in waiting:
        outcome = one.outcome
        if not isinstance(outcome, Reject) and one.key not in found:
            ns_time = outcome.ns_time if isinstance(outcome, Uplink) else None
            time, flag = settle(outcome.time, ns_time, one.message.received_at)
            time = time or one.message.received_at
            if horizon.passed([(time, flag)]):
                one = one._replace(outcome=horizon.reject(one.message, outcome, time))
        told.append(one)
    return told


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


def _stored(cursor: psycopg.Cursor[Any], sound: Sequence[_Waiting]) -> dict[Key, list[datetime]]:
    """Those whose uplink or event is in the store, and where: under any time it can have been given."""
    assigned = assigned_times(cursor, [one.key for one in sound])
    asked: list[tuple[Key, datetime]] = []
    for one in sound:
        assert not isinstance(one.outcome, Reject)
        ns_time = one.outcome.ns_time if isinstance(one.outcome, Uplink) else None
        times = (
            settle(one.outcome.time, ns_time, one.message.received_at)[0],
            own_time(one.outcome.time, ns_time)[0],
            assigned.get(one.key),
        )
        asked += [(one.key, time) for time in times if time is not None]
    found: dict[Key, list[datetime]] = {}
    for key, time in stored_under(cursor, asked):
        found.setdefault(key, []).append(time)
    return found


def _reject_again(
    cursor: psycopg.Cursor[Any], one: _Waiting, undecoded: Decoded | None, now: datetime
) -> None:
    outcome = one.outcome
    if not isinstance(outcome, Reject):
        reason, detail = (
            "not_storable",
            "the database cannot take what the message holds; ingest logged why it was refused",
        )
        if undecoded is not None:
            reason, detail = undecoded.retry or "", undecoded.problem or ""
        outcome = Reject(
            key=message_key(one.message),
            reason=reason,
            detail=detail,
            dev_eui=outcome.dev_eui,
            network=outcome.network,
        )
    field = None if outcome.field is None else storable(outcome.field)
    why = (outcome.reason, field, outcome.detail, outcome.dev_eui, outcome.network)
    cursor.execute(_AGAIN, (now, *why, one.id))
