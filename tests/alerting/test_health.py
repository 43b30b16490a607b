"""Members of ingest that fall silent are told to subscribers, and so is their return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from alerting import health, service
from alerting.delivery import service as delivery
from alerting.delivery.settings import DeliverySettings
from alerting.delivery.sign import new_secret
from alerting.health import DISCONNECTED, SILENT, Member, Watch, look
from alerting.settings import AlertSettings
from telemetry.clock import SystemClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool
from tests.collector import Collector
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


def one(seen: float, *, connected: bool = True, share: str = "") -> Member:
    return Member("one", share, "broker:1883", at(seen), connected)


def warm(until_second: int, member: Member | None = None) -> Watch:
    """A watch that looked every five seconds from 0 on, and saw nothing wrong."""
    watch = Watch(timedelta(seconds=60))
    for second in range(0, until_second + 1, 5):
        watch.judge([member or one(second)], {}, at(second))
    return watch


def kinds(watch: Watch, member: Member, second: float, *opened: str) -> list[str] | None:
    """What the watch finds; `opened` are faults of `one` that began at second 0."""
    found = watch.judge([member], {(kind, "one"): at(0) for kind in opened}, at(second))
    return None if found is None else [fault.kind for fault in found]


def test_who_is_silent_beyond_the_bound() -> None:
    watch = warm(65)
    assert kinds(watch, one(10), 70) == []
    assert kinds(watch, one(9), 70) == [SILENT]
    assert kinds(watch, one(1000), 70) == []  # its clock is ahead


def test_a_watch_that_just_began_or_slept_waits_before_it_judges() -> None:
    watch = Watch(timedelta(seconds=60))
    assert [kinds(watch, one(-1000), second) for second in range(0, 61, 5)] == [None] * 13
    assert kinds(watch, one(-1000), 65) == [SILENT]
    assert kinds(watch, one(-1000), 200) is None
    assert kinds(warm(65), one(0), -3600) is None  # our clock was set back


def test_a_silent_member_is_silent_until_it_is_seen_again() -> None:
    watch = warm(65)
    assert kinds(watch, one(0), 70, SILENT) == [SILENT]
    assert kinds(watch, one(69), 70, SILENT) == []


def test_a_member_without_its_broker() -> None:
    watch = warm(65)
    for second in range(70, 131, 5):
        assert kinds(watch, one(second, connected=False), second) == []
    assert kinds(watch, one(135, connected=False), 135) == [DISCONNECTED]
    assert kinds(watch, one(140), 140, DISCONNECTED) == []
    assert kinds(watch, one(145, connected=False), 145, DISCONNECTED) == [DISCONNECTED]
    # Another watch that began to look later agrees with what is open.
    assert kinds(warm(65), one(70, connected=False), 70, DISCONNECTED) == [DISCONNECTED]


def test_it_says_what_waits_and_what_to_do() -> None:
    (fault,) = warm(65).judge([one(5, share="g")], {}, at(70)) or []
    assert fault.began_at == at(5)
    assert "since 2026-11-21 12:00:05 UTC" in fault.detail
    assert "the share g waits" in fault.detail
    assert "QUANTRAC_MQTT_CLIENT_ID=one quantrac ingest --leave" in fault.cure


def member(database: Database, client_id: str, seen_at: datetime, **more: Any) -> None:
    database.execute(
        "INSERT INTO ingest_member (client_id, share, broker, started_at, seen_at, connected)"
        " VALUES (%(id)s, 'g', 'b:1883', %(seen)s, %(seen)s, %(connected)s) ON CONFLICT (client_id)"
        " DO UPDATE SET seen_at = excluded.seen_at, connected = excluded.connected",
        {"id": client_id, "seen": seen_at, "connected": more.get("connected", True)},
    )


def opened(database: Database) -> list[tuple[str, str]]:
    rows = database.execute("SELECT * FROM health_alert WHERE ended_at IS NULL ORDER BY kind, subject")
    return [(row["kind"], row["subject"]) for row in rows.fetchall()]


async def test_two_watches_tell_each_fault_once(pool: Pool, database: Database) -> None:
    watches = [Watch(timedelta(seconds=60)) for _ in range(2)]
    member(database, "gone", at(-500))
    member(database, "fine", at(10_000))
    for second in range(0, 80, 5):
        await asyncio.gather(*(look(pool, watch, at(second)) for watch in watches))
    assert opened(database) == [(SILENT, "gone")]
    assert REGISTRY.get_sample_value("quantrac_health_alerts", {"kind": SILENT}) == 1
    database.execute("UPDATE ingest_member SET left_at = now() WHERE client_id = 'gone'")
    await asyncio.gather(*(look(pool, watch, at(80)) for watch in watches))
    await look(pool, watches[0], at(80))
    assert opened(database) == []
    assert REGISTRY.get_sample_value("quantrac_health_alerts", {"kind": SILENT}) == 0
    messages = database.execute("SELECT type FROM message ORDER BY alert_seq").fetchall()
    assert [row["type"] for row in messages] == ["system.fault", "system.recovered"]


async def test_a_failed_look_writes_neither_fault_nor_message(
    pool: Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumbles(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("cut")

    watch = warm(65)
    member(database, "gone", at(-500))
    with monkeypatch.context() as patch:
        patch.setattr(health.outbox, "publish_fault", stumbles)
        with pytest.raises(psycopg.OperationalError):
            await look(pool, watch, at(70))
    assert opened(database) == []
    await look(pool, watch, at(75))
    assert opened(database) == [(SILENT, "gone")]


@asynccontextmanager
async def running(pool: Pool, database_url: str, box: SecretBox) -> AsyncIterator[None]:
    """The alert and the deliver service."""
    stop = asyncio.Event()
    store = StoreSettings(database_url=database_url)
    allowed = DeliverySettings(webhook_allow=(ip_network("127.0.0.0/8"),))
    quick = AlertSettings.model_construct(member_silent=1)
    tasks = [
        asyncio.create_task(service.run(quick, store, SystemClock(), stop)),
        asyncio.create_task(delivery.run(pool, allowed, SystemClock(), box, stop)),
    ]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_a_subscriber_hears_of_a_dead_member_and_of_its_return(
    pool: Pool, database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.1)
    box, secret = SecretBox("a key for tests, of thirty-two letters"), new_secret()
    member(database, "dead-1", datetime.now(UTC) - timedelta(hours=1))
    with Collector() as collector:
        for types in ([], ["alert.opened"]):
            database.execute(
                "INSERT INTO endpoint (name, url, secret, event_types, min_level)"
                " VALUES ('t', %s, %s, %s, 3)",
                (collector.url, box.encrypt(secret.encode()), types),
            )
        async with running(pool, database_url, box):
            await until(lambda: len(collector.received) == 1)
            assert opened(database) == [(SILENT, "dead-1")]
            member(database, "dead-1", datetime.now(UTC) + timedelta(hours=1))
            await until(lambda: len(collector.received) == 2)
        fault, recovered = collector.accepted(secret)
    assert (fault["type"], recovered["type"]) == ("system.fault", "system.recovered")
    told = fault["data"]["fault"]
    assert (told["kind"], told["subject"], told["ended_at"]) == (SILENT, "dead-1", None)
    assert "--leave" in told["cure"]
    assert recovered["data"]["fault"]["id"] == told["id"]
    assert recovered["data"]["fault"]["ended_at"] == recovered["timestamp"]
