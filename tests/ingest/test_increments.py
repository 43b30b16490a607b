"""Increments in a real store: whatever order the counts come in, no rain is lost and none invented."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from decoders.javascript.workers import JsWorkers
from ingest import increment_store
from ingest import increments as increments_room
from ingest.increments import IncrementJob
from ingest.javascript import JavaScript
from ingest.pipeline import parse
from ingest.settings import IngestSettings
from ingest.transaction import BatchWriter
from ingest.workers import Workers
from telemetry.clock import ManualClock
from telemetry.model import RawMessage
from telemetry.settings import StoreSettings
from telemetry.store.lanes import unpack
from telemetry.store.pool import Pool, connect
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import keep_latest, writer
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
RECORDS = {"list": "log", "time": "t", "clock": "iso"}
# 100 mm in ten minutes is the most rain.total can grow; it wraps at 51.2 mm.
MAP = (
    {"field": "tips", "metric": "rain.total", "scale": 0.2, "wraps": 256},
    {"field": "tips", "metric": "rain.total", "scale": 0.2, "wraps": 256, "records": RECORDS},
)


@pytest.fixture
def job(pool: Pool) -> IncrementJob:
    return IncrementJob(pool, writer="increments")


def tips(minutes: float, count: int, key: str = "", log: Iterable[tuple[float, int]] = ()) -> RawMessage:
    records = [{"t": at(minute).isoformat(), "tips": logged} for minute, logged in log]
    return frame(f"{minutes} {count} {key}", minutes, {"tips": count, "log": records})


async def follow(job: IncrementJob) -> None:
    while await job.step():
        pass


def rain(database: Database) -> list[tuple[float, float, float | None, int]]:
    """(minute, mm, raw, quality) of the increments."""
    rows = database.execute(
        "SELECT time, round(value::numeric, 6)::float8 AS value, raw, quality FROM reading WHERE metric_id ="
        " (SELECT id FROM metric WHERE key = 'rain.increment') ORDER BY time, value"
    ).fetchall()
    return [(_minute(r["time"]), r["value"], r["raw"], r["quality"]) for r in rows]


def _minute(time: datetime) -> float:
    return (time - at(0)).total_seconds() / 60


def calibrate(
    database: Database, device: int, start: float, end: float | None = None, gain: float = 1
) -> None:
    database.execute(
        "INSERT INTO calibration (device_id, metric_id, channel, valid_from, valid_to, definition)"
        " SELECT %s, id, 0, %s, %s, %s FROM metric WHERE key = 'rain.total'",
        (device, at(start), None if end is None else at(end), Jsonb({"gain": gain})),
    )


async def test_growth_wrap_and_restart(database: Database, database_url: str, job: IncrementJob) -> None:
    register(database, *MAP)
    counts = [(0, 100), (10, 110), (20, 110), (30, 250), (40, 4), (50, 64), (60, 5), (70, 6)]
    with writer(database_url, CODECS) as commit:
        commit(*(tips(*count) for count in counts))
    await follow(job)
    assert rain(database) == [
        (10, 2.0, None, 1), (20, 0.0, None, 1), (30, 28.0, None, 1), (40, 2.0, None, 1), (50, 12.0, None, 1),
        (60, 1.0, None, 3), (70, 0.2, None, 1),
    ]  # fmt: skip
    frames = database.execute(
        "SELECT count(*) AS n FROM reading r JOIN uplink u ON u.id = r.uplink_id AND u.time = r.time"
    ).fetchone()
    assert frames == {"n": 15}, "an increment is of the frame that closes its span"


async def test_a_late_count_splits_an_increment(
    database: Database, database_url: str, job: IncrementJob
) -> None:
    register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        commit(tips(0, 100), tips(60, 110))
        await follow(job)
        await keep_latest(database_url)
        assert rain(database) == [(60, 2.0, None, 1)]
        commit(tips(120, 112, log=[(30, 109)]))
        await follow(job)
        await keep_latest(database_url)
    assert rain(database) == [(30, 1.8, None, 1), (60, 0.2, None, 1), (120, 0.4, None, 1)]
    row = database.execute("SELECT readings FROM latest").fetchone()
    assert row is not None
    assert sorted(round(entry[1], 3) for entry in row["readings"].values()) == [0.4, 22.4]
    lane = database.execute("SELECT readings FROM lane WHERE writer = 'increments'").fetchone()
    assert lane == {"readings": 3}, "as many as there are"


async def test_an_increment_that_is_none_any_more_goes(
    database: Database, database_url: str, job: IncrementJob
) -> None:
    device = register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        commit(tips(0, 100), tips(10, 110), tips(20, 115))
    await follow(job)
    calibrate(database, device, 15)
    await follow(job)
    await keep_latest(database_url)
    assert rain(database) == [(10, 2.0, None, 1)]
    row = database.execute("SELECT readings FROM latest").fetchone()
    assert row is not None
    assert sorted(entry[1] for entry in row["readings"].values()) == [2.0, 23.0]
    assert database.execute("SELECT state, readings FROM calibration_job").fetchall() == [
        {"state": "done", "readings": 1}
    ]


async def test_one_that_goes_keeps_no_other_devices_from_being_told(
    database: Database, database_url: str, job: IncrementJob
) -> None:
    device = register(database, *MAP)
    register(database, *MAP, eui="aabbccddeeff0022")
    with writer(database_url, CODECS) as commit:
        commit(tips(0, 100), tips(60, 110))
        await follow(job)
        commit(*(frame(f"o{n}", 10 * n, {"tips": 7 * n}, eui="aabbccddeeff0022") for n in range(2)))
        commit(tips(50, 200))  # from here to 110 nobody can tell
        await follow(job)
    newest = database.execute(
        "SELECT b.readings FROM lane_batch b JOIN lane l ON l.id = b.lane WHERE writer = 'increments'"
        " ORDER BY b.seq DESC LIMIT 1"
    ).fetchone()
    assert newest is not None
    told = unpack(newest["readings"])
    assert 9 in told["quality"]
    assert set(told["device_id"].tolist()) == {device, device + 1}


async def test_a_gain_corrects_increments_and_not_the_count(
    database: Database, database_url: str, job: IncrementJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(increments_room, "COUNTS", 2)
    device = register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        commit(*(tips(10 * n, 10 * n) for n in range(8)))
        await follow(job)
        calibrate(database, device, 15, 55, gain=1.5)
        await follow(job)
        assert rain(database) == [
            (10, 2.0, None, 1), (30, 3.0, 2.0, 1), (40, 3.0, 2.0, 1), (50, 3.0, 2.0, 1), (70, 2.0, None, 1),
        ]  # fmt: skip
        commit(tips(45, 45))
        await follow(job)
    assert (45, 1.5, 1.0, 1) in rain(database)
    counts = "SELECT count(*) AS n FROM reading WHERE raw IS NOT NULL"
    assert database.execute(counts).fetchone() == {"n": 4}
    database.execute("DELETE FROM calibration")
    await follow(job)
    assert sum(value for _, value, _, _ in rain(database)) == pytest.approx(14.0)


async def test_a_device_that_reports_its_increments_keeps_them(
    database: Database, database_url: str, job: IncrementJob
) -> None:
    register(database, MAP[0], {"field": "fell", "metric": "rain.increment"})
    with writer(database_url, CODECS) as commit:
        commit(*(frame(str(n), n, {"tips": n, "fell": 5.0}) for n in range(3)))
    await follow(job)
    assert [value for _, value, _, _ in rain(database)] == [5.0] * 3


async def test_a_step_that_fails_is_done_again(
    database: Database, database_url: str, job: IncrementJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        commit(tips(0, 100), tips(10, 110))

    async def cut(*_: Any) -> None:
        raise psycopg.OperationalError("server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr(increment_store, "replace", cut)
        with pytest.raises(psycopg.OperationalError):
            await job.step()
    assert rain(database) == []
    await follow(job)
    assert rain(database) == [(10, 2.0, None, 1)]


async def test_a_series_that_cannot_be_worked_out_stops_no_other(
    database: Database, database_url: str, job: IncrementJob
) -> None:
    register(database, *MAP)
    register(database, *MAP, eui="aabbccddeeff0022")
    with writer(database_url, CODECS) as commit:
        commit(tips(0, 100), tips(10, 110))
        commit(*(frame(f"o{n}", 10 * n, {"tips": 7 * n}, eui="aabbccddeeff0022") for n in range(3)))
    database.execute("ALTER TABLE reading ADD CONSTRAINT unlucky CHECK (round(value::numeric, 3) <> 2.0)")
    await follow(job)
    assert rain(database) == [(10, 1.4, None, 1), (20, 1.4, None, 1)]


def _stream() -> list[RawMessage]:
    """Rain over some hours: frames tell what two earlier ones counted; it wraps, restarts and pauses."""
    counts = {0: 20, 10: 25, 20: 60, 30: 160, 40: 240, 50: 10, 60: 70, 200: 90, 210: 3, 220: 4, 230: 9}
    minutes = list(counts)
    messages = []
    for n, minute in enumerate(minutes):
        log = [(minutes[k], counts[minutes[k]]) for k in range(max(0, n - 2), n)] if n % 2 else []
        messages.append(tips(minute, counts[minute], log=log))
    return [*messages, tips(50, 9, key="again")]


@pytest.fixture
def javascript() -> Iterator[JavaScript]:
    with JsWorkers() as workers:
        yield JavaScript(workers)


async def test_the_workers_do_it_beside_ingest(
    database: Database, database_url: str, javascript: JavaScript
) -> None:
    device = register(database, *MAP, {"field": "level", "metric": "water.level"})
    workers = Workers(
        IngestSettings(mqtt_client_id="test"),
        StoreSettings(database_url=database_url),
        ManualClock(at(60)),
        CODECS,
        javascript,
        lambda: connect(database_url, application="test"),
    )
    workers.start()
    try:
        with writer(database_url, CODECS) as commit:
            commit(tips(0, 100), frame("10", 10, {"tips": 110, "level": 3.0}))
        await until(lambda: rain(database) == [(10, 2.0, None, 1)])
        calibrate(database, device, 5, gain=2.0)
        database.execute(
            "INSERT INTO calibration (device_id, metric_id, valid_from, definition)"
            " SELECT %s, id, %s, '{\"gain\": 2}' FROM metric WHERE key = 'water.level'",
            (device, at(0)),
        )
        level = "SELECT value, raw FROM reading WHERE value = 6"
        await until(lambda: database.execute(level).fetchall() == [{"value": 6.0, "raw": 3.0}])
        await until(lambda: rain(database) == [])
        states = database.execute("SELECT DISTINCT state FROM calibration_job").fetchall()
        assert states == [{"state": "done"}]
    finally:
        workers.stop()
        await workers.ended(10)


async def test_order_loss_and_repeats_do_not_matter(
    database: Database, database_url: str, pool: Pool
) -> None:
    """Shuffled, repeated, some lost that a log tells, a new meter told at any moment, passes in between."""
    device = register(database, *MAP)
    stream = _stream()
    loop = asyncio.get_running_loop()
    writers = [
        BatchWriter(
            lambda: connect(database_url, application="test"), writer=name, codecs=CODECS, keep_messages=False
        )
        for name in ("one", "two")
    ]

    async def play(plan: list[tuple[int, list[RawMessage], bool]], told_at: int) -> list[Any]:
        database.execute("TRUNCATE uplink, reading, latest, calibration, calibration_job")
        job = IncrementJob(pool, writer="increments")
        for n, (number, batch, passes) in enumerate(plan):
            if n == told_at:
                calibrate(database, device, 205, gain=2.0)
            writers[number].commit([(m, parse(m, 262_144)) for m in batch])
            if passes:
                await job.step()
                await keep_latest(database_url)
        if told_at >= len(plan):
            calibrate(database, device, 205, gain=2.0)
        await follow(job)
        await keep_latest(database_url)
        newest = database.execute("SELECT newest, readings FROM latest").fetchall()
        return [*rain(database), newest]

    lost = [0, 2, 4, 6, 8]  # whose counts a later frame logs
    lossy = [message for n, message in enumerate(stream) if n not in lost]

    @st.composite
    def plans(draw: st.DrawFn) -> tuple[list[tuple[int, list[RawMessage], bool]], int]:
        sent = draw(st.sampled_from([stream, lossy]))
        order = list(draw(st.permutations([*sent, *draw(st.lists(st.sampled_from(sent), max_size=5))])))
        plan = []
        while order:
            size = draw(st.integers(1, 6))
            plan.append((draw(st.integers(0, 1)), order[:size], draw(st.booleans())))
            del order[:size]
        return plan, draw(st.integers(0, len(plan)))

    expected: list[Any] = []

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plans())
    def check(drawn: tuple[list[tuple[int, list[RawMessage], bool]], int]) -> None:
        assert asyncio.run_coroutine_threadsafe(play(*drawn), loop).result() == expected

    try:
        expected += await play([(0, stream, False)], 0)
        # 20 to 240 and on over the wrap to 70, 20 more, then a new meter: twice 6.
        assert sum(row[1] for row in expected[:-1]) == pytest.approx(0.2 * (220 + 86 + 20) + 0.4 * 6)
        await asyncio.to_thread(check)
    finally:
        for one in writers:
            one.close()


async def test_increments_add_up(database: Database, database_url: str, pool: Pool) -> None:
    """Frames lost (at most three in a row), repeated, shuffled: as much rain as fell between those left."""
    register(database, *MAP)
    loop = asyncio.get_running_loop()
    one = BatchWriter(
        lambda: connect(database_url, application="test"), writer="one", codecs=CODECS, keep_messages=False
    )

    async def play(batches: list[list[RawMessage]]) -> float:
        database.execute("TRUNCATE uplink, reading, latest")
        job = IncrementJob(pool, writer="increments")
        for batch in batches:
            one.commit([(m, parse(m, 262_144)) for m in batch])
            await job.step()
        await follow(job)
        return sum(value for _, value, _, _ in rain(database))

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        fell = data.draw(st.lists(st.integers(0, 15), min_size=4, max_size=30))
        totals = [100 + sum(fell[: n + 1]) for n in range(len(fell))]
        arrives = data.draw(st.lists(st.booleans(), min_size=len(fell), max_size=len(fell)))
        kept = [n for n, here in enumerate(arrives) if here or n % 4 == 0]
        frames = [tips(10 * n, totals[n] % 256) for n in kept]
        order = list(data.draw(st.permutations([*frames, *data.draw(st.lists(st.sampled_from(frames)))])))
        size = data.draw(st.integers(1, len(order)))
        batches = [order[first : first + size] for first in range(0, len(order), size)]
        found = asyncio.run_coroutine_threadsafe(play(batches), loop).result()
        assert found == pytest.approx(0.2 * (totals[kept[-1]] - totals[kept[0]]))

    try:
        await asyncio.to_thread(check)
    finally:
        one.close()
