"""Quality tests in a real store: whatever order readings come in, the flags are those of the whole series."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from alerting.engine import Engine
from ingest import quality_job
from ingest.increments import IncrementJob
from ingest.quality_job import QualityJob
from ingest.recalibrate import Recalibrator
from telemetry.store.edition import Edition, detect
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
    marks,
    opened,
    override,
    stand,
    wrong,
)
from tests.ingest.redecoding import redecode
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import keep_latest, writer

Database = psycopg.Connection[dict[str, Any]]
REPORTED = {"field": "rain", "metric": "rain.increment", "channel": 1}
OTHER = "aabbccddeeff0022"
THIRD = "aabbccddeeff0033"


async def test_a_spike_is_known_by_what_comes_behind_it(
    database: Database, database_url: str, pool: Pool
) -> None:
    stand(database, register(database, LEVEL), "here", asks(**SPIKE))
    with writer(database_url, CODECS) as commit:
        commit(level(0, 1.0), level(1, 1.2), level(2, 9.0))
        await catch_up(pool)
        assert flags(database) == [1, 1, 1]
        commit(level(3, 1.1))
        await catch_up(pool)
        await keep_latest(database_url)
        assert flags(database) == [1, 1, 4, 1]
        assert found(database)[2] == {"spike": "FAIL"}
        assert database.execute(
            "SELECT DISTINCT value > 8 AS high FROM reading WHERE quality = 4"
        ).fetchall() == [{"high": True}], "its value stays"
        commit(level(2.5, 8.8))  # late: it was none
        await catch_up(pool)
    assert flags(database) == [1, 1, 1, 1, 1]
    assert found(database) == [{"gap": "SUSPECT"}, *[{}] * 4]
    rewritten = database.execute(
        "SELECT count(*) AS n FROM lane_batch b JOIN lane l ON l.id = b.lane"
        " WHERE writer = 'quality' AND rewritten"
    ).fetchone()
    assert rewritten == {"n": 2}


async def test_neighbours_of_a_group_are_judged_when_one_of_them_tells(
    database: Database, database_url: str, pool: Pool
) -> None:
    checks = {**asks(neighbour={"suspect": 5, "within": 600}, rate_of_change=None), "group": "group"}
    for eui, code in ((OTHER, "one"), (THIRD, "two"), ("aabbccddeeff0044", "three")):
        stand(database, register(database, LEVEL, eui=eui), code, checks)
    with writer(database_url, CODECS) as commit:
        commit(level(0, 1.0, eui=OTHER), level(0, 20.0, eui=THIRD))
        await catch_up(pool)
        assert flags(database) == [1, 1], "one neighbour is not enough"
        commit(level(5, 2.0, eui="aabbccddeeff0044"))
        await catch_up(pool)
    assert flags(database) == [3, 3, 3], "of three that differ all do, from the median of the others"
    with writer(database_url, CODECS) as commit:
        commit(level(6, 1.5, eui=OTHER), level(6, 1.7, eui="aabbccddeeff0044"))
        await catch_up(pool)
    assert wrong(database) == []


async def test_ingest_asks_the_station_of_a_late_readings_time(
    database: Database, database_url: str, pool: Pool
) -> None:
    device = register(database, LEVEL)
    stand(database, device, "narrow", asks(gross_range={"fail": [0, 5]}))
    wide = stand(database, register(database, LEVEL, eui=OTHER), "wide", asks(gross_range={"fail": [0, 50]}))
    database.execute("SELECT set_belonging('device_station', %s, %s, %s, NULL)", (device, wide, at(10)))
    with writer(database_url, CODECS) as commit:
        commit(level(20, 9.0), level(9, 9.0))
        assert flags(database) == [4, 1]
        database.execute("SELECT set_belonging('device_station', %s, %s, %s, NULL)", (device, wide, at(5)))
        commit(level(8, 9.0), level(4, 9.0))
        assert flags(database) == [4, 1, 4, 1]
    await catch_up(pool)
    assert wrong(database) == []


async def test_settings_reach_what_is_stored(database: Database, database_url: str, pool: Pool) -> None:
    device = register(database, LEVEL)
    stand(database, device, "here", {})
    database.execute("UPDATE device_type SET expected_interval = 100000")
    with writer(database_url, CODECS) as commit:
        commit(*(level(n - 30_000, value) for n, value in enumerate([1.0, 1.1, 9.0, 1.1, 1.1, 60.0])))
        await catch_up(pool)
        assert flags(database) == [1, 1, 3, 1, 1, 3], "no more than three metres in ten minutes"
        stand(database, device, "here", asks(**SPIKE, gross_range={"fail": [0, 50]}))
        await catch_up(pool)
        assert flags(database) == [1, 1, 4, 1, 1, 4]
        commit(level(-29_990, 70.0))
    assert flags(database) == [1, 1, 4, 1, 1, 4, 4], "ingest itself knows the station's range"
    await catch_up(pool)
    stand(database, device, "here", asks(rate_of_change=None))
    await catch_up(pool)
    assert flags(database) == [1, 1, 3, 1, 1, 1, 1]
    assert {row["state"] for row in database.execute("SELECT state FROM quality_job").fetchall()} == {"done"}


async def test_readings_are_judged_by_the_station_of_their_time(
    database: Database, database_url: str, pool: Pool
) -> None:
    """A flood at one station is none of the limits of another, to which the device moves."""
    device = register(database, LEVEL)
    stand(database, device, "deep", asks(gross_range={"fail": [0, 20]}, rate_of_change=None))
    with writer(database_url, CODECS) as commit:
        commit(*(level(n - 60, value) for n, value in enumerate([1.0, 15.0, 30.0])), level(60, 15.0))
        await catch_up(pool)
        assert flags(database) == [1, 1, 4, 1]
        stand(database, device, "shallow", asks(gross_range={"fail": [0, 10]}, rate_of_change=None))
        move = "SELECT set_belonging('device_station', %s, id, %s, NULL) FROM station WHERE code = %s"
        database.execute(move, (device, at(-1000), "deep"))
        database.execute(move, (device, at(0), "shallow"))
        await catch_up(pool)
        assert flags(database) == [1, 1, 4, 4]
        database.execute(
            "INSERT INTO calibration (device_id, metric_id, channel, valid_from, definition)"
            " SELECT %s, id, 0, %s, '{\"offset\": 1}' FROM metric WHERE key = 'water.level'",
            (device, at(-1000)),
        )
        while await Recalibrator(pool, writer="calibrate").step():
            pass
        assert flags(database) == [1, 1, 4, 4]
        await catch_up(pool)
        assert wrong(database) == []
        database.execute(move, (device, at(-1000), "shallow"))
        await catch_up(pool)
        assert flags(database) == [1, 4, 4, 4], "it was there all the time"


async def test_who_goes_is_nobodys_neighbour(database: Database, database_url: str, pool: Pool) -> None:
    checks = {
        **asks(neighbour={"suspect": 5, "within": 600, "least": 1}, rate_of_change=None),
        "group": "group",
    }
    gone = register(database, LEVEL, eui=OTHER)
    stand(database, gone, "one", checks)
    stand(database, register(database, LEVEL, eui=THIRD), "two", checks)
    with writer(database_url, CODECS) as commit:
        commit(level(0, 1.0, eui=OTHER), level(0, 20.0, eui=THIRD))
        await catch_up(pool)
    assert flags(database) == [3, 3]
    database.execute("DELETE FROM device WHERE id = %s", (gone,))
    await catch_up(pool)
    assert flags(database)[1:] == [1]


async def test_jobs_leave_each_others_rows_alone(database: Database, database_url: str, pool: Pool) -> None:
    """Increments, calibration, decoding again and quality come to rest; then none of them writes."""
    device = register(database, LEVEL, TIPS)
    rain = {"flat_line": {"tolerance": 0, "suspect": 120, "count": 3}, "gross_range": {"fail": [0, 3]}}
    stand(database, device, "here", {"metrics": {"water.level": SPIKE, "rain.increment": rain}})
    database.execute(
        "INSERT INTO calibration (device_id, metric_id, channel, valid_from, definition)"
        " SELECT %s, id, 0, %s, '{\"gain\": 2}' FROM metric WHERE key = 'water.level'",
        (device, at(4)),
    )
    counts = [100, 110, 120, 130, 140, 3, 4, 4, 30, 31]
    with writer(database_url, CODECS) as commit:
        commit(
            *(frame(f"a{n}", n, {"tips": c, "level": 9.0 if n == 6 else 1.0}) for n, c in enumerate(counts))
        )
    await catch_up(pool)
    assert flags(database, "rain.increment") == [1, 1, 3, 3, 3, 1, 1, 4, 1]
    assert flags(database) == [1, 1, 1, 1, 1, 1, 4, 1, 1, 1]
    before = marks(database)
    database.execute("DELETE FROM follower_cursor")  # all news come again
    redecode(database_url, every_frame=True)
    database.execute("UPDATE calibration SET definition = definition")
    await catch_up(pool)
    assert marks(database) == before
    assert wrong(database) == []


async def test_increments_that_a_device_reports_begin_nothing_anew(
    database: Database, database_url: str, pool: Pool
) -> None:
    """A suspect one is no restart of a counter: with other limits it is good."""
    device = register(database, {"field": "rain", "metric": "rain.increment"})
    doubted = {"metrics": {"rain.increment": {"gross_range": {"fail": [0, 90], "suspect": [0, 3]}}}}
    stand(database, device, "here", doubted)
    with writer(database_url, CODECS) as commit:
        commit(frame("one", 0, {"rain": 5}))
    await catch_up(pool)
    assert flags(database, "rain.increment") == [3]
    assert found(database) == [{"gross_range": "SUSPECT", "gap": "SUSPECT"}]
    stand(database, device, "here", {})
    await catch_up(pool)
    assert flags(database, "rain.increment") == [1]


async def test_an_alert_on_a_spike_is_withdrawn(database: Database, database_url: str, pool: Pool) -> None:
    stand(database, register(database, LEVEL), "here", asks(**SPIKE))
    database.execute(
        "INSERT INTO rule (id, definition) VALUES ('flood', %s)",
        (
            Jsonb(
                {
                    "id": "flood",
                    "name": {"vi": "Lũ", "en": "Flood"},
                    "metric": "water.level",
                    "levels": [{"level": 1, "label": "BĐ1", "value": 5}],
                }
            ),
        ),
    )
    engine = Engine(pool)

    async def alert() -> None:
        while await engine.step():
            pass

    with writer(database_url, CODECS) as commit:
        commit(level(0, 1.0), level(1, 9.0))
        await catch_up(pool)
        await alert()
        assert database.execute("SELECT state FROM alert").fetchall() == [{"state": "firing"}]
        commit(level(2, 1.0))
        await alert()
        await catch_up(pool)
        await alert()
    assert database.execute("SELECT state, late FROM alert").fetchall() == [
        {"state": "withdrawn", "late": True}
    ]
    kinds = database.execute("SELECT kind FROM transition ORDER BY seq").fetchall()
    assert [row["kind"] for row in kinds] == ["opened", "resolved", "withdrawn", "withdrawn"]


async def test_flags_reach_compressed_chunks(database: Database, database_url: str, pool: Pool) -> None:
    with psycopg.connect(database_url) as plain:
        edition = detect(plain)
    if edition is not Edition.COMMUNITY:
        pytest.skip("compresses nothing")
    device = register(database, LEVEL)
    stand(database, device, "here", asks(**SPIKE))
    with writer(database_url, CODECS) as commit:
        commit(*(level(n - 20_000, 1.0) for n in range(0, 60, 2)), level(-19_971, 9.0))
        await catch_up(pool)
        assert flags(database).count(4) == 1
        enabled = database.execute(
            "SELECT compression_enabled AS yes FROM timescaledb_information.hypertables"
            " WHERE hypertable_name = 'reading'"
        ).fetchone()
        if enabled == {"yes": False}:
            database.execute(
                "ALTER TABLE reading SET (timescaledb.compress,"
                " timescaledb.compress_segmentby = 'device_id, metric_id',"
                " timescaledb.compress_orderby = 'time')"
            )
        database.execute("SELECT compress_chunk(c, if_not_compressed => true) FROM show_chunks('reading') c")
        commit(level(-19_955, 9.0))
        override(database, device, "water.level", at(-20_000), at(-19_995), 3)
        await catch_up(pool)
    assert flags(database).count(4) == 2
    assert flags(database)[:4] == [3, 3, 3, 1]
    assert wrong(database) == []


async def test_a_step_that_fails_is_done_again(
    database: Database, database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(database, register(database, LEVEL), "here", asks(**SPIKE))
    with writer(database_url, CODECS) as commit:
        commit(level(0, 1.0), level(1, 9.0), level(2, 1.0))

    async def cut(*_: Any) -> None:
        raise psycopg.OperationalError("server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr(quality_job.store, "write", cut)
        with pytest.raises(psycopg.OperationalError):
            await QualityJob(pool).step()
    assert flags(database) == [1, 1, 1]
    await catch_up(pool)
    assert flags(database) == [1, 4, 1]


async def test_an_order_that_fails_holds_nothing_up(
    database: Database, database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is judged all the same, other orders go on, and after some tries it has failed."""
    here, there = register(database, LEVEL), register(database, LEVEL, eui=OTHER)
    stand(database, here, "here", asks(**SPIKE))
    with writer(database_url, CODECS) as commit:
        commit(level(0, 1.0), level(1, 9.0), level(2, 1.0), level(0, 1.0, "there", eui=OTHER))
    override(database, there, "water.level", at(0), None, 3)
    override(database, here, "water.level", at(0), at(1), 3)
    known = quality_job.orders.find_stretches

    async def held_up(connection: Any, order: Any, after: Any) -> Any:
        if order.device_id == there:
            await connection.execute("SELECT 1 / 0 FROM pg_sleep(0)")
        return await known(connection, order, after)

    def jobs() -> list[tuple[Any, ...]]:
        rows = database.execute(
            "SELECT device_id, state, tries FROM quality_job WHERE priority = 0 ORDER BY id"
        ).fetchall()
        return [tuple(row.values()) for row in rows]

    with monkeypatch.context() as patched:
        patched.setattr(quality_job.orders, "find_stretches", held_up)
        patched.setattr(quality_job, "blames_content", lambda _: False)
        await QualityJob(pool).step()
        assert flags(database) == [3, 4, 1, 3]
        assert jobs() == [(there, "waiting", 1), (here, "waiting", 0)]
        for _ in range(12):
            await QualityJob(pool).step()
    assert jobs() == [(there, "failed", 5), (here, "done", 0)]


