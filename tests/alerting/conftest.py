"""The river, and an engine on its database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from alerting.engine import Engine
from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool, async_pool

from .river import River


@pytest.fixture
def river(database: psycopg.Connection[dict[str, Any]]) -> River:
    return River(database)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with async_pool(StoreSettings(database_url=database_url), application="test") as opened:
        yield opened


@pytest.fixture
def engine(pool: Pool) -> Engine:
    return Engine(pool)
