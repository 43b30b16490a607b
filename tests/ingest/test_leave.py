"""Leaving: what waited is stored, the session is gone, and the others get the rest."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest import leave as leaving
from ingest import resumption
from ingest.settings import IngestSettings
from quantrac.embedded import BrokerInfo, EmbeddedBroker
from telemetry.clock import SystemClock
from telemetry.errors import QuantracError
from telemetry.mqtt import parse_mqtt_url
from telemetry.settings import StoreSettings
from tests.program import run
from tests.proxy import TcpProxy
from tests.traffic import publish, uplinks
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
UP = "application/+/device/+/event/+"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumption, "QUIET_SECONDS", 0.3)


def session(url: str, client_id: str, filters: tuple[str, ...], *, v5: bool) -> bool:
    """Connect once, subscribe to `filters`, and go; whether the broker knew the client id."""
    address = parse_mqtt_url(url)
    known: list[bool] = []
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
        clean_session=None if v5 else False,
    )
    client.username_pw_set(address.username, address.password)
    client.on_connect = lambda _c, _d, flags, _r, _p: known.append(flags.session_present)
    granted: list[int] = []
    client.on_subscribe = lambda _c, _d, mid, _r, _p: granted.append(mid)
    more: dict[str, Any] = {}
    if v5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        more = {"clean_start": False, "properties": properties}
    client.connect(address.host, address.port, 30, **more)
    while not known:
        client.loop(0.1)
    for topic in filters:
        client.subscribe(topic, 1)
    while len(granted) < len(filters):
        client.loop(0.1)
    client.disconnect()
    client.loop(0.1)
    return known[0]


def stored(database: Database) -> int:
    row = database.execute("SELECT count(*) AS n FROM uplink").fetchone()
    assert row is not None
    return int(row["n"])


def member(database: Database, client_id: str, *, share: str = "g", ago: float = 3600, **more: Any) -> None:
    values = {
        "client_id": client_id,
        "share": share,
        "filters": [UP],
        "started_at": datetime.now(UTC) - timedelta(days=1),
        "seen_at": datetime.now(UTC) - timedelta(seconds=ago),
        **more,
    }
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    database.execute(f"INSERT INTO ingest_member ({names}) VALUES ({marks})", values)


def settings(url: str, **overrides: Any) -> IngestSettings:
    return IngestSettings(**{"mqtt_url": url, "mqtt_client_id": "dead-1", "mqtt_topics": (UP,), **overrides})


async def leave(given: IngestSettings, database_url: str) -> int:
    store = StoreSettings(database_url=database_url)
    return await leaving.run(given, store, SystemClock(), asyncio.Event())


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_dead_member_of_a_share(
    version: str, broker: BrokerInfo, database: Database, database_url: str
) -> None:
    url, v5 = broker.urls["ingest"], version == "5"
    share = (f"$share/g/{UP}",)
    for client_id in ("dead-1", "alive"):
        session(url, client_id, share, v5=v5)
    member(database, "dead-1")
    member(database, "alive")
    await asyncio.to_thread(publish, broker.urls["network"], uplinks(400))
    # The share of this machine's settings is another one: what to leave is in the database.
    first = await leave(settings(url, mqtt_version=version), database_url)
    assert 0 < first < 400
    assert stored(database) == first
    assert session(url, "dead-1", (), v5=v5) is False
    left = database.execute("SELECT client_id, left_at, connected FROM ingest_member ORDER BY 1").fetchall()
    assert [(row["client_id"], row["left_at"] is not None) for row in left] == [
        ("alive", False),
        ("dead-1", True),
    ]
    await asyncio.to_thread(publish, broker.urls["network"], uplinks(100, start=400))
    second = await leave(settings(url, mqtt_version=version, mqtt_client_id="alive"), database_url)
    assert first + second == stored(database) == 500


async def test_nats_forgets_what_waits_for_a_subscription_so_it_is_drained_before(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    server = EmbeddedBroker(tmp_path / "nats", kind="nats")
    info = await asyncio.to_thread(server.start)
    try:
        session(info.urls["ingest"], "dead-1", (UP,), v5=False)
        await asyncio.to_thread(publish, info.urls["network"], uplinks(300))
        assert await leave(settings(info.urls["ingest"]), database_url) == 300
        assert session(info.urls["ingest"], "dead-1", (), v5=False) is False
    finally:
        await asyncio.to_thread(server.stop)
    assert stored(database) == 300


async def test_a_connection_that_breaks_leaves_the_session_where_it_was(
    broker: BrokerInfo, database: Database, database_url: str
) -> None:
    url = broker.urls["ingest"]
    session(url, "dead-1", (UP,), v5=True)
    member(database, "dead-1", share="")
    await asyncio.to_thread(publish, broker.urls["network"], uplinks(300))
    async with TcpProxy("127.0.0.1", broker.port) as proxy:
        through = settings(url.replace(f":{broker.port}", f":{proxy.port}"))
        task = asyncio.create_task(leave(through, database_url))
        await until(lambda: stored(database) > 0)
        await proxy.cut()
        with pytest.raises(QuantracError, match="run it again"):
            await task
        row = database.execute("SELECT left_at FROM ingest_member").fetchone()
        assert row == {"left_at": None}
        proxy.mend()
        await leave(through, database_url)
    assert stored(database) == 300


async def test_a_running_process_is_not_robbed_of_its_session(
    broker: BrokerInfo, database: Database, database_url: str, tmp_path: Path
) -> None:
    member(database, "dead-1", ago=3, connected=True)
    env = {
        "QUANTRAC_DATABASE_URL": database_url,
        "QUANTRAC_MQTT_URL": broker.urls["ingest"],
        "QUANTRAC_MQTT_CLIENT_ID": "dead-1",
        "QUANTRAC_MQTT_SHARE": "g",
    }
    refused = await asyncio.to_thread(run, "ingest", "--leave", env=env, cwd=tmp_path)
    assert refused.returncode == 2
    assert "runs as dead-1" in refused.stderr
    database.execute("UPDATE ingest_member SET connected = false")
    session(broker.urls["ingest"], "dead-1", (f"$share/g/{UP}",), v5=True)
    await asyncio.to_thread(publish, broker.urls["network"], uplinks(50))
    done = await asyncio.to_thread(run, "ingest", "--leave", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "dead-1 left: 50 messages that waited for it are stored\n"


async def test_a_broker_that_is_away_is_told(database_url: str) -> None:
    with pytest.raises(QuantracError, match="cannot be reached"):
        await leave(settings("mqtt://127.0.0.1:1"), database_url)
