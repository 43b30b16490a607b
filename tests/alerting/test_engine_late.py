"""Alerts when readings come late, out of order or anew: the same as if all had come in order."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from alerting.engine import Engine
from telemetry.store.pool import Pool

from .river import RULE, River, drain


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


async def test_what_was_seen_ahead_of_its_batch_still_escalates(pool: Pool, river: River) -> None:
    """Evaluating one commit finds the readings of the next in the table, which then tells nothing new."""
    engine = Engine(pool, batches=1)
    river.send((10, 104.0))
    river.send((9, 104.6))
    assert await engine.step() + await engine.step() == 2
    assert river.standing() == [(9, "opened", 1)]
    river.send((8, 105.6))
    await engine.step()
    assert river.standing() == [(9, "opened", 1), (8, "escalated", 2)]
    assert river.alerts() == [("firing", 2, 2, "BĐ2")]
