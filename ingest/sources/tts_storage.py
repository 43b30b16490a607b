"""Uplinks that The Things Stack kept while nobody listened, read from its Storage Integration.

Everything is read once, in order of the server's receipt, and overlaps what MQTT and webhooks brought: the
same uplink has the same identity on every way. The place is remembered after COMMIT: a crash costs repeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import httpx
import psycopg
import structlog

from telemetry.clock import Clock
from telemetry.model import RawMessage

from ..metrics import RECEIVED
from .http import tts_device_topic
from .tts_pages import Interrupted, Refused, Stored, opened
from .tts_progress import Connect, Progress
from .tts_settings import Application, TtsStorageSettings

_log = structlog.get_logger()
SOURCE = "tts-storage"
PAGE = 1000
CHUNK = 200
SETTLED = timedelta(minutes=10)
"""The server writes its storage in batches: what it received more recently may not all be there yet."""
OVERLAP = timedelta(milliseconds=1)
LONGEST = timedelta(days=30)
"""The longest that The Things Stack Cloud keeps."""
REFUSED_SECONDS = 600.0
FULL_SECONDS = 1.0
RETRY_SECONDS = (1.0, 300.0)
_TIMEOUT = httpx.Timeout(60, connect=10)

Submit = Callable[[RawMessage], "asyncio.Future[None]"]


class TtsBackfill:
    """Follows the storage of some applications, each on its own. `submit` is the batcher's.

    An application that cannot be read is logged with the cure, and stops neither the others nor ingest.
    """

    def __init__(
        self,
        settings: TtsStorageSettings,
        submit: Submit,
        connect: Connect,
        clock: Clock,
        *,
        mqtt_url: str = "",
    ) -> None:
        """Raises `SettingsError` when a server is named, and an application or a key is missing."""
        self._settings = settings
        self._applications = settings.applications(mqtt_url)
        self._submit = submit
        self._connect = connect
        self._clock = clock

    async def run(self, stop: asyncio.Event, gap: asyncio.Event) -> None:
        """Read at once, whenever `gap` is set (it is cleared), and every so often, until `stop` is set."""
        if not self._applications:
            return
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            wakes = [asyncio.Event() for _ in self._applications]
            tasks = [asyncio.create_task(_spread(gap, wakes), name="tts-gap")]
            for application, wake in zip(self._applications, wakes, strict=True):
                tasks.append(
                    asyncio.create_task(
                        self._follow(client, application, wake), name=f"tts-storage-{application.id}"
                    )
                )
            try:
                await stop.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, client: httpx.AsyncClient, application: Application, wake: asyncio.Event) -> None:
        failures = 0
        while True:
            pause, failed = await self._try(client, application, failures)
            failures = failures + 1 if failed else 0
            if failed:  # a new gap is no reason to ask sooner
                await asyncio.sleep(pause)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), pause)
            wake.clear()

    async def _try(
        self, client: httpx.AsyncClient, application: Application, failures: int
    ) -> tuple[float, bool]:
        """Seconds until the next look, and whether this one failed."""
        least, most = RETRY_SECONDS
        delay = min(least * 2 ** min(failures, 20), most)
        try:
            settled = await self._catch_up(client, application)
        except Refused as error:
            _log.error("tts_storage_refused", application=application.id, error=str(error), cure=error.cure)
            return REFUSED_SECONDS, True
        except (Interrupted, httpx.HTTPError, psycopg.Error) as error:
            delay = max(delay, error.wait or 0) if isinstance(error, Interrupted) else delay
            said = " ".join(f"{type(error).__name__}: {error}".split())
            _log.warning("tts_storage_interrupted", application=application.id, error=said, retry_in=delay)
            return delay, True
        except Exception:
            _log.exception("tts_storage_failed", application=application.id)
            return REFUSED_SECONDS, True
        return self._settings.tts_storage_minutes * 60 if settled else SETTLED.total_seconds(), False

    async def _catch_up(self, client: httpx.AsyncClient, application: Application) -> bool:
        """Read from the remembered place to now. False: look again once the newest gap has settled."""
        progress = Progress(self._connect, application.source)
        try:
            if not await progress.lock():
                return False
            now = self._clock.now()
            start = await self._start(progress, now)
            count = await _Reading(self, client, application, progress, now).to_the_end(start)
            settled = await progress.close_gaps([one.source for one in self._applications], now)
            _log.info("tts_storage_read", application=application.id, since=start.isoformat(), uplinks=count)
            return settled
        finally:
            progress.close()

    async def _start(self, progress: Progress, now: datetime) -> datetime:
        until = await progress.until()
        if until is not None:
            return until
        first = now - timedelta(hours=self._settings.tts_storage_first_hours)
        return max(min(await progress.oldest_gap() or first, first), now - LONGEST)

    async def commit(self, messages: Sequence[RawMessage]) -> None:
        """Return once all of them are committed; what the batcher has no room for is offered again."""
        left = list(messages)
        while left:
            futures = [self._submit(message) for message in left]
            await asyncio.wait(futures)
            left = [message for message, future in zip(left, futures, strict=True) if future.cancelled()]
            if left:
                await asyncio.sleep(FULL_SECONDS)

    def message(self, application: Application, stored: Stored) -> RawMessage:
        RECEIVED.labels(SOURCE, "1").inc()
        topic = tts_device_topic(application.id, application.tenant, stored.device, "up")
        return RawMessage(topic, stored.payload, self._clock.now(), SOURCE, 1)


class _Reading:
    """One look at one application: page after page, `before` our now."""

    def __init__(
        self,
        backfill: TtsBackfill,
        client: httpx.AsyncClient,
        application: Application,
        progress: Progress,
        before: datetime,
    ) -> None:
        self._backfill = backfill
        self._client = client
        self._application = application
        self._progress = progress
        self._before = before
        self._settled = before - SETTLED
        self._count = 0

    async def to_the_end(self, start: datetime) -> int:
        """Read until a page brings nothing newer; returns how many uplinks came.

        A page that is not full does not tell the end: the server may have a limit of its own.
        """
        position = start
        while True:
            number, newest = await self._page(position - OVERLAP)
            if newest is not None and newest > position:
                position = newest
            elif number < PAGE:
                break
            elif newest is None:
                raise Interrupted("a page of uplinks that do not tell when they were received")
            else:
                position += OVERLAP
        await self._progress.save(self._settled)
        return self._count

    async def _page(self, after: datetime) -> tuple[int, datetime | None]:
        number, newest = 0, None
        chunk: list[RawMessage] = []
        async with opened(self._client, self._application, after, self._before, PAGE) as page:
            # Should our clock be ahead, the server has not yet received all there is before our now.
            self._settled = min(self._settled, (page.answered_at or self._before) - SETTLED)
            try:
                async for stored in page.uplinks:
                    number += 1
                    chunk.append(self._backfill.message(self._application, stored))
                    newest = max(filter(None, (newest, stored.received_at)), default=None)
                    if len(chunk) >= CHUNK:
                        await self._keep(chunk, newest)
                        chunk = []
            except (Interrupted, httpx.HTTPError):
                # What came before is whole; else a stream that always breaks off would stand still.
                await self._keep(chunk, newest)
                raise
            await self._keep(chunk, newest)
        return number, newest

    async def _keep(self, chunk: list[RawMessage], newest: datetime | None) -> None:
        await self._backfill.commit(chunk)
        self._count += len(chunk)
        if chunk and newest is not None:
            await self._progress.save(min(newest, self._settled))


async def _spread(gap: asyncio.Event, wakes: Sequence[asyncio.Event]) -> None:
    while True:
        await gap.wait()
        gap.clear()
        for wake in wakes:
            wake.set()
