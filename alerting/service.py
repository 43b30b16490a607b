"""The alert process: evaluates what ingest commits, a tenth of a second behind."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from telemetry.clock import Clock
from telemetry.settings import StoreSettings
from telemetry.store import lanes
from telemetry.store.pool import Pool, async_pool, worker_limits
from telemetry.waiting import pause

from . import health
from .engine import Engine
from .held_up import REFUSALS
from .metrics import EVALUATED, STEP
from .settings import AlertSettings

_log = structlog.get_logger()
IDLE_SECONDS = 0.1
KEEP_BATCHES = timedelta(hours=24)
PRUNE_SECONDS = 600.0


async def run(settings: AlertSettings, store: StoreSettings, clock: Clock, stop: asyncio.Event) -> None:
    """Evaluate until `stop` is set; a database that is away is waited for."""
    async with async_pool(store, application="quantrac alert", limits=worker_limits(store)) as pool:
        beside = [
            asyncio.create_task(_prune(pool, clock, stop), name="alert-prune"),
            asyncio.create_task(_watch_health(pool, settings, clock, stop), name="alert-health"),
        ]
        try:
            await _follow(Engine(pool), stop)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    _log.info("alert_stopped")


async def _follow(engine: Engine, stop: asyncio.Event) -> None:
    delay = IDLE_SECONDS
    while not stop.is_set():
        try:
            with STEP.time():
                batches = await engine.step()
            EVALUATED.inc(batches)
            delay = 0.0 if batches else IDLE_SECONDS
        except (psycopg.OperationalError, PoolTimeout) as error:
            delay = min(max(delay * 2, 0.2), 5.0)
            what = "step_held_up" if isinstance(error, REFUSALS) else "database_unavailable"
            _log.warning(what, error=" ".join(str(error).split()), retry_in=delay)
        except Exception:
            # A fault of ours or a schema that is not there yet: the step is undone, and alerting must go on.
            delay = min(max(delay * 2, 0.2), 5.0)
            _log.exception("step_failed", retry_in=delay)
        await pause(delay, until=stop)


async def _prune(pool: Pool, clock: Clock, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            async with pool.connection() as connection:
                await lanes.prune(connection, clock.now() - KEEP_BATCHES)
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("prune_waits", error=" ".join(str(error).split()))
        await pause(PRUNE_SECONDS, until=stop)


async def _watch_health(pool: Pool, settings: AlertSettings, clock: Clock, stop: asyncio.Event) -> None:
    watch = health.Watch(timedelta(seconds=settings.member_silent))
    while not stop.is_set():
        try:
            await health.look(pool, watch, clock.now())
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("health_watch_waits", error=" ".join(str(error).split()))
        except Exception:  # a fault of ours here must not end the watch
            _log.exception("health_watch_failed")
        await pause(health.LOOK_SECONDS, until=stop)
