"""Ingest as a service beside the test, on the test's broker and database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiomqtt
import pytest
from prometheus_client import REGISTRY

from ingest.service import run
from ingest.settings import IngestSettings
from quantrac.embedded import BrokerInfo
from telemetry.clock import SystemClock
from telemetry.mqtt import parse_mqtt_url
from telemetry.settings import StoreSettings
from tests.wait import until

Running = Callable[..., AbstractAsyncContextManager[None]]


@pytest.fixture
def ingest(broker: BrokerInfo, database_url: str) -> Running:
    """`async with ingest(): …` runs the service; leaving drains it."""

    @asynccontextmanager
    async def running(database: str = database_url, **overrides: object) -> AsyncIterator[None]:
        stop = asyncio.Event()
        settings = IngestSettings(
            **{"mqtt_url": broker.urls["ingest"], "mqtt_client_id": "test-ingest", **overrides}  # type: ignore[arg-type]
        )
        task = asyncio.create_task(
            run(settings, StoreSettings(database_url=database), SystemClock(), stop), name="ingest"
        )
        await until(lambda: REGISTRY.get_sample_value("quantrac_ingest_connected"))
        try:
            yield
        finally:
            stop.set()
            await task

    return running


@pytest.fixture
async def publisher(broker: BrokerInfo) -> AsyncIterator[aiomqtt.Client]:
    """Publishes as the network servers do."""
    address = parse_mqtt_url(broker.urls["simulator"])
    async with aiomqtt.Client(
        address.host, address.port, username=address.username, password=address.password
    ) as client:
        yield client
