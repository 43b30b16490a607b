"""A person's word on readings holds: against the tests, for what comes late, before it could page."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest

from ingest import quality_job
from ingest.increments import IncrementJob
from ingest.quality_job import QualityJob
from ingest.recalibrate import Recalibrator
from telemetry.clock import micros
from telemetry.store import lanes
from telemetry.store.pool import Pool
from tests.ingest.judging import (
    LEVEL,
    SPIKE,
    TIPS,
    asks,
    catch_up,
    flags,
    found,
    level,
    override,
    stand,
    wrong,
)
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import writer

Database = psycopg.Connection[dict[str, Any]]


async def test_a_persons_word_holds_for_what_comes_late(
    database: Database, database_url: str, pool: Pool
) -> None:
    device = register(database, LEVEL)
    stand(database, device, "here", asks(**SPIKE))
    with writer(database_url, CODECS) as commit:
        commit(*(level(n, value) for n, value in enumerate([1.0, 9.0, 1.0, 1.0, 1.0])))
        await catch_up(pool)
        override(database, device, "water.level", at(1), at(3), 1)
        override(database, device, "water.level", at(2), at(4), 4)
        await catch_up(pool)
        assert flags(database) == [1, 1, 4, 4, 1], "the newest holds"
        assert found(database)[1]["override"] == "SUSPECT"
        commit(level(2.5, 7.0))
        await catch_up(pool)
        assert flags(database) == [1, 1, 4, 4, 4, 1]
        database.execute(
            "UPDATE quality_override SET withdrawn_at = now(), withdrawn_by = 'x' WHERE quality = 4"
        )
        await catch_up(pool)
    assert flags(database) == [1] * 6, "the other one holds again"
    assert wrong(database) == []


async def test_what_a_person_failed_until_further_notice_never_stands_as_good(
    database: Database, database_url: str, pool: Pool
) -> None:
    """Or it would page: ingest, increments and calibrations commit it with the person's flag."""
    device = register(database, LEVEL, TIPS)
    for metric in ("water.level", "rain.increment"):
        override(database, device, metric, at(1), None, 4)
    counts = [100, 110, 3, 4]
    with writer(database_url, CODECS) as commit:
        commit(*(frame(f"{n}", n, {"level": 1.0, "tips": count}) for n, count in enumerate(counts)))
    assert flags(database) == [1, 4, 4, 4]
    await IncrementJob(pool, writer="increments").step()
    assert flags(database, "rain.increment") == [4, 4, 4]
    database.execute(
        "INSERT INTO calibration (device_id, metric_id, channel, valid_from, definition)"
        " SELECT %s, id, 0, %s, '{\"gain\": 2}' FROM metric WHERE key = 'water.level'",
        (device, at(0)),
    )
    while await Recalibrator(pool, writer="calibrate").step():
        pass
    assert flags(database) == [1, 4, 4, 4]
    told = database.execute("SELECT readings FROM lane_batch").fetchall()
    every = np.concatenate([lanes.unpack(row["readings"]) for row in told])
    judged = database.execute("SELECT DISTINCT metric_id FROM quality_override").fetchall()
    mine = np.isin(every["metric_id"], [row["metric_id"] for row in judged])
    assert set(every["quality"][mine & (every["time"] >= micros(at(1)))]) == {4}
    database.execute("UPDATE quality_override SET withdrawn_at = now(), withdrawn_by = 'x'")
    await catch_up(pool)
    assert flags(database) == [1, 1, 1, 1]
    assert flags(database, "rain.increment") == [1, 3, 1], "the restart is not forgotten"
    assert wrong(database) == []


async def test_a_persons_word_goes_before_the_catalogues(
    database: Database, database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_job, "ORDERS_SECONDS", 0)
    device = register(database, LEVEL)
    with writer(database_url, CODECS) as commit:
        commit(level(0, 1.0))
        await catch_up(pool)
    database.execute(
        "INSERT INTO quality_job (device_id, valid_from, why, priority)"
        " SELECT %s, %s, 'checks of the catalogue', 3 FROM generate_series(1, 20)",
        (device, at(0)),
    )
    override(database, device, "water.level", at(0), None, 4)
    await QualityJob(pool).step()
    assert flags(database) == [4]
