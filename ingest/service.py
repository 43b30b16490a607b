"""The ingest process: a source, the batcher, and the worker that decodes frames again."""

from __future__ import annotations

import asyncio

import psycopg
import structlog

from decoders.registry import load_codecs
from telemetry.clock import Clock
from telemetry.errors import QuantracError
from telemetry.settings import StoreSettings
from telemetry.store.pool import connect

from .batcher import Batcher
from .redecode import Redecoder
from .settings import IngestSettings
from .sources.mqtt import MqttSource
from .transaction import BatchWriter

_log = structlog.get_logger()
DRAIN_SECONDS = 20.0
REDECODE_SECONDS = 1.0
REDECODE_RETRY_SECONDS = 3.0


async def run(settings: IngestSettings, store: StoreSettings, clock: Clock, stop: asyncio.Event) -> None:
    """Ingest until `stop` is set, then drain: commit what was taken, ack it, leave the rest to the broker.

    Raises:
        QuantracError: the writer ended by itself; nothing would be stored any more, so the process must end.
    """
    codecs = load_codecs()
    for problem in codecs.problems:
        _log.warning("codec_unusable", problem=problem)

    def open_connection() -> psycopg.Connection[tuple[object, ...]]:
        return connect(store.database_url, application="quantrac ingest")

    batcher = Batcher(
        BatchWriter(
            open_connection,
            writer=settings.mqtt_client_id,
            codecs=codecs,
            keep_messages=settings.keep_messages,
        ),
        batch_size=settings.batch_size,
        max_message=settings.max_message,
    )
    source = MqttSource(settings, batcher.submit, clock)
    redecoder = Redecoder(open_connection, writer=f"{settings.mqtt_client_id}/again", codecs=codecs)
    again = asyncio.create_task(_redecode(redecoder, stop), name="ingest-redecode")
    following = asyncio.create_task(source.run(stop), name="ingest-source")
    ended = asyncio.create_task(batcher.ended(), name="ingest-writer-ended")
    try:
        await asyncio.wait((following, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            error = ended.result()
            raise QuantracError(f"the ingest writer ended: {type(error).__name__}: {error}") from error
        await following
    finally:
        stop.set()
        redecoder.stop()
        source.pause()
        await asyncio.wait((following,), timeout=DRAIN_SECONDS)
        drained = await batcher.close(DRAIN_SECONDS)
        if drained:
            await source.acked(DRAIN_SECONDS)
        await source.close()
        ended.cancel()
        await asyncio.wait((again, ended), timeout=DRAIN_SECONDS)
        _log.info("ingest_stopped", drained=drained)


async def _redecode(redecoder: Redecoder, stop: asyncio.Event) -> None:
    while not stop.is_set():
        pause = REDECODE_SECONDS
        try:
            await asyncio.to_thread(redecoder.run_waiting)
        except psycopg.Error as error:
            pause = REDECODE_RETRY_SECONDS
            _log.debug("redecode_waits", error=" ".join(str(error).split()))
        except Exception:
            pause = REDECODE_RETRY_SECONDS
            _log.exception("redecode_failed")
        try:
            await asyncio.wait_for(stop.wait(), pause)
        except TimeoutError:
            continue
