"""Lanes: a follower sees every commit once, whatever commits when."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from telemetry.settings import StoreSettings
from telemetry.store import lanes
from telemetry.store.pool import Pool, async_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM follower")
        connection.execute("INSERT INTO follower VALUES ('f'), ('another')")
    async with async_pool(StoreSettings(database_url=database_url), application="test") as opened:
        yield opened


def batch(number: int) -> lanes.Readings:
    return np.array([(number, float(number), number, 1, 1, 0, 1)], lanes.READING_DTYPE)


async def follow(pool: Pool, name: str, limit: int = 100) -> list[int]:
    """One step of a follower: the numbers of the batches it saw."""
    async with pool.connection() as connection, connection.transaction():
        assert await lanes.lock_follower(connection, name)
        batches = await lanes.pending(connection, name, limit)
        await lanes.advance(connection, name, batches)
    return [int(b.readings["time"][0]) for b in batches]


def test_packing_is_exact() -> None:
    row = (1_790_000_000_123_456, -0.1, 2**40, 2**31 - 1, 32767, 255, 9)
    assert lanes.unpack(np.array([row], lanes.READING_DTYPE).tobytes()).tolist() == [row]


async def test_a_late_commit_is_not_skipped(pool: Pool, database_url: str) -> None:
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url) as quick:
        lanes.commit_batch(slow.cursor(), "slow", batch(1))
        lanes.commit_batch(quick.cursor(), "quick", batch(2))
        quick.commit()
        assert await follow(pool, "f") == [2]
        slow.commit()
        assert await follow(pool, "f") == [1]
    assert await follow(pool, "f") == []
    assert await follow(pool, "another") != [], "each follower has a cursor of its own"


async def test_a_step_is_bounded_by_what_the_batches_hold(pool: Pool, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for number, lane in enumerate("aaaab"):
            lanes.commit_batch(connection.cursor(), lane, np.concatenate([batch(number)] * (number + 1)))
    size = lanes.READING_DTYPE.itemsize
    for most, seen in ((1, [0, 4]), (size, [0, 4]), (size + 1, [0, 1, 4]), (size * 6, [0, 1, 2, 4])):
        async with pool.connection() as opened:
            found = await lanes.pending(opened, "f", 100, most)
        assert [int(b.readings["time"][0]) for b in found] == seen
        assert [b.newest for b in found] == [number == 4 for number in seen]


async def test_nothing_is_seen_twice_or_missed_with_small_steps(pool: Pool, database_url: str) -> None:
    rng, seen = random.Random(3), []
    with psycopg.connect(database_url) as connection:
        for number in range(60):
            lanes.commit_batch(connection.cursor(), rng.choice("abc"), batch(number))
            connection.commit()
            if rng.random() < 0.5:
                seen += await follow(pool, "f", limit=2)
    while step := await follow(pool, "f", limit=2):
        seen += step
    assert sorted(seen) == list(range(60))


async def test_one_follower_of_a_name_at_a_time(pool: Pool) -> None:
    async with pool.connection() as first, first.transaction():
        assert await lanes.lock_follower(first, "f")
        async with pool.connection() as second, second.transaction():
            assert not await lanes.lock_follower(second, "f")


async def test_pruning_waits_for_the_slowest_follower(pool: Pool, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        lanes.commit_batch(connection.cursor(), "w", batch(1))
    await follow(pool, "f")
    later = datetime.now(UTC) + timedelta(hours=1)
    async with pool.connection() as connection:
        assert await lanes.prune(connection, later) == 0
    await follow(pool, "another")
    async with pool.connection() as connection:
        assert await lanes.prune(connection, later - timedelta(days=1)) == 0
        assert await lanes.prune(connection, later) == 1


async def test_what_a_commit_touched_is_each_device_and_hour_once_with_its_newest_frame(
    pool: Pool, database_url: str
) -> None:
    hour = 3_600_000_000
    with psycopg.connect(database_url) as connection:
        lanes.commit_batch(
            connection.cursor(),
            "w",
            batch(1),
            [(2, 5 * hour), (1, hour + 7), (1, hour + 9), (1, 2 * hour - 1), (1, 2 * hour)],
            [(1, 2 * hour + 5), (3, hour)],
        )
    async with pool.connection() as connection:
        (found,) = await lanes.pending(connection, "f", 10)
    assert found.uplinks == 5
    assert found.touched.tolist() == [
        (1, 1, 2 * hour - 1), (1, 2, 2 * hour), (2, 5, 5 * hour), (3, 1, lanes.NO_FRAME),
    ]  # fmt: skip
