"""Gathers messages into transactions: fills one batch while the other commits, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import psycopg
import structlog

from telemetry.model import RawMessage, Reject

from .metrics import BACKLOG, BATCH, COMMIT, DROPPED, DUPLICATES, REJECTED, RETRIES, STORED
from .pipeline import parse
from .transaction import BatchWriter, Committed, Item

_log = structlog.get_logger()
_Waiting = tuple[RawMessage, "asyncio.Future[None]"]
MOST_WAITING = 100_000
MOST_BYTES = 64 * 2**20
_TELL_SECONDS = 60.0


class Batcher:
    """Takes messages from the event loop, gives each a future that is done once it is committed.

    The thread writes whatever waits as soon as it is free, up to `batch_size` at once: one message alone at
    low load, full batches under pressure. While the database is away it tries the same batch again
    and nothing is reported as done, so nothing is acknowledged. What waits meanwhile is bounded by
    `MOST_WAITING` messages and `MOST_BYTES` of payload.
    """

    def __init__(self, writer: BatchWriter, *, batch_size: int, max_message: int) -> None:
        self._writer = writer
        self._batch_size = batch_size
        self._max_message = max_message
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._told = -_TELL_SECONDS
        self._ended: asyncio.Future[BaseException] = self._loop.create_future()
        self._changed = threading.Condition()
        self._stopping = False
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest-writer", daemon=True)
        self._thread.start()

    def submit(self, message: RawMessage) -> asyncio.Future[None]:
        """Queue one message; cancelled when the batcher stops before it could be committed.

        Where no more may wait, a QoS 0 message is dropped: nobody could send it again. Any other is
        refused, its future cancelled at once, and the broker has to keep it.
        """
        future = self._loop.create_future()
        with self._changed:
            if self._is_full():
                self._refuse(message, future)
                return future
            self._waiting.append((message, future))
            self._bytes += len(message.payload)
            self._changed.notify()
        BACKLOG.inc()
        return future

    async def ended(self) -> BaseException:
        """Wait for the writer to end by itself, which it never should; what it stumbled over."""
        return await asyncio.shield(self._ended)

    async def close(self, seconds: float) -> bool:
        """Commit what waits, at most for `seconds`; False when something stayed uncommitted."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, seconds)
        if self._thread.is_alive():
            self._giving_up.set()
            await asyncio.to_thread(self._thread.join, 10)
        left, self._waiting = self._waiting, []
        self._cancel(left)
        return not left and not self._giving_up.is_set() and not self._ended.done()

    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_BYTES

    def _refuse(self, message: RawMessage, future: asyncio.Future[None]) -> None:
        if message.qos:
            future.cancel()
            return
        DROPPED.inc()
        future.set_result(None)
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self._told = time.monotonic()
            _log.error("qos_0_dropped", waiting=len(self._waiting), bytes=self._bytes,
                       cure="bring the database back; QoS 0 messages are lost meanwhile")  # fmt: skip

    def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._stopping)
                    if not self._waiting:
                        return
                    batch = self._waiting[: self._batch_size]
                    del self._waiting[: self._batch_size]
                    self._bytes -= sum(len(message.payload) for message, _ in batch)
                self._store(batch)
        except BaseException as error:
            _log.exception("writer_ended")
            self._loop.call_soon_threadsafe(self._cancel, batch)
            self._loop.call_soon_threadsafe(self._ended.set_result, error)
        finally:
            self._writer.close()

    def _store(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        items: list[Item] = [(message, parse(message, self._max_message)) for message, _ in batch]
        committed = self._commit_until_done(items)
        BACKLOG.dec(len(batch))
        if committed is None:
            self._loop.call_soon_threadsafe(self._cancel, batch)
            return
        COMMIT.observe(time.perf_counter() - started)
        _count(items, committed)
        self._loop.call_soon_threadsafe(_resolve, batch)

    def _commit_until_done(self, items: list[Item]) -> Committed | None:
        delay = 0.1
        while not self._giving_up.is_set():
            try:
                return self._writer.commit(items)
            except psycopg.Error as error:
                RETRIES.inc()
                _log.warning(
                    "database_unavailable", error=_one_line(error), waiting=len(items), retry_in=delay
                )
            self._giving_up.wait(delay)
            delay = min(delay * 2, 5.0)
        return None

    @staticmethod
    def _cancel(batch: Sequence[_Waiting]) -> None:
        for _, future in batch:
            future.cancel()


def _resolve(batch: Sequence[_Waiting]) -> None:
    for _, future in batch:
        if not future.done():
            future.set_result(None)


def _count(items: Sequence[Item], committed: Committed) -> None:
    BATCH.observe(len(items))
    written = committed.written
    for kind, number in zip(written._fields, written, strict=True):
        if number:
            STORED.labels(kind).inc(number)
    DUPLICATES.inc(committed.duplicates)
    for message, outcome in items:
        if isinstance(outcome, Reject):
            REJECTED.labels(outcome.reason).inc()
            _log.info("rejected", reason=outcome.reason, detail=outcome.detail, topic=message.topic[:200],
                      dev_eui=outcome.dev_eui, key=str(outcome.key))  # fmt: skip


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
