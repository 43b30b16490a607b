"""Readings that were corrected after the fact: alerts follow, and nobody is woken for what is long past."""

from __future__ import annotations

from datetime import timedelta

from psycopg.types.json import Jsonb

from alerting.engine import Engine
from ingest.recalibrate import Recalibrator
from telemetry.store.pool import Pool

from .river import River, drain


async def test_a_calibration_adds_and_withdraws_as_late_data(
    river: River, engine: Engine, pool: Pool
) -> None:
    river.send((300, 104.0), (290, 104.2), (280, 104.0), (270, 103.0))
    await drain(engine)
    assert river.standing() == []
    river.database.execute(
        "INSERT INTO calibration (device_id, metric_id, valid_from, definition) VALUES (%s, %s, %s, %s)",
        (river.device, river.metric, river.now - timedelta(minutes=295), Jsonb({"offset": 0.5})),
    )
    await _correct(pool)
    await drain(engine)
    assert river.standing() == [(290, "opened", 1), (270, "resolved", 0)]
    assert river.sent() == []
    river.database.execute("DELETE FROM calibration")
    await _correct(pool)
    await drain(engine)
    assert river.standing() == []
    assert [state for state, *_ in river.alerts()] == ["withdrawn"]
    assert river.sent() == []


async def _correct(pool: Pool) -> None:
    while await Recalibrator(pool, writer="calibrate").step():
        pass
