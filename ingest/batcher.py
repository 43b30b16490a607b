"""Gathers messages into transactions: fills one batch while the other commits, in a thread of its own.

That thread waits for the database. Parsing and decoding stay on the loop's, since Python computes in one
thread at a time: two that want to cost a third of the rate in passing the interpreter to and fro.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

import psycopg
import structlog

from telemetry.model import RawMessage, Reject

from .faults import one_line
from .layout import Item
from .metrics import ACK_DELAY, BACKLOG, BATCH, COMMIT, DROPPED, DUPLICATES, REJECTED, RETRIES, STORED
from .pipeline import parse
from .transaction import BatchWriter, Committed, Prepared

_log = structlog.get_logger()
T = TypeVar("T")
CROWDED = 20_000
CROWDED_BYTES = 32 * 2**20
MOST_WAITING = 100_000
MOST_BYTES = 128 * 2**20
_AHEAD = 2  # batches with the writer: the one it commits, and a full one, so that it need not wait for us
_PART = 50  # messages that are worth laying out before their batch is handed over
_ASK_SECONDS = 10.0
_TELL_SECONDS = 60.0


class _Batch:
    """Messages that are committed together; `done` is shared by all who wait for one of them.

    `parts` are its rows as far as they are laid out, None where the database has to be asked first.
    """

    __slots__ = ("began", "bytes", "done", "items", "messages", "parts")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.messages: list[RawMessage] = []
        self.items: list[Item] = []
        self.parts: list[Prepared] | None = []
        self.bytes = 0
        self.began = 0.0
        self.done: asyncio.Future[None] = loop.create_future()


class Batcher:
    """Takes messages on the event loop and gives each a future that is done once it is committed.

    The writer gets whatever waits as soon as it is idle, up to `batch_size` at once: one message alone at low
    load, full batches under pressure. While the database is away it tries the same batch again and
    nothing is reported as done, so nothing is acknowledged. What waits meanwhile is bounded: from `CROWDED`
    messages or `CROWDED_BYTES` of payload on, `on_crowd(True)` asks again and again not to bring more, until
    `on_crowd(False)`; `MOST_WAITING` and `MOST_BYTES` hold against whoever does not listen.
    """

    def __init__(self, writer: BatchWriter, *, batch_size: int, max_message: int) -> None:
        self._writer = writer
        self._batch_size = batch_size
        self._max_message = max_message
        self.on_crowd: Callable[[bool], None] = lambda _: None
        self._asking: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._open = _Batch(self._loop)
        self._full: deque[_Batch] = deque()
        self._handed: deque[_Batch] = deque()
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._waiting = 0
        self._bytes = 0
        self._scheduled = False
        self._told = -_TELL_SECONDS
        self._ended: asyncio.Future[BaseException] = self._loop.create_future()
        self._emptied = asyncio.Event()
        self._stopping = False
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest-writer", daemon=True)
        self._thread.start()

    def submit(self, message: RawMessage) -> asyncio.Future[None]:
        """Queue one message; the future is the caller's own, who may cancel it and be cancelled.

        It is cancelled when the batcher stops before the message could be committed, and at once where no
        more may wait. A QoS 0 message is dropped then instead: nobody could send it again.
        """
        [(future, _)] = self.add([message])
        return asyncio.shield(future)

    def add(self, messages: Sequence[RawMessage]) -> list[tuple[asyncio.Future[None], int]]:
        """The same for many: futures, each with the number of messages it is for, in their order.

        A future is shared by the messages of a batch, so it must not be cancelled.
        """
        if self._waiting >= MOST_WAITING or self._bytes >= MOST_BYTES or self._stopping or self._ended.done():
            return [(self._refused(message), 1) for message in messages]
        given, at = [], 0
        while at < len(messages):
            batch = self._open
            if not batch.messages:
                batch.began = self._loop.time()
            some = messages[at : at + self._batch_size - len(batch.messages)]
            size = sum([len(message.payload) for message in some])
            batch.messages += some
            batch.bytes += size
            self._waiting += len(some)
            self._bytes += size
            if len(batch.messages) >= self._batch_size:
                self._full.append(batch)
                self._open = _Batch(self._loop)
            given.append((batch.done, len(some)))
            at += len(some)
        if not self._scheduled:
            # After whatever else this turn of the loop brings: there may be another read of the socket.
            self._scheduled = True
            self._loop.call_soon(self._hand_over)
        return given

    async def ended(self) -> BaseException:
        """Wait for the writer to end by itself, which it never should; what it stumbled over."""
        return await asyncio.shield(self._ended)

    async def close(self, seconds: float) -> bool:
        """Commit what waits, at most for `seconds`; False when something stayed uncommitted."""
        self._stopping = True
        try:
            async with asyncio.timeout(seconds):
                while self._waiting and not self._ended.done():
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            self._giving_up.set()
        if self._asking is not None:
            self._asking.cancel()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, 10)
        drained = not self._waiting and not self._ended.done()
        for batch in (*self._handed, *self._full, self._open):
            batch.done.cancel()
        return drained

    def _hand_over(self) -> None:
        self._scheduled = False
        while len(self._handed) < _AHEAD:
            if self._full:
                batch = self._full.popleft()
            elif self._open.messages and not self._handed:
                batch, self._open = self._open, _Batch(self._loop)
            else:
                break
            self._lay_out(batch)
            self._handed.append(batch)
            self._queue.put(batch)
        if not self._full:
            self._lay_out(self._open, at_least=_PART)  # while the writer is busy: this one is next
        BACKLOG.set(self._waiting)
        self._watch_crowd()

    def _lay_out(self, batch: _Batch, at_least: int = 1) -> None:
        messages = batch.messages[len(batch.items) :]
        if len(messages) < at_least:
            return
        items = [(message, parse(message, self._max_message)) for message in messages]
        batch.items += items
        if batch.parts is not None:
            part = self._writer.prepare(items)
            batch.parts = None if part is None else [*batch.parts, part]

    def _watch_crowd(self) -> None:
        if self._waiting >= CROWDED or self._bytes >= CROWDED_BYTES:
            self._ask()
        elif self._asking and self._waiting < CROWDED // 2 and self._bytes < CROWDED_BYTES // 2:
            self._asking.cancel()
            self._asking = None
            self.on_crowd(False)

    def _ask(self) -> None:
        self.on_crowd(True)
        if self._asking is not None:
            self._asking.cancel()
        self._asking = self._loop.call_later(_ASK_SECONDS, self._ask)

    def _settle(self, batch: _Batch, committed: bool) -> None:
        self._handed.popleft()
        self._waiting -= len(batch.messages)
        self._bytes -= batch.bytes
        if committed:
            batch.done.set_result(None)
            ACK_DELAY.observe(self._loop.time() - batch.began)
        else:
            batch.done.cancel()
        if not self._waiting:
            self._emptied.set()
        self._hand_over()

    def _refused(self, message: RawMessage) -> asyncio.Future[None]:
        future = self._loop.create_future()
        if message.qos:
            future.cancel()
            return future
        DROPPED.inc()
        future.set_result(None)
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self._told = time.monotonic()
            _log.error("qos_0_dropped", waiting=self._waiting, bytes=self._bytes,
                       cure="bring the database back; QoS 0 messages are lost meanwhile")  # fmt: skip
        return future

    def _run(self) -> None:
        try:
            while (batch := self._queue.get()) is not None:
                self._loop.call_soon_threadsafe(self._settle, batch, self._store(batch))
        except BaseException as error:
            _log.exception("writer_ended")
            self._loop.call_soon_threadsafe(self._end, error)
        finally:
            self._writer.close()

    def _end(self, error: BaseException) -> None:
        for batch in (*self._handed, *self._full, self._open):
            batch.done.cancel()
        self._ended.set_result(error)
        self._emptied.set()

    def _store(self, batch: _Batch) -> bool:
        started, items = time.perf_counter(), batch.items
        prepared = None if batch.parts is None else Prepared.join(batch.parts)
        committed = self._commit_until_done(items, prepared)
        if committed is None:
            return False
        COMMIT.observe(time.perf_counter() - started)
        _count(items, committed)
        return True

    def _on_loop(self, work: Callable[[], T]) -> T:
        """Computes on the loop's thread: two that compute take the interpreter from each other."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def _commit_until_done(self, items: Sequence[Item], prepared: Prepared | None) -> Committed | None:
        delay = 0.1
        while not self._giving_up.is_set():
            try:
                return self._writer.commit(items, prepared, self._on_loop)
            except psycopg.Error as error:
                prepared = None  # whether its ids were committed may be in doubt
                RETRIES.inc()
                _log.warning(
                    "database_unavailable", error=one_line(error), waiting=len(items), retry_in=delay
                )
            self._giving_up.wait(delay)
            delay = min(delay * 2, 5.0)
        return None


def _count(items: Sequence[Item], committed: Committed) -> None:
    BATCH.observe(len(items))
    written = committed.written
    for kind, number in zip(written._fields, written, strict=True):
        if number:
            STORED.labels(kind).inc(number)
    DUPLICATES.inc(committed.duplicates)
    rejects: dict[str, list[tuple[RawMessage, Reject]]] = {}
    for message, outcome in items:
        if isinstance(outcome, Reject):
            rejects.setdefault(outcome.reason, []).append((message, outcome))
    for reason, those in rejects.items():
        REJECTED.labels(reason).inc(len(those))
        message, reject = those[0]
        _log.info("rejected", reason=reason, messages=len(those), detail=reject.detail,
                  dev_eui=reject.dev_eui, topic=message.topic[:200], dedup_key=reject.key.hex())  # fmt: skip
