"""The ingest process: a source, the batcher, and the workers beside them."""

from __future__ import annotations

import asyncio
import gc
import sys

import psycopg
import structlog

from telemetry.clock import Clock
from telemetry.errors import QuantracError
from telemetry.settings import StoreSettings, load
from telemetry.store.pool import connect, worker_limits, writer_limits

from . import adapters
from .batcher import Batcher
from .codecs import open_codecs
from .horizon import horizon_of
from .members import Member
from .qos_watch import QosWatch
from .settings import IngestSettings
from .sources.mqtt import MqttSource
from .sources.tts_settings import TtsStorageSettings
from .sources.tts_storage import TtsBackfill
from .transaction import BatchWriter
from .workers import Workers

_log = structlog.get_logger()
DRAIN_SECONDS = 20.0
# The writer's thread mostly waits for the database and computes little in between; at the default of 5 ms
# each such step would wait for the loop's thread that long, with the transaction open.
_SWITCH_SECONDS = 0.001
_GC = (50_000, 20, 100)  # what a message leaves is freed by counting; the default looks every 700 objects


async def run(settings: IngestSettings, store: StoreSettings, clock: Clock, stop: asyncio.Event) -> None:
    """Ingest until `stop` is set, then drain: commit what was taken, ack it, leave the rest to the broker.

    Raises:
        SettingsError: the adapters' file or a storage to read from is named wrongly.
        QuantracError: the writer ended by itself; nothing would be stored any more, so the process must end.
    """
    for problem in adapters.configure(load(adapters.AdapterSettings)):
        _log.warning("plugin_unusable", problem=problem)
    codecs, javascript = await asyncio.to_thread(open_codecs, settings)
    gc.freeze()
    gc.set_threshold(*_GC)
    sys.setswitchinterval(_SWITCH_SECONDS)

    def open_connection() -> psycopg.Connection[tuple[object, ...]]:
        return connect(store.database_url, application="quantrac ingest", limits=writer_limits(store))

    def open_worker() -> psycopg.Connection[tuple[object, ...]]:
        return connect(store.database_url, application="quantrac ingest", limits=worker_limits(store))

    writer = BatchWriter(
        open_connection,
        writer=settings.mqtt_client_id,
        codecs=codecs,
        keep_messages=settings.keep_messages,
        clock=clock,
        javascript=javascript,
        horizon=horizon_of(store, clock),
    )
    batcher = Batcher(writer, batch_size=settings.batch_size, max_message=settings.max_message)
    backfill = TtsBackfill(
        load(TtsStorageSettings), batcher.submit, open_connection, clock, mqtt_url=settings.mqtt_url
    )
    qos, gap = QosWatch(), asyncio.Event()
    member = Member(open_connection, settings, clock, qos, gap.set)
    source = MqttSource(settings, batcher.add, clock, member, qos)
    batcher.on_crowd = source.throttle
    workers = Workers(settings, store, clock, codecs, javascript, open_worker)
    workers.start()
    filling = asyncio.create_task(backfill.run(stop, gap), name="ingest-backfill")
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
        workers.stop()
        source.pause()
        await asyncio.wait((following, filling), timeout=DRAIN_SECONDS)
        drained = await batcher.close(DRAIN_SECONDS)
        if drained:
            await source.acked(DRAIN_SECONDS)
        await source.close()
        ended.cancel()
        await member.close()
        await workers.ended(DRAIN_SECONDS)
        await asyncio.to_thread(javascript.close)
        await asyncio.wait((ended,))
        _log.info("ingest_stopped", drained=drained)
