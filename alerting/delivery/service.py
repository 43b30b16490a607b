"""The delivery process: keeps its slots busy with what is due, and leaves in order."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg
import structlog

from telemetry.clock import Clock
from telemetry.secrets import SecretBox
from telemetry.store.pool import Pool

from . import metrics
from .queue import Job
from .send import Sender
from .settings import DeliverySettings
from .worker import DATABASE_TROUBLE, Worker

log = structlog.get_logger(__name__)

_POLL = 0.1  # seconds between looks at an idle queue
_POLL_MOST = 5.0  # while the database cannot be reached
_GAUGE = 15.0
_GRACE = 8.0  # for tries under way at the end; a container is killed after ten


async def run(
    pool: Pool, settings: DeliverySettings, clock: Clock, box: SecretBox, stop: asyncio.Event
) -> None:
    """Deliver webhooks until `stop` is set; then let the tries under way end, and give back what did not.

    `pool` is open and stays so. An unreachable database is waited for.

    Raises:
        SettingsError: a setting names a file that cannot be used.
    """
    async with Sender(settings) as sender:
        slots = _Slots(Worker(pool, settings, clock, box, sender), settings.webhook_concurrency)
        gauge = asyncio.create_task(_watch_pending(pool), name="pending deliveries")
        log.info("delivery started", slots=settings.webhook_concurrency)
        try:
            await slots.serve(stop)
        finally:
            gauge.cancel()
            await asyncio.gather(gauge, return_exceptions=True)
            await slots.drain(_GRACE)
            log.info("delivery stopped")


class _Slots:
    """The tries under way."""

    def __init__(self, worker: Worker, size: int) -> None:
        self._worker = worker
        self._size = size
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._changed = asyncio.Event()

    async def serve(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait(), name="stop")
        stopping.add_done_callback(lambda _: self._changed.set())
        pause = _POLL
        try:
            while not stop.is_set():
                self._changed.clear()
                try:
                    found = await self._fill(stop)
                    pause = _POLL
                except DATABASE_TROUBLE as error:
                    found = False
                    pause = min(pause * 2, _POLL_MOST)
                    log.warning("database not reachable", error=str(error).strip(), pause=pause)
                if not found:
                    await self._rest(None if len(self._jobs) >= self._size else pause)
        finally:
            stopping.cancel()

    async def drain(self, grace: float) -> None:
        """Wait for what is under way, `grace` seconds at most; then cut it and release its leases."""
        if not self._jobs:
            return
        _, late = await asyncio.wait(self._jobs, timeout=grace)
        left = [self._jobs[task] for task in late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        try:
            await self._worker.release(left)
        except psycopg.Error as error:
            log.warning("leases not released; they run out by themselves", error=str(error).strip())

    async def _fill(self, stop: asyncio.Event) -> bool:
        free = self._size - len(self._jobs)
        if free <= 0:
            return False
        under_way = Counter(job.endpoint_id for job in self._jobs.values())
        jobs = await self._worker.claim(free, under_way)
        if jobs and stop.is_set():
            # Claimed while the word to stop came: another worker may begin them.
            await self._worker.release(jobs)
            return False
        for job in jobs:
            task = asyncio.create_task(self._worker.perform(job), name=f"delivery {job.id}")
            self._jobs[task] = job
            task.add_done_callback(self._done)
        return bool(jobs)

    async def _rest(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _done(self, task: asyncio.Task[None]) -> None:
        job = self._jobs.pop(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease runs out, and the delivery is tried again.
            log.error("delivery broke off", delivery=job.id, exc_info=error)


async def _watch_pending(pool: Pool) -> None:
    while True:
        try:
            async with pool.connection() as conn:
                row = await (
                    await conn.execute(
                        "SELECT count(*) AS n FROM delivery d JOIN endpoint e ON e.id = d.endpoint_id "
                        "WHERE d.state = 'pending' AND e.enabled"
                    )
                ).fetchone()
            metrics.PENDING.set(row["n"] if row else 0)
        except DATABASE_TROUBLE:
            pass  # said once by whoever claims
        await asyncio.sleep(_GAUGE)
