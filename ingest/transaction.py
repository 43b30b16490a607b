"""One batch of outcomes as one transaction, and what to do when the database objects to it."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString, NamedTuple, Protocol, TypeVar

import numpy as np
import psycopg
import structlog

from decoders.registry import Registry
from telemetry.clock import Clock, micros
from telemetry.model import Event, Key, RawMessage, Reject, Uplink, UplinkFlag, message_key
from telemetry.store.lanes import together
from telemetry.store.registry import DeviceRow, add_unregistered
from telemetry.store.writer import (
    HELD_UP,
    Rows,
    UplinkIds,
    Written,
    assigned_times,
    jsonb,
    new_ids,
    registry_version,
    write,
)

from . import moments
from .directory import Directory, read_directory
from .faults import blames_content, one_line
from .held_up import BRIEFLY, probe, store_in_parts
from .horizon import TOO_OLD, Horizon, no_horizon
from .javascript import NONE, Answers, JavaScript, Outcomes, Unasked
from .layout import Item, calls, lay_out, sort, unique
from .metrics import LAG, REJECTED
from .text import clean, storable

_log = structlog.get_logger()
_BATCHES_AHEAD = 3  # that ids are held for
_BRIEF_SECONDS = 60.0  # that nobody is waited for as long again, once a lock held a batch up
T = TypeVar("T")


class Compute(Protocol):
    """Runs what takes the processor and waits for nothing, where that is best run."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


def _here(work: Callable[[], T]) -> T:
    return work()


class Committed(NamedTuple):
    """A batch's fate; `duplicates` were stored before or came twice in it."""

    written: Written
    duplicates: int


class Prepared(NamedTuple):
    """Rows laid out ahead: right while the registry has this version and no time is assigned to a key.

    The rows of `pending` are not among them: their codecs are JavaScript and have yet to be asked.
    """

    version: int
    keys: Sequence[Key]
    rows: Rows
    pending: Sequence[Item] = ()

    @staticmethod
    def join(parts: Sequence[Prepared]) -> Prepared | None:
        """The parts of one batch; None where they do not fit together."""
        if len(parts) == 1:
            return parts[0]
        keys = [key for part in parts for key in part.keys]
        if len({part.version for part in parts}) != 1 or len(set(keys)) != len(keys):
            return None
        rows = [part.rows for part in parts]
        return Prepared(
            parts[0].version,
            keys,
            Rows(
                [row for part in rows for row in part.uplinks],
                [document for part in rows for document in part.uplinks_copy],
                together([part.readings for part in rows]),
                [event for part in rows for event in part.events],
                [reject for part in rows for reject in part.rejects],
                [kept for part in rows for kept in part.messages],
                {device for part in rows for device in part.logging},
                [undecoded for part in rows for undecoded in part.undecoded],
                {counter for part in rows for counter in part.counters},
            ),
            [item for part in parts for item in part.pending],
        )


