"""Our own clock steps, back and forth, while messages come, some of them again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from ingest.service import run
from ingest.settings import IngestSettings
from telemetry.clock import SystemClock
from telemetry.settings import StoreSettings
from tests.wait import until

from .stage import CLIENT_ID, Stage

pytestmark = pytest.mark.chaos
HOUR = timedelta(hours=1)


class SteppingClock(SystemClock):
    """The wall clock, wrong by `error`."""

    error = timedelta()

    def now(self) -> datetime:
        return super().now() + self.error


@asynccontextmanager
async def ingest(stage: Stage, clock: SteppingClock) -> AsyncIterator[None]:
    stop = asyncio.Event()
    settings = IngestSettings(mqtt_url=stage.broker.info.urls["ingest"], mqtt_client_id=CLIENT_ID)
    store = StoreSettings(database_url=stage.database.url)
    task = asyncio.create_task(run(settings, store, clock, stop))
    await until(lambda: REGISTRY.get_sample_value("quantrac_ingest_connected"))
    try:
        yield
        assert not task.done()
    finally:
        stop.set()
        await task


async def test_a_clock_that_steps_an_hour_back_and_forth(stage: Stage) -> None:
    clock = SteppingClock()
    sent = []
    async with ingest(stage, clock):
        for error in (0 * HOUR, -HOUR, 0 * HOUR, HOUR, -HOUR, HOUR):
            clock.error = error
            new = stage.make(200)
            sent += new
            await stage.send(new)
            await stage.send(sent)  # the network server repeats itself
            await stage.reaches(len(sent))
        clock.error = timedelta()
        await stage.publish(20)
        await stage.assert_all_stored()
    assert await stage.kept() == []
    assert not stage.database.ask("SELECT 1 FROM reject")
