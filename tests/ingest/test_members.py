"""A member's signs of life and its gaps, in a real database that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from ingest.members import Member
from ingest.qos_watch import QosWatch
from ingest.settings import IngestSettings
from telemetry.clock import ManualClock
from telemetry.store.pool import connect
from tests.proxy import TcpProxy
from tests.wait import until

from .store import NOW

Database = psycopg.Connection[dict[str, Any]]
Making = Callable[..., AbstractAsyncContextManager[Member]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def member(database_url: str, clock: ManualClock) -> Making:
    """`async with member(): …` is one process; leaving stops it in order."""

    @asynccontextmanager
    async def made(url: str = database_url, *, on_gap: Any = None, **overrides: Any) -> AsyncIterator[Member]:
        settings = IngestSettings(
            **{"mqtt_url": "mqtt://ingest:secret@broker:1884", "mqtt_client_id": "one", **overrides}
        )
        one = Member(
            lambda: connect(url, application="test"),
            settings,
            clock,
            QosWatch(),
            on_gap or (lambda: None),
            beat_seconds=0.02,
        )
        yield one
        await one.close()

    return made


def row(database: Database, client_id: str = "one") -> dict[str, Any]:
    found = database.execute("SELECT * FROM ingest_member WHERE client_id = %s", (client_id,)).fetchone()
    return found or {}


def gaps(database: Database) -> list[tuple[float, float, str]]:
    rows = database.execute("SELECT * FROM ingest_gap ORDER BY id").fetchall()
    return [
        ((r["began_at"] - NOW).total_seconds(), (r["ended_at"] - NOW).total_seconds(), r["why"]) for r in rows
    ]


async def test_it_tells_who_it_is_and_that_it_lives(
    member: Making, clock: ManualClock, database: Database
) -> None:
    async with member(mqtt_share="g", mqtt_topics=("a/#", "b/#")) as one:
        found = await until(lambda: row(database))
        assert (found["connected"], found["mqtt"], found["left_at"]) == (False, "", None)
        assert (found["share"], found["filters"], found["broker"]) == ("g", ["a/#", "b/#"], "broker:1884")
        one.on_subscribed(clock.now(), session_present=False, mqtt="5")
        await until(lambda: (row(database)["connected"], row(database)["mqtt"]) == (True, "5"))
        clock.advance(timedelta(seconds=30))
        await until(lambda: row(database)["seen_at"] == clock.now())
    assert row(database)["connected"] is False
    assert gaps(database) == []


async def test_restarts_losses_and_forgotten_sessions_are_gaps(
    member: Making, clock: ManualClock, database: Database
) -> None:
    told = 0

    def on_gap() -> None:
        nonlocal told
        told += 1

    async with member() as one:
        one.on_subscribed(clock.now(), session_present=False, mqtt="5")
    clock.advance(timedelta(seconds=100))
    async with member(on_gap=on_gap) as one:
        await until(lambda: gaps(database) == [(0, 100, "service")])  # it goes on
        assert told == 0
        clock.advance(timedelta(seconds=10))
        one.on_subscribed(clock.now(), session_present=True, mqtt="5")
        await until(lambda: gaps(database) == [(0, 110, "service")])
        await until(lambda: told == 1)
        clock.advance(timedelta(seconds=10))
        one.on_lost(clock.now())
        clock.advance(timedelta(seconds=5))
        await until(lambda: gaps(database)[1:] == [(120, 125, "broker")])
        one.on_subscribed(clock.now(), session_present=True, mqtt="5")
        one.on_lost(clock.now())
        clock.advance(timedelta(seconds=5))
        one.on_subscribed(clock.now(), session_present=False, mqtt="5")
        await until(lambda: gaps(database)[2:] == [(125, 130, "session")])
        await until(lambda: told >= 2)


async def test_a_kill_without_a_broker_leaves_no_hole_between_gaps(
    member: Making, clock: ManualClock, database: Database
) -> None:
    async with member() as one:
        one.on_subscribed(clock.now(), session_present=False, mqtt="5")
        await until(lambda: row(database).get("connected"))
        one.on_lost(clock.now())
        clock.advance(timedelta(seconds=50))
        await until(lambda: gaps(database) == [(0, 50, "broker")])
    clock.advance(timedelta(seconds=50))
    async with member() as one:
        one.on_subscribed(clock.now(), session_present=True, mqtt="5")
        await until(lambda: gaps(database) == [(0, 50, "broker"), (50, 100, "service")])


async def test_after_leaving_others_of_the_share_listened(
    member: Making, clock: ManualClock, database: Database
) -> None:
    for client_id in ("one", "two"):
        async with member(mqtt_share="g", mqtt_client_id=client_id) as one:
            one.on_subscribed(clock.now(), session_present=False, mqtt="5")
    database.execute("UPDATE ingest_member SET left_at = %s", (NOW,))
    database.execute("UPDATE ingest_member SET left_at = NULL, seen_at = %s WHERE client_id = 'two'",
                     (NOW + timedelta(seconds=9),))  # fmt: skip
    clock.advance(timedelta(seconds=10))
    async with member(mqtt_share="g") as one:
        one.on_subscribed(clock.now(), session_present=False, mqtt="5")
        await until(lambda: row(database)["connected"])
    assert row(database)["left_at"] is None
    assert gaps(database) == []
    database.execute("UPDATE ingest_member SET left_at = %s", (clock.now(),))
    clock.advance(timedelta(seconds=10))
    async with member(mqtt_share="g") as one:
        one.on_subscribed(clock.now(), session_present=False, mqtt="5")
    assert gaps(database) == [(10, 20, "service")]  # nobody was there


async def test_what_happens_while_the_database_is_away_is_written_later(
    member: Making, clock: ManualClock, database: Database, database_url: str
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    async with TcpProxy(str(parts["host"]), int(str(parts["port"]))) as proxy:
        through = psycopg.conninfo.make_conninfo(database_url, port=proxy.port, host="127.0.0.1")
        async with member(through) as one:
            one.on_subscribed(clock.now(), session_present=False, mqtt="5")
            await until(lambda: row(database).get("connected"))
            with capture_logs() as logs:
                await proxy.cut()
                for second in (10, 20):
                    clock.set(NOW + timedelta(seconds=second))
                    one.on_lost(clock.now())
                    clock.advance(timedelta(seconds=5))
                    one.on_subscribed(clock.now(), session_present=True, mqtt="5")
                await until(lambda: [log for log in logs if log["event"] == "member_not_written"])
            assert gaps(database) == []
            proxy.mend()
            await until(lambda: gaps(database) == [(10, 15, "broker"), (20, 25, "broker")])


async def test_a_database_that_hangs_delays_nobody(
    member: Making, clock: ManualClock, database: Database, database_url: str
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    async with TcpProxy(str(parts["host"]), int(str(parts["port"]))) as proxy:
        through = psycopg.conninfo.make_conninfo(database_url, port=proxy.port, host="127.0.0.1")
        async with member(through) as one:
            one.on_subscribed(clock.now(), session_present=False, mqtt="5")
            await until(lambda: row(database).get("connected"))
            proxy.mute_upstream()
            began = asyncio.get_running_loop().time()
            one.on_lost(clock.now())
            await one.close(0.5)
            assert asyncio.get_running_loop().time() - began < 10
