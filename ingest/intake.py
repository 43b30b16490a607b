"""Messages that are handed over by a caller who waits for the COMMIT: the HTTP intake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import structlog

from telemetry.model import RawMessage
from telemetry.settings import load

from . import adapters
from .batcher import Batcher
from .codecs import Codecs, open_codecs
from .horizon import Horizon, no_horizon
from .metrics import RECEIVED
from .settings import IngestSettings
from .transaction import BatchWriter

_log = structlog.get_logger()


class Intake:
    """The pipeline of `ingest` for one process that is no `ingest`; `writer` names its lane.

    It opens no connection before the first message, and a writer that ends is replaced at the next one.
    """

    def __init__(
        self,
        settings: IngestSettings,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        writer: str,
        horizon: Callable[[], Horizon] = no_horizon,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._writer = writer
        self._horizon = horizon
        self._codecs: Codecs | None = None
        self._batcher: Batcher | None = None
        self._watching: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def take(self, message: RawMessage, seconds: float) -> bool:
        """Whether the message is committed: as an uplink, an event or a reject.

        False: not within `seconds`, or there is no room for it. It may still be committed later, so the
        caller has to send it again and a copy will do no harm.
        """
        RECEIVED.labels("http", str(message.qos)).inc()
        try:
            async with asyncio.timeout(seconds):
                batcher = await self._started()
                if batcher is None:
                    return False
                future = batcher.submit(message)
                await asyncio.wait((future,))
        except TimeoutError:
            return False
        return not future.cancelled()

    async def close(self, seconds: float) -> None:
        """Commit what waits, at most for `seconds`, and take nothing more."""
        async with self._starting:
            self._closed = True
            if self._watching is not None:
                self._watching.cancel()
            if self._batcher is not None:
                drained = await self._batcher.close(seconds)
                _log.info("intake_stopped", drained=drained)
            if self._codecs is not None:
                await asyncio.to_thread(self._codecs.javascript.close)

    async def _started(self) -> Batcher | None:
        async with self._starting:
            if self._batcher is None and not self._closed:
                try:
                    self._batcher = await self._start()
                except Exception as error:  # whatever it is, it is not to stop the process around us
                    _log.error("intake_cannot_start", error=f"{type(error).__name__}: {error}")
                    return None
                self._watching = asyncio.create_task(self._watch(self._batcher), name="intake-writer-ended")
            return None if self._closed else self._batcher

    async def _start(self) -> Batcher:
        settings = self._settings
        if self._codecs is None:
            self._codecs = await asyncio.to_thread(_load, settings)
        writer = BatchWriter(
            self._connect,
            writer=self._writer,
            codecs=self._codecs.registry,
            keep_messages=settings.keep_messages,
            javascript=self._codecs.javascript,
            horizon=self._horizon,
        )
        return Batcher(writer, batch_size=settings.batch_size, max_message=settings.max_message)

    async def _watch(self, batcher: Batcher) -> None:
        error = await batcher.ended()
        _log.error("intake_writer_ended", error=f"{type(error).__name__}: {error}")
        self._batcher = None
        await batcher.close(0)


def _load(settings: IngestSettings) -> Codecs:
    """Codecs and adapters, as `ingest` has them."""
    for problem in adapters.configure(load(adapters.AdapterSettings)):
        _log.warning("plugin_unusable", problem=problem)
    return open_codecs(settings)