_values = st.sampled_from([1.0, 1.2, 2.5, 6.0, 70.0])
_one = st.tuples(st.integers(0, 25), _values, st.sampled_from([OTHER, THIRD]))
_sent = st.lists(_one, min_size=1, max_size=25)


@given(sent=_sent, seed=st.randoms(use_true_random=False), mapped_anew=st.booleans(), said=st.booleans(),
       moved=st.booleans())  # fmt: skip
@settings(
    max_examples=5,  # each plays up to thirty transactions
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_flags_are_those_of_the_sorted_readings(
    database: Database,
    database_url: str,
    sent: list[Any],
    seed: Any,
    mapped_anew: bool,
    said: bool,
    moved: bool,
) -> None:
    """Late, repeated, split, decoded again, overridden or moved meanwhile: stations that are neighbours."""
    database.execute(
        "TRUNCATE uplink, reading, latest, lane, lane_batch, follower_cursor, decode_job, redecoding,"
        " superseded, logged_span, device, station, quality_job, quality_override RESTART IDENTITY CASCADE"
    )
    database.execute("DELETE FROM device_type")
    flat = {"flat_line": {"tolerance": 0.3, "suspect": 240, "fail": 420, "count": 3}}
    attenuated = {"attenuated": {"window": 300, "suspect": 0.5, "count": 3}}
    neighbour = {"neighbour": {"suspect": 4, "within": 120, "least": 1}, "gross_range": {"fail": [0, 50]}}
    rate = {"spike": {"suspect": 1, "fail": 3, "within": 180}, "rate_of_change": {"by": 2, "within": 120}}
    rain = {
        "flat_line": {"tolerance": 0, "suspect": 180, "count": 3},
        "gross_range": {"fail": [0, 60], "suspect": [0, 5]},
    }
    checks = {
        "group": "group",
        "metrics": {"water.level": {**flat, **attenuated, **neighbour, **rate}, "rain.increment": rain},
    }
    other = {"group": "group", "metrics": {"water.level": {**neighbour, "gross_range": {"fail": [0, 5]}}}}
    devices = []
    for n, eui in enumerate((OTHER, THIRD)):
        devices.append(register(database, {**LEVEL, "scale": 0.5}, TIPS, REPORTED, eui=eui))
        stand(database, devices[-1], f"s{n}", checks)
    messages = [
        frame(
            f"{n}",
            minute,
            {"level": value * 2, "tips": minute % 9, "rain": value},
            eui=OTHER if here else THIRD,
        )
        for n, (minute, value, here) in enumerate(sent)
    ]
    order = [*messages, *seed.choices(messages, k=3)]
    seed.shuffle(order)

    async def play() -> None:
        async with opened(database_url) as pool:
            with writer(database_url, CODECS) as commit:
                for n, message in enumerate(order):
                    commit(message)
                    if n % 7 == 3:
                        await QualityJob(pool).step()
                    if n % 5 == 2:
                        await IncrementJob(pool, writer="increments").step()
                    if n == 4 and said:
                        override(database, devices[0], "water.level", at(5), at(12), 4)
                    if n == 6 and moved:
                        stand(database, register(database, LEVEL, eui="aabbccddeeff0044"), "else", other)
                        database.execute(
                            "SELECT set_belonging('device_station', %s, id, %s, NULL) FROM station"
                            " WHERE code = 'else'",
                            (devices[1], at(12)),
                        )
            if mapped_anew:
                database.execute(
                    "UPDATE device_type SET mapping = %s",
                    (Jsonb([{**LEVEL, "scale": 0.6}, {**TIPS, "scale": 0.4}, REPORTED]),),
                )
                redecode(database_url)
            await catch_up(pool)
            assert wrong(database) == []
            assert await catch_up(pool) == 1

    asyncio.run(play())
