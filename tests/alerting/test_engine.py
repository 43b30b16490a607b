"""Alerts as time scripts: readings at event times in, transitions out, on a real database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from alerting.engine import Engine
from telemetry.clock import micros
from telemetry.settings import StoreSettings
from telemetry.store.lanes import READING_DTYPE, commit_batch
from telemetry.store.pool import Limits, Pool, async_pool
from telemetry.store.writer import copy_readings

THRESHOLDS = [{"level": 1, "label": "BĐ1", "value": 104.5}, {"level": 2, "label": "BĐ2", "value": 105.5}]
RULE = {
    "id": "river-level", "name": {"vi": "Mực nước", "en": "River level"}, "metric": "water.level",
    "levels": "station", "hysteresis": 0.1, "max_age": "1h",
}  # fmt: skip


class River:
    """One level sensor at one station; times are minutes before `now`, when the test began."""

    def __init__(self, database: psycopg.Connection[dict[str, Any]]) -> None:
        self.database = database
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.metric = self._one("SELECT id FROM metric WHERE key = 'water.level'")
        self.station = self._one(
            "INSERT INTO station (code, name, latitude, longitude, thresholds)"
            " VALUES ('phu-hiep', 'Phú Hiệp', 11.1, 107.4, %s) RETURNING id",
            Jsonb({"water.level": THRESHOLDS}),
        )
        database.execute("INSERT INTO device_type VALUES ('t', 'v', 'm', 'c', 60, '[]')")
        self.device = self._one(
            "INSERT INTO device (dev_eui, status, device_type, station_id)"
            " VALUES ('0000000000000001', 'active', 't', %s) RETURNING id",
            self.station,
        )
        self.rule(RULE)

    def _one(self, query: str, *values: Any) -> int:
        row = self.database.execute(query, values).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row["id"])

    def rule(self, definition: dict[str, Any]) -> None:
        self.database.execute(
            "INSERT INTO rule (id, definition) VALUES (%s, %s)"
            " ON CONFLICT (id) DO UPDATE SET definition = excluded.definition",
            (definition["id"], Jsonb(definition)),
        )

    def send(self, *points: tuple[float, float], lane: str = "w", quality: int = 1) -> None:
        """(minutes ago, level) in one committed batch."""
        rows = [
            (micros(self.now - timedelta(minutes=ago)), level, 1, self.device, self.metric, 0, quality)
            for ago, level in points
        ]
        with self.database.transaction(), psycopg.Cursor(self.database) as cursor:
            readings = np.array(rows, READING_DTYPE)
            copy_readings(cursor, readings)
            commit_batch(cursor, lane, readings)

    def replace(self, ago: float, level: float | None, quality: int = 1) -> None:
        """The reading of that many minutes ago is now another one, or none."""
        at = self.now - timedelta(minutes=ago)
        told = (micros(at), 0.0 if level is None else level, 1, self.device, self.metric, 0, quality)
        with self.database.transaction(), psycopg.Cursor(self.database) as cursor:
            cursor.execute("DELETE FROM reading WHERE time = %s", (at,))
            readings = np.array([told], READING_DTYPE)
            if level is not None:
                copy_readings(cursor, readings)
            commit_batch(cursor, "again", readings, replaced=1)

    def standing(self) -> list[tuple[int, str, int]]:
        """Changes of level that were not withdrawn: (minutes ago, kind, level), oldest first."""
        rows = self.database.execute(
            "SELECT at, kind, to_level FROM transition t WHERE machine IS NOT NULL AND NOT EXISTS"
            " (SELECT FROM transition w WHERE w.alert_id = t.alert_id AND w.withdraws = t.seq)"
            " ORDER BY at, seq"
        ).fetchall()
        return [(round((self.now - r["at"]).total_seconds() / 60), r["kind"], r["to_level"]) for r in rows]

    def alerts(self) -> list[tuple[str, int, int, str]]:
        rows = self.database.execute("SELECT * FROM alert ORDER BY opened_at, state").fetchall()
        return [(r["state"], r["level"], r["peak_level"], r["label"]) for r in rows]

    def sent(self) -> list[str]:
        rows = self.database.execute("SELECT type FROM message ORDER BY created_at, alert_seq").fetchall()
        return [r["type"].removeprefix("alert.") for r in rows]


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


async def drain(engine: Engine) -> None:
    while await engine.step():
        pass


async def test_an_episode_from_opened_to_resolved(river: River, engine: Engine) -> None:
    for point in [(10, 104.0), (9, 104.6), (8, 105.6), (7, 105.3), (6, 104.2)]:
        river.send(point)
        await drain(engine)
    assert river.standing() == [
        (9, "opened", 1),
        (8, "escalated", 2),
        (7, "deescalated", 1),
        (6, "resolved", 0),
    ]
    assert river.alerts() == [("resolved", 0, 2, "BĐ2")]
    assert river.sent() == ["opened", "escalated", "deescalated", "resolved"]


async def test_a_restart_goes_on_where_it_was(river: River, pool: Pool) -> None:
    for point in [(9, 104.6), (8, 105.6), (7, 104.0)]:
        river.send(point)
        await drain(Engine(pool))
    assert river.standing() == [(9, "opened", 1), (8, "escalated", 2), (7, "resolved", 0)]
    assert len(river.alerts()) == 1


async def test_old_readings_make_history_but_page_nobody(river: River, engine: Engine) -> None:
    river.send((600, 104.0), (590, 105.0), (580, 103.0))
    await drain(engine)
    assert river.alerts() == [("resolved", 0, 1, "BĐ1")]
    assert river.sent() == []
    late = river.database.execute("SELECT bool_and(late) AS late FROM transition").fetchone()
    assert late == {"late": True}


async def test_a_late_reading_opens_what_was_missed(river: River, engine: Engine) -> None:
    river.send((10, 104.0), (5, 104.0))
    await drain(engine)
    river.send((7, 105.0))
    await drain(engine)
    assert river.standing() == [(7, "opened", 1), (5, "resolved", 0)]
    assert river.sent() == ["opened", "resolved"], "younger than max_age, so it pages"


async def test_a_late_reading_merges_episodes_and_the_oldest_alert_stays(
    river: River, engine: Engine
) -> None:
    for point in [(20, 105.0), (16, 104.0), (12, 105.0)]:
        river.send(point)
        await drain(engine)
    first = river.database.execute("SELECT id FROM alert ORDER BY opened_at LIMIT 1").fetchone()
    river.rule({**RULE, "clear_for": "6m"})
    await drain(engine)
    river.send((17, 105.0))
    await drain(engine)
    assert river.standing() == [(20, "opened", 1)]
    states = river.database.execute("SELECT id, state FROM alert ORDER BY opened_at").fetchall()
    assert [r["state"] for r in states] == ["firing", "withdrawn"]
    assert first is not None
    assert states[0]["id"] == first["id"]


async def test_bad_quality_does_not_alarm_but_suspect_does(river: River, engine: Engine) -> None:
    river.send((5, 105.0), quality=4)
    await drain(engine)
    assert river.alerts() == []
    river.send((4, 105.0), quality=3)
    await drain(engine)
    assert river.alerts() == [("firing", 1, 1, "BĐ1")]


async def test_hold_counts_event_time_across_batches_and_restarts(river: River, pool: Pool) -> None:
    river.rule({**RULE, "for": "3m"})
    for point in [(10, 105.0), (9, 105.0), (8, 105.0), (7, 105.0)]:
        river.send(point)
        await drain(Engine(pool))
    assert river.standing() == [(7, "opened", 1)]


async def test_removing_a_rule_closes_what_it_fires(river: River, engine: Engine) -> None:
    river.send((5, 105.0))
    await drain(engine)
    river.database.execute("DELETE FROM rule")
    await drain(engine)
    assert river.alerts() == [("closed", 0, 1, "BĐ1")]
    assert river.sent() == ["opened", "closed"]


async def test_a_rule_that_returns_starts_anew(river: River, engine: Engine) -> None:
    river.send((5, 105.0))
    await drain(engine)
    river.database.execute("DELETE FROM rule")
    await drain(engine)
    river.rule(RULE)
    river.send((-600, 105.0))
    await drain(engine)
    assert [a[0] for a in river.alerts()] == ["closed", "firing"]


async def test_an_alert_closed_by_hand_stays_closed_until_it_gets_worse(river: River, engine: Engine) -> None:
    river.send((9, 105.0))
    await drain(engine)
    river.database.execute("UPDATE alert SET state = 'closed'")
    river.send((8, 105.2))
    await drain(engine)
    assert [a[0] for a in river.alerts()] == ["closed"]
    river.send((7, 105.6))
    await drain(engine)
    assert river.alerts() == [("firing", 2, 2, "BĐ2")]


async def test_a_raised_threshold_counts_from_the_next_reading(river: River, engine: Engine) -> None:
    river.send((5, 105.0))
    await drain(engine)
    river.database.execute(
        "UPDATE station SET thresholds = %s", (Jsonb({"water.level": [{**THRESHOLDS[0], "value": 110}]}),)
    )
    river.send((4, 105.0))
    await drain(engine)
    assert river.standing() == [(5, "opened", 1), (4, "resolved", 0)]


async def test_two_evaluators_do_the_work_once(river: River, pool: Pool) -> None:
    for ago in range(40, 0, -1):
        river.send((ago, 104 + (ago % 4)))
    engines = [Engine(pool, batches=3), Engine(pool, batches=3)]

    async def follow(engine: Engine) -> None:
        idle = 0
        while idle < 50:
            idle = 0 if await engine.step() else idle + 1
            await asyncio.sleep(0.002)

    await asyncio.gather(*map(follow, engines))
    numbers = river.database.execute(
        "SELECT count(*) AS n, count(DISTINCT (at, to_level)) AS d FROM transition"
    ).fetchone()
    assert numbers is not None
    assert numbers["n"] == numbers["d"] > 10


@pytest.mark.parametrize("seed", range(12))
async def test_the_order_of_arrival_does_not_matter(river: River, engine: Engine, seed: int) -> None:
    rng = random.Random(seed)
    river.rule({**RULE, "for": rng.choice(["0s", "2m"]), "clear_for": rng.choice(["0s", "3m"])})
    level, points = 104.0, []
    for ago in range(100, 0, -1):
        level += 0.3 * (104.8 - level) + rng.uniform(-1.5, 1.5)
        points.append((ago / 2, level))
    river.send(*points)
    await drain(engine)
    expected = river.standing()
    river.database.execute(
        "TRUNCATE reading, alert, transition, message, lane_batch, follower_cursor CASCADE"
    )
    river.database.execute("UPDATE registry_version SET version = version + 1")
    rng.shuffle(points)
    while points:
        size = rng.randint(1, 7)
        river.send(*points[:size], lane=rng.choice("ab"))
        del points[:size]
        if rng.random() < 0.7:
            await drain(engine)
    await drain(engine)
    assert river.standing() == expected
    assert expected
    firing = river.database.execute("SELECT count(*) AS n FROM alert WHERE state = 'firing'").fetchone()
    assert firing == {"n": int(expected[-1][2] > 0)}


async def test_two_readings_at_one_time_count_as_the_higher(river: River, pool: Pool) -> None:
    for ago in (30, 20, 10):
        river.send((ago, 104.0), (ago, 105.0))
        await drain(Engine(pool))
    river.send((5, 104.0))
    await drain(Engine(pool))
    assert river.standing() == [(30, "opened", 1), (5, "resolved", 0)]


async def test_evaluators_that_take_turns_agree(river: River, pool: Pool) -> None:
    engines = Engine(pool), Engine(pool)
    for number, level in enumerate([104, 104, 105, 106, 106, 104, 104]):
        river.send((30 - number, level))
        await drain(engines[number % 2])
    assert river.standing() == [(28, "opened", 1), (27, "escalated", 2), (25, "resolved", 0)]
    assert river.sent() == ["opened", "escalated", "resolved"]


async def test_sparse_readings_still_hold(river: River, pool: Pool) -> None:
    river.rule({**RULE, "for": "10m", "max_age": "1d"})
    for ago in (120, 90, 60):
        river.send((ago, 105.0))
        await drain(Engine(pool))
    assert river.standing() == [(90, "opened", 1)]


async def test_a_late_reading_above_takes_nothing_back(river: River, engine: Engine) -> None:
    river.rule({**RULE, "for": "10m"})
    for ago in (55, 25):
        river.send((ago, 105.0))
        await drain(engine)
    river.send((26, 105.0))
    await drain(engine)
    assert river.standing()[0][1:] == ("opened", 1)
    assert [a[0] for a in river.alerts()] == ["firing"]


async def test_a_flood_that_rose_during_an_outage_is_told(river: River, engine: Engine) -> None:
    river.send((180, 104.0))
    await drain(engine)
    river.send((120, 106.0), (60, 106.0), (1, 106.0))
    await drain(engine)
    assert river.alerts() == [("firing", 2, 2, "BĐ2")]
    assert river.sent() == ["opened"]


async def test_a_lowered_level_counts_and_is_told(river: River, engine: Engine) -> None:
    for point in [(3000, 105.0), (2990, 104.0), (2000, 104.2)]:
        river.send(point)
        await drain(engine)
    river.database.execute("DELETE FROM message")
    river.database.execute(
        "UPDATE station SET thresholds = %s", (Jsonb({"water.level": [{**THRESHOLDS[0], "value": 104.1}]}),)
    )
    river.send((0, 104.2))
    await drain(engine)
    assert river.standing()[-1] == (0, "opened", 1)
    assert river.sent() == ["opened"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE device SET status = 'retired'",
        'UPDATE rule SET definition = definition || \'{"metric": "air.temperature"}\'',
        'UPDATE rule SET definition = definition || \'{"where": {"stations": ["ta-lai"]}}\'',
        "UPDATE station SET thresholds = '{}'",
    ],
    ids=["device retired", "other metric", "other station", "no levels"],
)
async def test_what_no_rule_looks_at_any_more_is_closed(river: River, engine: Engine, change: str) -> None:
    river.send((5, 105.0))
    await drain(engine)
    river.database.execute(change)  # type: ignore[arg-type]
    await drain(engine)
    assert river.alerts() == [("closed", 0, 1, "BĐ1")]
    assert river.sent() == ["opened", "closed"]


async def test_a_rule_that_no_longer_reads_keeps_its_alerts(river: River, engine: Engine) -> None:
    river.send((5, 105.0))
    await drain(engine)
    river.database.execute("UPDATE rule SET definition = definition - 'levels'")
    await drain(engine)
    assert [a[0] for a in river.alerts()] == ["firing"]


async def test_late_readings_from_before_a_pause_do_not_reach_into_the_time_after(
    river: River, engine: Engine
) -> None:
    river.send((30, 105.0))
    await drain(engine)
    river.rule({**RULE, "enabled": False})
    river.database.execute("UPDATE rule SET enabled = false")
    await drain(engine)
    river.database.execute(
        "UPDATE transition SET at = %s WHERE kind = 'closed'", (river.now - timedelta(minutes=15),)
    )
    river.database.execute("UPDATE rule SET enabled = true")
    river.rule(RULE)
    river.send((10, 105.0))
    await drain(engine)
    river.send((20, 105.0))
    await drain(engine)
    assert [a[0] for a in river.alerts()] == ["closed", "firing"]


async def test_late_data_does_not_reopen_what_somebody_closed(river: River, engine: Engine) -> None:
    river.send((9, 105.0))
    await drain(engine)
    river.database.execute("UPDATE alert SET state = 'closed'")
    river.send((12, 105.0))
    await drain(engine)
    assert [a[0] for a in river.alerts()] == ["closed"]


async def test_only_what_came_late_is_marked_late(river: River, engine: Engine) -> None:
    river.send((30, 104.0))
    await drain(engine)
    river.send((31, 104.0), (0, 105.0))
    await drain(engine)
    row = river.database.execute("SELECT late FROM transition").fetchall()
    assert row == [{"late": False}]


async def test_a_series_that_cannot_be_evaluated_costs_only_itself(river: River, engine: Engine) -> None:
    other = river.database.execute(
        "INSERT INTO device (dev_eui, status, device_type, station_id)"
        " VALUES ('0000000000000002', 'active', 't', %s) RETURNING id",
        (river.station,),
    ).fetchone()
    assert other is not None
    river.database.execute("ALTER TABLE alert ADD CONSTRAINT unlucky CHECK (device_id <> 1)")
    river.send((5, 105.0))
    river.device = other["id"]
    river.send((5, 105.0))
    await drain(engine)
    assert len(river.alerts()) == 1
    river.database.execute("ALTER TABLE alert DROP CONSTRAINT unlucky")
    river.device = 1
    river.send((4, 105.0))
    await drain(engine)
    assert len(river.alerts()) == 2, "found again in the store with its next reading"


async def test_a_failed_step_is_done_again(
    river: River, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    river.send((5, 105.0))
    await drain(engine)
    river.database.execute("DELETE FROM rule")

    async def broken(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr("alerting.engine.outbox.publish", broken)
        with pytest.raises(psycopg.OperationalError):
            await engine.step()
    assert [a[0] for a in river.alerts()] == ["firing"]
    await drain(engine)
    assert [a[0] for a in river.alerts()] == ["closed"]
    assert river.sent() == ["opened", "closed"]


async def test_a_disabled_endpoints_messages_are_kept(river: River, engine: Engine) -> None:
    river.database.execute(
        "INSERT INTO endpoint (name, url, secret, enabled) VALUES"
        " ('on', 'https://a', '', true), ('off', 'https://b', '', false)"
    )
    river.send((5, 105.0))
    await drain(engine)
    rows = river.database.execute("SELECT state, last_error FROM delivery ORDER BY endpoint_id").fetchall()
    assert [r["state"] for r in rows] == ["pending", "failed"]
    assert rows[1]["last_error"] == "the endpoint is disabled"


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("instead", "quality"),
    [(None, 9), (104.0, 1), (105.9, 4)],
    ids=["gone", "lower", "failed"],
)
async def test_what_was_replaced_is_taken_back(
    river: River, pool: Pool, instead: float | None, quality: int, restarted: bool
) -> None:
    """Frames decoded again: the newest reading, which an alert stands on, was none."""
    engine = Engine(pool)
    river.send((30, 104.0), (20, 104.1), (10, 105.6))
    await drain(engine)
    assert river.standing() == [(10, "opened", 2)]
    river.replace(10, instead, quality)
    await drain(Engine(pool) if restarted else engine)
    assert river.standing() == []
    assert [alert[:2] for alert in river.alerts()] == [("withdrawn", 0)]
    river.send((5, 105.7))
    await drain(engine)
    assert river.standing() == [(5, "opened", 2)]


async def test_what_was_replaced_long_ago_pages_nobody(river: River, engine: Engine) -> None:
    days = 3 * 1440
    river.send((days + 20, 104.0), (days + 10, 104.1), (days, 104.2), (1, 104.0))
    await drain(engine)
    river.replace(days + 10, 105.6)
    await drain(engine)
    assert river.standing() == [(days + 10, "opened", 2), (days, "resolved", 0)]
    row = river.database.execute("SELECT bool_and(late) AS late FROM transition").fetchone()
    assert row == {"late": True}
    river.replace(days + 10, 104.1)
    await drain(engine)
    assert river.standing() == []
    assert river.sent() == []


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