class BatchWriter:
    """Writes batches over one connection, as one writer with one lane. Not for two threads at once."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        writer: str,
        codecs: Registry,
        keep_messages: bool,
        clock: Clock | None = None,
        javascript: JavaScript | None = None,
        horizon: Callable[[], Horizon] = no_horizon,
        put_aside: bool = True,
    ) -> None:
        """With a clock it measures the lag of what it stores: not for messages that are old on purpose.
        Without `javascript`, frames that need it are stored without readings. Before the `horizon` nothing is
        stored. What somebody's lock holds up is `put_aside` as rejects that wait; else `commit` raises."""
        self._connect = connect
        self._writer = writer
        self._codecs = codecs
        self._keep_messages = keep_messages
        self._clock = clock
        self._javascript = javascript
        self._horizon = horizon
        self._put_aside = put_aside
        self._limits: LiteralString | None = None  # of the present transactions
        self._brief_until = 0.0  # on the monotonic clock
        self._answers = Answers(javascript)
        self._directory = Directory()
        self._ids = UplinkIds()
        self._compute: Compute = _here
        self._connection: psycopg.Connection[Any] | None = None

    def prepare(self, items: Sequence[Item]) -> Prepared | None:
        """The rows of a batch or a part of one, ahead of its turn; None when the database has to be asked.

        May be called while `commit` runs in another thread.
        """
        try:
            directory, items = self._directory, unique(items)
            pending = [item for item in items if _is_scripted(item, directory)] if directory.scripted else []
            if pending:
                items = [item for item in items if not _is_scripted(item, directory)]
            prepared = self._laid_out(items, directory, NONE)
        except Exception:  # `commit` stumbles over that message too, finds it and stores the others
            return None
        return prepared and prepared._replace(pending=pending)

    def commit(
        self, items: Sequence[Item], prepared: Prepared | None = None, compute: Compute = _here
    ) -> Committed:
        """Store a batch; on return it is committed. A row the database cannot take becomes a reject.

        `prepared` are its rows, where they could be laid out ahead. `compute` runs what takes the processor
        and waits for nothing: decoding and laying out the rows.

        Raises:
            psycopg.Error: the database is away, busy or not migrated; the same batch may be tried again.
        """
        self._compute = compute
        try:
            if prepared is not None and prepared.pending:
                prepared = self._completed(prepared)
            written = self._commit_unique(unique(items), prepared)
        finally:
            self._answers.forget()
        return Committed(written, len(items) - sum((written.uplinks, written.events, written.rejects)))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _laid_out(self, items: Sequence[Item], directory: Directory, outcomes: Outcomes) -> Prepared | None:
        batch = sort(items)
        times, horizon = moments.told(batch.timed), self._horizon()
        if times is None or horizon.passed(times):
            return None
        if any(
            outcome.dev_eui is not None and outcome.dev_eui not in directory.devices
            for _, outcome in batch.timed
        ):
            return None
        ids = self._ids.take(len(batch.uplinks))
        if ids is None:
            return None
        rows = lay_out(
            batch,
            directory,
            directory.devices,
            ids,
            times,
            outcomes,
            keep_messages=self._keep_messages,
            horizon=horizon,
        )
        return Prepared(directory.version, [outcome.dedup_key for _, outcome in batch.timed], rows)

    def _completed(self, prepared: Prepared) -> Prepared | None:
        """With the rows of what is pending; None when the database has to be asked first."""
        directory = self._directory
        try:
            batch = sort(prepared.pending)
            times = moments.told(batch.timed)
            if times is None or prepared.version != directory.version:
                return None
            asked = calls(batch, directory, directory.devices, times)
            self._answers.fetch(Unasked(directory.version, asked))
            outcomes = self._answers.to(directory.version, asked)
            rest = self._compute(lambda: self._laid_out(prepared.pending, directory, outcomes))
        except Exception:  # as in `prepare`
            return None
        return rest and Prepared.join([prepared._replace(pending=()), rest])

    def _commit_unique(self, items: Sequence[Item], prepared: Prepared | None = None) -> Written:
        limits = BRIEFLY if time.monotonic() < self._brief_until else None
        try:
            return self._store(items, prepared, limits)
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
            if isinstance(error, psycopg.errors.LockNotAvailable):
                probe(self._open())
                self._brief_until = time.monotonic() + _BRIEF_SECONDS
            _log.warning("batch_held_up", error=one_line(error), messages=len(items))
            written, locked = store_in_parts(items, lambda part, limits: self._store(part, None, limits))
            if not locked:
                return written
            aside = [
                (message, _reject(message, outcome, HELD_UP, error))
                for message, outcome in locked
                if not isinstance(outcome, Reject)
            ]
            if not self._put_aside or len(aside) < len(locked):
                raise
            _log.warning("put_aside", error=one_line(error), messages=len(aside))
            REJECTED.labels(HELD_UP).inc(len(aside))
            return _sum(written, self._transact(aside, None, careful=True))

    def _store(
        self, items: Sequence[Item], prepared: Prepared | None = None, limits: LiteralString | None = None
    ) -> Written:
        self._limits = limits
        try:
            try:
                return self._transact(items, prepared, careful=False)
            except psycopg.errors.UniqueViolation:
                return self._transact(items, prepared, careful=True)
        except Exception as error:
            if not blames_content(error):
                raise
            return self._isolate(items, error)

    def _isolate(self, items: Sequence[Item], error: Exception) -> Written:
        if len(items) > 1:
            middle = len(items) // 2
            return _sum(*(self._store(half, None, self._limits) for half in (items[:middle], items[middle:])))
        message, outcome = items[0]
        if isinstance(outcome, Reject):
            raise error
        reject = _reject(message, outcome, "not_storable", error)
        _log.info(
            "not_storable", detail=reject.detail, dev_eui=reject.dev_eui, dedup_key=outcome.dedup_key.hex()
        )
        REJECTED.labels(reject.reason).inc()
        return self._transact([(message, reject)], None, careful=True)

    def _transact(self, items: Sequence[Item], prepared: Prepared | None, *, careful: bool) -> Written:
        while True:
            try:
                return self._attempt(items, prepared, careful=careful)
            except Unasked as unasked:
                self._answers.fetch(unasked)

    def _attempt(self, items: Sequence[Item], prepared: Prepared | None, *, careful: bool) -> Written:
        connection = self._open()
        try:
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                if self._limits is not None:
                    cursor.execute(self._limits)
                version = registry_version(cursor)
                if version != self._directory.version:
                    self._directory = read_directory(cursor, self._codecs, version, self._javascript)
                newcomers: dict[str, DeviceRow] = {}
                spare: list[int] = []
                if prepared and prepared.version == version and not assigned_times(cursor, prepared.keys):
                    rows = prepared.rows
                else:
                    newcomers = self._add_newcomers(cursor, items)
                    rows, spare = self._rows(cursor, items, newcomers)
                written = write(cursor, self._writer, rows, careful=careful)
                spare += new_ids(cursor, _BATCHES_AHEAD * len(items) - len(self._ids) - len(spare))
        except BaseException as error:
            if isinstance(error, psycopg.Error) and not isinstance(
                error, psycopg.IntegrityError | psycopg.DataError
            ):
                self.close()
            raise
        self._ids.hold(spare)
        self._directory.add(newcomers.values())
        found_here = [row.reject.reason for _, row in rows.undecoded]
        for reason in (*found_here, *(r.reject.reason for r in rows.rejects if r.reject.reason == TOO_OLD)):
            REJECTED.labels(reason).inc()
        if self._clock is not None and written.uplinks == len(rows.uplinks) > 0:
            now = micros(self._clock.now())
            LAG.observe_many((now - np.array([row.time for row in rows.uplinks])) / 1e6)
        return written

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _add_newcomers(self, cursor: psycopg.Cursor[Any], items: Sequence[Item]) -> dict[str, DeviceRow]:
        unknown: dict[str, tuple[str, str, Any, bool]] = {}
        for _, outcome in items:
            if (
                isinstance(outcome, Reject)
                or outcome.dev_eui is None
                or outcome.dev_eui in self._directory.devices
            ):
                continue
            simulated = (
                outcome.simulated
                if isinstance(outcome, Event)
                else bool(outcome.flags & UplinkFlag.SIMULATED)
            )
            eui, origin = outcome.dev_eui, clean(outcome.origin)
            unknown.setdefault(eui, (eui, origin.get("name", ""), jsonb(origin), simulated))
        return (
            {row.dev_eui: row for row in add_unregistered(cursor, list(unknown.values()))} if unknown else {}
        )

    def _rows(
        self, cursor: psycopg.Cursor[Any], items: Sequence[Item], newcomers: dict[str, DeviceRow]
    ) -> tuple[Rows, list[int]]:
        """The rows, and ids that were fetched for them and not used."""
        directory, batch = self._directory, sort(items)
        times, horizon = moments.decided(cursor, batch.timed), self._horizon()
        if horizon.passed(times):
            batch, times = moments.within(cursor, batch, times, horizon)
        devices: Mapping[str, DeviceRow] = directory.devices
        if newcomers:
            devices = ChainMap(newcomers, directory.devices)
        outcomes = self._answers.to(directory.version, calls(batch, directory, devices, times))
        count, spare = len(batch.uplinks), []
        ids = self._ids.take(count)
        if ids is None:
            fetched = new_ids(cursor, count)
            ids, spare = fetched[:count], fetched[count:]
        rows = self._compute(
            lambda: lay_out(
                batch,
                directory,
                devices,
                ids,
                times,
                outcomes,
                keep_messages=self._keep_messages,
                horizon=horizon,
            )
        )
        return rows, spare


def _sum(*written: Written) -> Written:
    return Written(*map(sum, zip(*written, strict=True)))


def _reject(message: RawMessage, outcome: Uplink | Event, reason: str, error: Exception) -> Reject:
    return Reject(
        key=message_key(message),
        reason=reason,
        detail=storable(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"),
        dev_eui=outcome.dev_eui,
        network=outcome.network,
    )


def _is_scripted(item: Item, directory: Directory) -> bool:
    return isinstance(item[1], Uplink) and item[1].dev_eui in directory.scripted
