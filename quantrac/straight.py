"""Messages straight into the pipeline, without a broker: what joins a replay and ingest."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import structlog

from ingest import adapters
from ingest.batcher import Batcher
from ingest.codecs import open_codecs
from ingest.horizon import horizon_of
from ingest.settings import IngestSettings
from ingest.transaction import BatchWriter
from simulators.message import Message
from telemetry.clock import SystemClock
from telemetry.errors import QuantracError, UsageError
from telemetry.model import RawMessage
from telemetry.settings import StoreSettings, load
from telemetry.store.pool import connect, writer_limits

_log = structlog.get_logger()
_BATCHES_WAITING = 4
_BYTES_WAITING = 32 * 2**20
_DRAIN_SECONDS = 60.0


class Straight:
    """A replay's sink: each message goes through the functions of `ingest`, arriving when it says."""

    def __init__(self, batcher: Batcher, most_waiting: int) -> None:
        self._batcher = batcher
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[asyncio.Future[None], int, int]] = deque()
        self._count = self._bytes = 0

    async def put(self, message: Message) -> None:
        """Hand it over; waits while too many are not committed yet."""
        raw = RawMessage(message.topic, message.payload, message.time, "replay", qos=1)
        [(done, count)] = self._batcher.add([raw])
        size = len(message.payload)
        if self._waiting and self._waiting[-1][0] is done:
            _, before, bytes_before = self._waiting.pop()
            self._waiting.append((done, before + count, bytes_before + size))
        else:
            self._waiting.append((done, count, size))
        self._count += count
        self._bytes += size
        while self._count > self._most_waiting or self._bytes > _BYTES_WAITING:
            await self._committed()

    async def drained(self) -> None:
        """Wait until everything is committed."""
        while self._waiting:
            await self._committed()

    async def run(self) -> None:
        """Wait for the writer to end, which it never should.

        Raises:
            QuantracError: it did.
        """
        error = await self._batcher.ended()
        raise QuantracError(f"the writer ended: {type(error).__name__}: {error}") from error

    def cut(self) -> None:
        raise UsageError("--cut-every: there is no connection to cut with --straight")

    async def _committed(self) -> None:
        """Wait for the oldest batch."""
        done, count, size = self._waiting[0]
        await asyncio.wait((done,))
        if done.cancelled():
            raise QuantracError("the writer took no more messages; what is missing can be replayed again")
        self._waiting.popleft()
        self._count -= count
        self._bytes -= size


@asynccontextmanager
async def straight(settings: IngestSettings, store: StoreSettings) -> AsyncIterator[Straight]:
    """A sink into the store, with a lane of its own; its writer and codec workers end with the block.

    Raises:
        SettingsError: the file of declared network servers is wrong.
    """
    for problem in adapters.configure(load(adapters.AdapterSettings)):
        _log.warning("plugin_unusable", problem=problem)
    codecs = await asyncio.to_thread(open_codecs, settings)

    def open_connection() -> psycopg.Connection[Any]:
        return connect(store.database_url, application="quantrac replay", limits=writer_limits(store))

    writer = BatchWriter(
        open_connection,
        writer=f"replay-{socket.gethostname()}",
        codecs=codecs.registry,
        keep_messages=settings.keep_messages,
        javascript=codecs.javascript,
        horizon=horizon_of(store, SystemClock()),
    )
    batcher = Batcher(writer, batch_size=settings.batch_size, max_message=settings.max_message)
    try:
        yield Straight(batcher, settings.batch_size * _BATCHES_WAITING)
    finally:
        await batcher.close(_DRAIN_SECONDS)
        await asyncio.to_thread(codecs.javascript.close)
