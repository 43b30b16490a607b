"""The river, and an engine on its database."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from alerting.engine import Engine
from telemetry.store.pool import Pool

from .river import River


@pytest.fixture
def river(database: psycopg.Connection[dict[str, Any]]) -> River:
    return River(database)


@pytest.fixture
def engine(pool: Pool) -> Engine:
    return Engine(pool)
