"""From a claimed delivery to its recorded result."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import httpx
import psycopg
import structlog

from telemetry.clock import Clock
from telemetry.errors import QuantracError
from telemetry.secrets import SecretBox
from telemetry.store.pool import Pool

from . import metrics, queue
from .queue import Job, Try
from .schedule import Answer, plan
from .send import Sender
from .settings import DeliverySettings
from .sign import sign

log = structlog.get_logger(__name__)

DATABASE_TROUBLE = (psycopg.OperationalError, psycopg.InterfaceError)

_LEASE_MARGIN = timedelta(seconds=30)  # beyond a try's time-out: to write its result
_SLOW = 5.0  # seconds
_RELEASE = 2.0  # seconds to wait for a connection at the end
_BACK_OFF = (0.1, 5.0)  # seconds, first and most


class Worker:
    """Claims, tries and records deliveries; any number of workers may share one database.

    The clock decides what is due and how long leases hold; durations are measured apart from it.
    """

    def __init__(
        self,
        pool: Pool,
        settings: DeliverySettings,
        clock: Clock,
        box: SecretBox,
        sender: Sender,
        *,
        spread: Callable[[], float] | None = None,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._box = box
        self._sender = sender
        self._spread = spread or random.SystemRandom().random
        self._each = settings.webhook_concurrency_each
        self._lease = timedelta(seconds=settings.webhook_timeout) + _LEASE_MARGIN
        self._slow: set[int] = set()
        self._throttled: dict[int, datetime] = {}

    async def claim(self, limit: int, under_way: Mapping[int, int] | None = None) -> list[Job]:
        """Lease at most `limit` deliveries that may go now; `under_way` counts those in hand per endpoint.

        Raises:
            psycopg.Error: the database cannot be asked.
        """
        now = self._clock.now()
        async with self._pool.connection() as conn:
            return await queue.claim(
                conn,
                now=now,
                until=now + self._lease,
                limit=limit,
                each=self._each,
                room=self._room(under_way or {}, now),
            )

    async def perform(self, job: Job) -> None:
        """Try `job` once and record the result, waiting for the database as long as it takes."""
        at = self._clock.now()
        began = time.monotonic()
        try:
            answer = await self._try(job, at)
        except Exception as error:  # nothing foreseen; unrecorded, it would be repeated at each lease's end
            log.exception("webhook try broke off", delivery=job.id)
            answer = Answer(error=f"the try broke off ({type(error).__name__}); see the log")
        took = time.monotonic() - began
        now = self._clock.now()
        result = Try(at, now, round(took * 1000), answer, plan(answer, job.first_at or at, now, self._spread))
        self._learn(job, result, took)
        await self._record(job, result)
        _report(job, result, took)

    async def release(self, jobs: Sequence[Job]) -> None:
        """Give claims back, so that another worker need not wait for their leases to run out."""
        async with self._pool.connection(timeout=_RELEASE) as conn:
            await queue.release(conn, jobs)

    async def _try(self, job: Job, at: datetime) -> Answer:
        body = job.body.encode()
        timestamp = int(at.timestamp())
        try:
            signature = sign(job.message_id, timestamp, body, self._secrets(job, at))
        except QuantracError as error:
            return Answer(error=str(error))
        headers = {
            "content-type": "application/json",
            "webhook-id": job.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature,
        }
        return await self._sender.post(job.url, body, headers)

    def _secrets(self, job: Job, at: datetime) -> list[str]:
        secrets = [self._box.decrypt(job.secret).decode()]
        if job.old_secret is not None and job.old_until is not None and job.old_until > at:
            secrets.append(self._box.decrypt(job.old_secret).decode())
        return secrets

    def _room(self, under_way: Mapping[int, int], now: datetime) -> dict[int, int]:
        self._throttled = {endpoint: until for endpoint, until in self._throttled.items() if until > now}
        room = {endpoint: self._each - count for endpoint, count in under_way.items()}
        # Whoever was slow gets one slot, so that a few dead endpoints cannot hold all the slots there are.
        room |= {endpoint: 1 - under_way.get(endpoint, 0) for endpoint in self._slow}
        return room | dict.fromkeys(self._throttled, 0)

    def _learn(self, job: Job, result: Try, took: float) -> None:
        if took >= _SLOW:
            self._slow.add(job.endpoint_id)
        else:
            self._slow.discard(job.endpoint_id)
        if result.plan.throttle_until is not None:
            self._throttled[job.endpoint_id] = result.plan.throttle_until

    async def _record(self, job: Job, result: Try) -> None:
        wait, most = _BACK_OFF
        write = queue.record
        while True:
            try:
                async with self._pool.connection() as conn:
                    return await write(conn, job, result)
            except DATABASE_TROUBLE as error:
                log.warning("webhook result not stored yet", delivery=job.id, error=str(error).strip())
            except Exception:
                if write is queue.settle:
                    raise
                log.exception("webhook result cannot be stored whole", delivery=job.id)
                write = queue.settle
                continue
            await asyncio.sleep(wait)
            wait = min(wait * 2, most)


def _report(job: Job, result: Try, took: float) -> None:
    outcome = _outcome(result)
    metrics.ATTEMPTS.labels(outcome).inc()
    metrics.DURATION.observe(took)
    if result.plan.delivered:
        metrics.LAG.observe(max((result.now - job.created_at).total_seconds(), 0))
    (log.debug if result.plan.delivered else log.warning)(
        "webhook " + outcome,
        delivery=job.id,
        message=job.message_id,
        type=job.type,
        endpoint=job.endpoint_id,
        host=_host(job.url),
        attempt=job.attempts + 1,
        status=result.answer.status,
        error=result.plan.error,
        next_at=result.plan.next_at and result.plan.next_at.isoformat(),
        ms=result.duration_ms,
    )


def _outcome(result: Try) -> str:
    if result.plan.delivered:
        return "delivered"
    if result.plan.disable is not None:
        return "disabled"
    return "failed" if result.plan.next_at is None else "retry"


def _host(url: str) -> str:
    # Paths and queries of webhook URLs are often secrets.
    try:
        return httpx.URL(url).netloc.decode("ascii")
    except (httpx.InvalidURL, UnicodeError):
        return "?"
