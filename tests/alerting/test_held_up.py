"""A series that the database refuses to have evaluated waits, and the others go on."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from alerting.engine import Engine
from telemetry.settings import StoreSettings
from telemetry.store.pool import Limits, async_pool

from .river import River, drain


async def test_a_series_that_the_database_refuses_holds_up_no_other(
    river: River, database_url: str, database: psycopg.Connection[dict[str, Any]]
) -> None:
    """Somebody has locked the alert of one sensor when both rise."""
    now = 0.0
    other = river._one(
        "INSERT INTO device (dev_eui, status, device_type, station_id)"
        " VALUES ('0000000000000002', 'active', 't', %s) RETURNING id",
        river.station,
    )
    settings = StoreSettings(database_url=database_url)
    async with async_pool(settings, application="test", limits=Limits(lock=0.1)) as pool:
        engine = Engine(pool, clock=lambda: now)
        river.send((9, 104.6))
        await drain(engine)
        with psycopg.connect(database_url) as somebody:
            somebody.execute("SELECT FROM alert FOR UPDATE")
            river.send((8, 105.6))
            river.device, first = other, river.device
            river.send((8, 104.7))
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await engine.step()
            await drain(engine)
            assert river.standing() == [(9, "opened", 1), (8, "opened", 1)]
            river.device = first
            river.send((7, 105.7))
            now = 10.0
            await drain(engine)  # tries it, in vain
            assert river.standing() == [(9, "opened", 1), (8, "opened", 1)]
        await drain(engine)
        assert river.standing() == [(9, "opened", 1), (8, "opened", 1)], "not before its time"
        now = 100.0
        await drain(engine)
        assert sorted(river.standing()) == [(8, "escalated", 2), (8, "opened", 1), (9, "opened", 1)]
        assert river.sent() == ["opened", "opened", "escalated"]
        river.send((6, 104.2))
        await drain(engine)
        assert (6, "resolved", 0) in river.standing()
