"""Ingest while the world breaks: nothing acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from ingest import batcher
from ingest.sources import mqtt
from ingest.transaction import BatchWriter
from quantrac.embedded import BrokerInfo, EmbeddedBroker
from telemetry.errors import QuantracError
from tests.ingest.conftest import Running
from tests.program import Program
from tests.proxy import TcpProxy
from tests.traffic import publish, uplinks
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]


def stored(database: Database) -> tuple[int, int]:
    row = database.execute("SELECT count(*) AS n, count(DISTINCT dedup_key) AS d FROM uplink").fetchone()
    assert row is not None
    return int(row["n"]), int(row["d"])


def connected() -> bool:
    return bool(REGISTRY.get_sample_value("quantrac_ingest_connected"))


@pytest.fixture
def settings(broker: BrokerInfo, database_url: str) -> dict[str, str]:
    return {
        "QUANTRAC_DATABASE_URL": database_url,
        "QUANTRAC_MQTT_URL": broker.urls["ingest"],
        "QUANTRAC_MQTT_CLIENT_ID": "test-ingest",
    }


@pytest.fixture
def publishing(broker: BrokerInfo) -> Iterator[threading.Thread]:
    """20,000 uplinks published in the background, by a network server that waits for each acknowledgement."""
    thread = threading.Thread(target=publish, args=(broker.urls["network"], uplinks(20_000)), daemon=True)
    yield thread
    thread.join(60)


@pytest.mark.slow
async def test_kill_9_in_the_middle_of_20_000_uplinks(
    settings: dict[str, str], publishing: threading.Thread, database: Database
) -> None:
    first = Program("ingest", env=settings)
    await until(lambda: "broker_connected" in first.output)
    publishing.start()
    program = first
    for share in (2_000, 6_000, 10_000, 14_000):
        await until(lambda: stored(database)[0] >= share, 60)  # noqa: B023
        program.kill()
        program = Program("ingest", env=settings)
    await until(lambda: stored(database)[0] >= 20_000, 90)
    assert program.stop() == 0, program.output
    assert stored(database) == (20_000, 20_000)


async def test_a_sigterm_drains_and_leaves_the_rest_to_the_broker(
    settings: dict[str, str], broker: BrokerInfo, database: Database
) -> None:
    program = Program("ingest", env=settings)
    await until(lambda: "broker_connected" in program.output)
    thread = threading.Thread(target=publish, args=(broker.urls["network"], uplinks(3_000)), daemon=True)
    thread.start()
    await until(lambda: stored(database)[0] >= 500)
    assert program.stop() == 0, program.output
    assert '"drained": true' in program.output
    thread.join(30)
    again = Program("ingest", env=settings)
    await until(lambda: stored(database)[0] >= 3_000)
    again.stop()
    assert stored(database) == (3_000, 3_000)


async def test_a_database_that_goes_away_is_waited_for(
    ingest: Running, broker: BrokerInfo, database: Database, database_url: str
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    async with TcpProxy(str(parts["host"]), int(str(parts["port"]))) as proxy:
        through = psycopg.conninfo.make_conninfo(database_url, port=proxy.port, host="127.0.0.1")
        async with ingest(database=through):
            await asyncio.to_thread(publish, broker.urls["network"], uplinks(200))
            await until(lambda: stored(database)[0] == 200)
            for round_ in range(1, 4):
                await proxy.cut()
                await asyncio.to_thread(publish, broker.urls["network"], uplinks(200, start=200 * round_))
                proxy.mend()
                await until(lambda: stored(database)[0] == 200 + 200 * round_)  # noqa: B023
    assert stored(database) == (800, 800)


async def test_a_cut_between_commit_and_ack_stores_nothing_twice(
    ingest: Running, broker: BrokerInfo, database: Database
) -> None:
    port = broker.port
    async with TcpProxy("127.0.0.1", port) as proxy:
        url = broker.urls["ingest"].replace(f":{port}", f":{proxy.port}")
        async with ingest(mqtt_url=url):
            for round_ in range(5):
                proxy.mute_upstream()  # commits go on, acks no longer arrive
                await asyncio.to_thread(publish, broker.urls["network"], uplinks(100, start=100 * round_))
                await until(lambda: stored(database)[0] == 100 + 100 * round_)  # noqa: B023
                await proxy.cut()
                await until(lambda: not connected())
                proxy.mend()
                await until(connected)
            await asyncio.to_thread(publish, broker.urls["network"], uplinks(1, start=10_000))
            await until(lambda: stored(database)[0] == 501)
    assert stored(database) == (501, 501)


async def test_a_broker_that_restarts_is_followed_again(
    ingest: Running, tmp_path: Path, database: Database
) -> None:
    server = EmbeddedBroker(tmp_path / "restarting")
    info = server.start()
    try:
        async with ingest(mqtt_url=info.urls["ingest"]):
            await asyncio.to_thread(publish, info.urls["network"], uplinks(100))
            await until(lambda: stored(database)[0] == 100)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(publish, info.urls["network"], uplinks(100, start=100))
            await until(lambda: stored(database)[0] == 200)
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("version", ["3.1.1", "auto"])
async def test_nats_as_the_broker(version: str, ingest: Running, tmp_path: Path, database: Database) -> None:
    server = EmbeddedBroker(tmp_path / "nats", kind="nats")
    info = server.start()
    try:
        async with ingest(mqtt_url=info.urls["ingest"], mqtt_version=version):
            await asyncio.to_thread(publish, info.urls["network"], uplinks(500))
            await until(lambda: stored(database)[0] == 500)
        assert stored(database) == (500, 500)
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_row_the_database_refuses_costs_only_itself(
    ingest: Running, broker: BrokerInfo, database: Database
) -> None:
    database.execute("ALTER TABLE uplink ADD CONSTRAINT unlucky CHECK (f_cnt <> 13)")
    async with ingest():
        await asyncio.to_thread(publish, broker.urls["network"], uplinks(40, devices=1))
        await until(lambda: stored(database)[0] == 39)
        await until(lambda: database.execute("SELECT FROM reject").rowcount)
    row = database.execute("SELECT reason, detail, dev_eui FROM reject").fetchone()
    assert row is not None
    assert row["reason"] == "not_storable"
    assert "unlucky" in row["detail"]


async def test_a_writer_that_ends_ends_the_process_and_acknowledges_nothing(
    ingest: Running, broker: BrokerInfo, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    async def until_it_ends() -> None:
        async with ingest():
            await asyncio.to_thread(publish, broker.urls["network"], uplinks(50))
            await until(lambda: not connected())

    with monkeypatch.context() as patch:
        patch.setattr(BatchWriter, "commit", stumbles)
        with pytest.raises(QuantracError, match="writer ended: RuntimeError: nobody thought of this"):
            await until_it_ends()
    async with ingest():
        await until(lambda: stored(database)[0] == 50)


async def test_a_source_that_fails_ends_the_service_at_once(
    ingest: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def fails(*_: object) -> None:
        mqtt.CONNECTED.set(1)
        await go.wait()
        raise RuntimeError("no source")

    ended = False

    async def until_it_ends() -> None:
        nonlocal ended
        async with ingest():
            running = next(task for task in asyncio.all_tasks() if task.get_name() == "ingest")
            go.set()
            ended = await until(running.done)  # without being told to stop

    monkeypatch.setattr(mqtt.MqttSource, "run", fails)
    with pytest.raises(RuntimeError, match="no source"):
        await until_it_ends()
    assert ended


async def test_a_full_backlog_is_left_to_the_broker(
    ingest: Running,
    broker: BrokerInfo,
    database: Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher, "MOST_WAITING", 50)
    monkeypatch.setattr(mqtt, "_FULL_SECONDS", 0.2)
    monkeypatch.setattr(mqtt, "_FULL_ACK_SECONDS", 1.0)
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    async with TcpProxy(str(parts["host"]), int(str(parts["port"]))) as proxy:
        through = psycopg.conninfo.make_conninfo(database_url, port=proxy.port, host="127.0.0.1")
        async with ingest(database=through, batch_size=10):
            await proxy.cut()
            await asyncio.to_thread(publish, broker.urls["network"], uplinks(300))
            await until(lambda: not connected())
            proxy.mend()
            await until(lambda: stored(database)[0] == 300, 60)
    assert stored(database) == (300, 300)
