"""Calibrations in a real store: raw and corrected are kept, and a change reaches what is stored."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from ingest import recalibrate
from ingest.pipeline import parse
from ingest.recalibrate import Recalibrator
from ingest.transaction import BatchWriter
from telemetry.store.pool import Pool, connect
from telemetry.store.writer import FENCE
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import keep_latest, writer

Database = psycopg.Connection[dict[str, Any]]
MAP = ({"field": "level", "metric": "water.level"}, {"field": "temp", "metric": "water.temperature"})


def calibrate(
    database: Database, device: int, start: float, end: float | None = None, **definition: Any
) -> int:
    """A calibration of the water level between these minutes."""
    row = database.execute(
        "INSERT INTO calibration (device_id, metric_id, channel, valid_from, valid_to, definition)"
        " SELECT %s, id, 0, %s, %s, %s FROM metric WHERE key = 'water.level' RETURNING id",
        (device, at(start), None if end is None else at(end), Jsonb(definition)),
    ).fetchone()
    assert row is not None
    return int(row["id"])


def levels(database: Database) -> list[tuple[float, float, float | None, int]]:
    """(minute, value, raw, quality)"""
    rows = database.execute(
        "SELECT time, value, raw, quality FROM reading WHERE metric_id ="
        " (SELECT id FROM metric WHERE key = 'water.level') ORDER BY time, value"
    ).fetchall()
    return [(_minute(r["time"]), r["value"], r["raw"], r["quality"]) for r in rows]


def _minute(time: datetime) -> float:
    return (time - at(0)).total_seconds() / 60


async def work_off(pool: Pool) -> int:
    """Steps until no job waits; how many that were."""
    job, steps = Recalibrator(pool, writer="calibrate"), 0
    while await job.step():
        steps += 1
    return steps


def states(database: Database) -> list[tuple[str, int]]:
    rows = database.execute("SELECT state, readings FROM calibration_job ORDER BY id").fetchall()
    return [(row["state"], row["readings"]) for row in rows]


def test_readings_are_corrected_as_they_come(database: Database, database_url: str) -> None:
    device = register(database, *MAP)
    calibrate(database, device, 10, 20, gain=2.0, offset=-1.0)
    calibrate(database, device, 20, points=[[0, 0], [10, 100]])
    with writer(database_url, CODECS) as commit:
        commit(*(frame(str(n), n, {"level": 3.0, "temp": 20.0}) for n in (5, 10, 19, 20, 30)))
    assert levels(database) == [
        (5, 3.0, None, 1), (10, 5.0, 3.0, 1), (19, 5.0, 3.0, 1), (20, 30.0, 3.0, 1), (30, 30.0, 3.0, 1)
    ]  # fmt: skip
    others = "SELECT count(*) AS n FROM reading WHERE value = 20 AND raw IS NULL"
    assert database.execute(others).fetchone() == {"n": 5}


def test_what_lies_beyond_the_range_is_flagged_by_the_corrected_value(
    database: Database, database_url: str
) -> None:
    calibrate(database, register(database, *MAP), 0, gain=1e308)
    with writer(database_url, CODECS) as commit:
        commit(frame("1", 1, {"level": 30.0}), frame("2", 2, {"level": 0.0}))
    (_, high, raw, quality), zero = levels(database)
    assert (high > 1e300, raw, quality) == (True, 30.0, 4)
    assert zero == (2, 0.0, 0.0, 1)


async def test_a_change_reaches_what_it_touches_and_no_more(
    database: Database, database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibrate, "READINGS_A_STEP", 3)
    device = register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        commit(*(frame(str(n), n, {"level": float(n), "temp": 1.0}) for n in range(10)))
    await keep_latest(database_url)
    one = calibrate(database, device, 2, 9, gain=-2.0)
    assert await work_off(pool) == 3
    assert states(database) == [("done", 7)]
    assert levels(database) == [
        (n, n * -2.0, float(n), 1) if 2 <= n < 9 else (n, float(n), None, 1) for n in range(10)
    ]
    database.execute("UPDATE calibration SET valid_to = NULL WHERE id = %s", (one,))
    await work_off(pool)
    assert levels(database)[-1] == (9, -18.0, 9.0, 1)
    await keep_latest(database_url)
    row = database.execute("SELECT readings FROM latest").fetchone()
    assert row is not None
    assert sorted(entry[1] for entry in row["readings"].values()) == [-18.0, 1.0]
    database.execute("DELETE FROM calibration")
    await work_off(pool)
    assert levels(database) == [(n, float(n), None, 1) for n in range(10)]
    assert {state for state, _ in states(database)} == {"done"}


async def test_the_changed_readings_are_on_a_lane(database: Database, database_url: str, pool: Pool) -> None:
    device = register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        commit(frame("1", 1, {"level": 3.0, "temp": 20.0}))
    calibrate(database, device, 0, offset=1.0)
    await work_off(pool)
    row = database.execute("SELECT readings, uplinks FROM lane WHERE writer = 'calibrate'").fetchone()
    assert row == {"readings": 0, "uplinks": 0}
    assert database.execute("SELECT rewritten FROM lane_batch ORDER BY lane, seq").fetchall() == [
        {"rewritten": False}, {"rewritten": True}
    ]  # fmt: skip


def test_periods_that_overlap_are_refused(database: Database) -> None:
    device = register(database, *MAP)
    calibrate(database, device, 0, 10)
    calibrate(database, device, 10)
    with pytest.raises(psycopg.errors.ExclusionViolation, match="holds from"):
        calibrate(database, device, 5, 6)
    with pytest.raises(psycopg.errors.ExclusionViolation, match="further notice"):
        calibrate(database, device, 500)


def test_a_device_can_be_deleted_with_its_calibrations(database: Database) -> None:
    device = register(database, *MAP)
    calibrate(database, device, 0, 10)
    database.execute("DELETE FROM device")
    assert states(database) == []


async def test_a_job_that_is_cut_goes_on_where_it_was(
    database: Database, database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibrate, "READINGS_A_STEP", 2)
    device = register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        commit(*(frame(str(n), n, {"level": float(n)}) for n in range(1, 6)))
    calibrate(database, device, 0, gain=2.0)
    assert await Recalibrator(pool, writer="calibrate").step()

    async def cut(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError("server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr(recalibrate, "commit_derived", cut)
        with pytest.raises(psycopg.OperationalError):
            await Recalibrator(pool, writer="calibrate").step()
    assert [value for _, value, _, _ in levels(database)] == [2.0, 4.0, 3.0, 4.0, 5.0]
    assert await work_off(pool) == 2
    assert [value for _, value, _, _ in levels(database)] == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert states(database) == [("done", 5)]


async def test_a_writer_that_hangs_holds_the_job_up_not_for_long(
    database: Database, database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibrate, "FENCE_SECONDS", 0.2)
    calibrate(database, register(database, *MAP), 0, gain=2.0)
    with connect(database_url, application="hangs") as hanging:
        hanging.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await Recalibrator(pool, writer="calibrate").step()
    assert states(database) == [("waiting", 0)]
    await work_off(pool)
    assert states(database) == [("done", 0)]


async def test_when_it_was_calibrated_does_not_matter(
    database: Database, database_url: str, pool: Pool
) -> None:
    """Frames in any order and batches, calibrations before, between and after them: the same readings."""
    device = register(database, *MAP)
    loop = asyncio.get_running_loop()
    frames = [frame(str(n), n, {"level": float(n), "temp": float(n)}) for n in range(12)]
    periods: list[tuple[float, float | None, dict[str, Any]]] = [
        (2, 5, {"gain": 2.0}), (5, 9, {"offset": -3.0}), (10, None, {"points": [[0, 1], [5, 0], [20, 40]]})
    ]  # fmt: skip
    one = BatchWriter(
        lambda: connect(database_url, application="test"), writer="one", codecs=CODECS, keep_messages=False
    )

    async def play(plan: list[Any]) -> list[Any]:
        database.execute("TRUNCATE uplink, reading, latest, calibration, calibration_job")
        for do in plan:
            if isinstance(do, list):
                one.commit([(m, parse(m, 262_144)) for m in do])
            elif isinstance(do, tuple):
                calibrate(database, device, do[0], do[1], **do[2])
            elif do == "latest":
                await keep_latest(database_url)
            else:
                await Recalibrator(pool, writer="calibrate").step()
        await work_off(pool)
        await keep_latest(database_url)
        latest = database.execute("SELECT newest, readings FROM latest").fetchall()
        return [*levels(database), latest]

    @st.composite
    def plans(draw: st.DrawFn) -> list[Any]:
        left = list(draw(st.permutations(frames)))
        plan: list[Any] = []
        while left:
            size = draw(st.integers(1, 6))
            plan.append(left[:size])
            del left[:size]
        for more in (*periods, "step", "step", "latest"):
            plan.insert(draw(st.integers(0, len(plan))), more)
        return plan

    expected = await play([*periods, frames])
    assert expected[2] == (2, 4.0, 2.0, 1)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plans())
    def check(plan: list[Any]) -> None:
        assert asyncio.run_coroutine_threadsafe(play(plan), loop).result() == expected

    try:
        await asyncio.to_thread(check)
    finally:
        one.close()
