"""What runs beside the hot path, in a thread and loop of its own: its steps must not hold up a message.

All ingest processes have the same workers; each piece of work is one process's at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString

import psycopg
import structlog

from decoders.registry import Registry
from telemetry.clock import Clock
from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool, async_pool, worker_limits

from . import increments, quality_job, recalibrate, redecode
from .decode_jobs import ANY_WAITING
from .expiry import RejectExpiry
from .horizon import horizon_of
from .increments import IncrementJob
from .javascript import JavaScript
from .latest import keep_latest
from .link_job import LinkJob
from .quality_job import QualityJob
from .recalibrate import Recalibrator
from .redecode import Redecoder
from .repeat import repeat, step_by_step
from .retry import Retrier
from .settings import IngestSettings
from .upkeep import Upkeep

_log = structlog.get_logger()
_SOON = 2.0  # seconds between looks for work that somebody asked for
_HOURLY = 3600.0
_REJECTS = "SELECT FROM reject WHERE state = 'waiting' LIMIT 1"


class Workers:
    """Frames to decode again, rejects to retry or forget, what is kept no longer, the link's history, the
    newest readings, what a changed calibration touches, increments, and the quality tests that need more than
    one reading."""

    def __init__(
        self,
        settings: IngestSettings,
        store: StoreSettings,
        clock: Clock,
        codecs: Registry,
        javascript: JavaScript,
        connect: Callable[[], psycopg.Connection[Any]],
    ) -> None:
        name = settings.mqtt_client_id
        self._name = name
        self._store = store
        self._clock = clock
        horizon = horizon_of(store, clock)
        self._redecoder = Redecoder(
            connect,
            writer=f"{name}/again",
            codecs=codecs,
            javascript=javascript,
            share=redecode.SHARE,
            horizon=horizon,
        )
        self._retrier = Retrier(
            connect,
            writer=f"{name}/retry",
            codecs=codecs,
            keep_messages=settings.keep_messages,
            max_message=settings.max_message,
            clock=clock,
            javascript=javascript,
            horizon=horizon,
        )
        self._expiry = RejectExpiry(connect, clock, settings.reject_days)
        self._upkeep = Upkeep(connect, clock, store)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._drained = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="ingest-workers", daemon=True)

    def start(self) -> None:
        """Begin; a database that is away is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """Let each end after the step it is at."""
        self._loop.call_soon_threadsafe(self._stop.set)
        for worker in (self._redecoder, self._retrier, self._expiry, self._upkeep):
            worker.stop()

    async def ended(self, seconds: float) -> None:
        """Nothing more will be stored: wait for the last steps, at most `seconds`."""
        self._loop.call_soon_threadsafe(self._drained.set)
        await asyncio.to_thread(self._thread.join, seconds)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._open())

    async def _open(self) -> None:
        limits = worker_limits(self._store)
        async with async_pool(self._store, application="quantrac ingest workers", limits=limits) as pool:
            await self._work(pool)

    async def _work(self, pool: Pool) -> None:
        def any_of(query: LiteralString) -> Callable[[], Awaitable[bool]]:
            return lambda: _any(pool, query)

        stop = self._stop
        work = {
            "redecode": repeat("redecode", self._redecoder.run_waiting, _SOON, stop, any_of(ANY_WAITING)),
            "retry": repeat("retry", self._retrier.run_waiting, _SOON, stop, any_of(_REJECTS)),
            "expiry": repeat("expiry", self._expiry.run_once, _HOURLY, stop),
            "upkeep": repeat("upkeep", self._upkeep.run_once, _HOURLY, stop),
            "latest": keep_latest(pool, self._drained),
            "link": LinkJob(pool, self._clock).run(stop),
            "calibrate": step_by_step(
                "calibrate",
                Recalibrator(pool, writer=f"{self._name}/calibrate").step,
                stop,
                share=recalibrate.SHARE,
                idle=recalibrate.IDLE_SECONDS,
            ),
            "increments": step_by_step(
                "increments",
                IncrementJob(pool, writer="increments").step,
                stop,
                share=increments.SHARE,
                idle=increments.IDLE_SECONDS,
            ),
            "quality": step_by_step(
                "quality",
                QualityJob(pool).step,
                stop,
                share=quality_job.SHARE,
                idle=quality_job.IDLE_SECONDS,
            ),
        }
        tasks = [asyncio.create_task(task, name=f"ingest-{name}") for name, task in work.items()]
        for task in asyncio.as_completed(tasks):
            try:
                await task
            except Exception:  # the others go on
                _log.exception("worker_ended")
        await self._stop.wait()
        await self._drained.wait()


async def _any(pool: Pool, query: LiteralString) -> bool:
    async with pool.connection() as connection:
        return await (await connection.execute(query)).fetchone() is not None
