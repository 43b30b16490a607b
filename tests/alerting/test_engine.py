"""Alerts as time scripts: readings at event times in, transitions out, on a real database."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from psycopg.types.json import Jsonb

from alerting.engine import Engine
from telemetry.store.pool import Pool

from .river import RULE, THRESHOLDS, River, drain


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
