"""The service as a member of its group: what the database knows after restarts, cuts and lost sessions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import psycopg

from ingest import members
from quantrac.embedded import BrokerInfo, EmbeddedBroker
from tests.ingest.conftest import Running
from tests.program import Program, run
from tests.proxy import TcpProxy
from tests.samples import samples
from tests.traffic import publish, uplinks
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]


def member(database: Database, client_id: str = "test-ingest") -> dict[str, Any]:
    found = database.execute("SELECT * FROM ingest_member WHERE client_id = %s", (client_id,)).fetchone()
    return found or {}


def gaps(database: Database) -> list[str]:
    rows = database.execute("SELECT * FROM ingest_gap ORDER BY id").fetchall()
    assert all(row["ended_at"] >= row["began_at"] for row in rows)
    return [row["why"] for row in rows]


def uplinks_stored(database: Database) -> int:
    row = database.execute("SELECT count(*) AS n FROM uplink").fetchone()
    assert row is not None
    return int(row["n"])


async def test_it_registers_restarts_and_is_cut_off(
    ingest: Running, broker: BrokerInfo, database: Database
) -> None:
    async with ingest(mqtt_share="g"):
        found = await until(lambda: (row := member(database)).get("connected") and row)
        assert (found["share"], found["mqtt"], found["left_at"]) == ("g", "5", None)
        assert found["broker"] == f"127.0.0.1:{broker.port}"
        assert "ingest:" not in str(found)
    assert member(database)["connected"] is False
    assert gaps(database) == []
    stopped_at = member(database)["seen_at"]
    async with TcpProxy("127.0.0.1", broker.port) as proxy:
        url = broker.urls["ingest"].replace(f":{broker.port}", f":{proxy.port}")
        async with ingest(mqtt_url=url, mqtt_share="g"):
            await until(lambda: member(database)["connected"])
            assert gaps(database) == ["service"]
            row = database.execute("SELECT began_at FROM ingest_gap").fetchone()
            assert row == {"began_at": stopped_at}
            await proxy.cut()
            await until(lambda: not member(database)["connected"])
            proxy.mend()
            await until(lambda: member(database)["connected"])
            assert gaps(database) == ["service", "broker"]


async def test_a_broker_that_lost_the_session(ingest: Running, tmp_path: Path, database: Database) -> None:
    server = EmbeddedBroker(tmp_path / "forgetful")
    info = await asyncio.to_thread(server.start)
    try:
        async with ingest(mqtt_url=info.urls["ingest"]):
            await until(lambda: member(database).get("connected"))
            await asyncio.to_thread(server.stop)
            for file in (tmp_path / "forgetful/broker/mosquitto/store").iterdir():
                file.unlink()
            await until(lambda: not member(database)["connected"])
            await asyncio.to_thread(server.start)
            await until(lambda: gaps(database) == ["session"])
    finally:
        await asyncio.to_thread(server.stop)


async def test_what_is_published_at_qos_0_is_counted(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    (up,) = [one for one in samples("chirpstack_v4") if one.name == "chirpstack_v4/up_full"]
    async with ingest():
        await publisher.publish(up.topic, up.payload, qos=0)
        await publisher.publish(up.topic, up.payload, qos=1)
        await until(lambda: uplinks_stored(database) == 1)
    root = "/".join(up.topic.split("/")[:2])
    rows = database.execute("SELECT root, messages FROM qos_watch").fetchall()
    assert rows == [{"root": root, "messages": 1}]


async def test_a_member_killed_in_its_share_leaves_from_elsewhere_and_nothing_is_lost(
    broker: BrokerInfo, database: Database, database_url: str
) -> None:
    env = {
        "QUANTRAC_DATABASE_URL": database_url,
        "QUANTRAC_MQTT_URL": broker.urls["ingest"],
        "QUANTRAC_MQTT_SHARE": "g",
    }
    one = Program("ingest", env={**env, "QUANTRAC_MQTT_CLIENT_ID": "one"})
    two = Program("ingest", env={**env, "QUANTRAC_MQTT_CLIENT_ID": "two"})
    for client_id in ("one", "two"):
        await until(lambda: member(database, client_id).get("connected"), 40)  # noqa: B023
    await asyncio.to_thread(publish, broker.urls["network"], uplinks(500))
    await until(lambda: uplinks_stored(database) == 500)
    refused = await asyncio.to_thread(run, "ingest", "--leave", env={**env, "QUANTRAC_MQTT_CLIENT_ID": "two"})
    assert refused.returncode == 2
    two.kill()
    await asyncio.to_thread(publish, broker.urls["network"], uplinks(500, start=500))
    ago = timedelta(seconds=4 * members.BEAT_SECONDS)  # as if that long had passed
    database.execute(
        "UPDATE ingest_member SET seen_at = %s WHERE client_id = 'two'", (datetime.now(UTC) - ago,)
    )
    left = await asyncio.to_thread(run, "ingest", "--leave", env={**env, "QUANTRAC_MQTT_CLIENT_ID": "two"})
    assert left.returncode == 0, left.stderr
    await until(lambda: uplinks_stored(database) == 1000)
    await asyncio.to_thread(publish, broker.urls["network"], uplinks(500, start=1000))
    await until(lambda: uplinks_stored(database) == 1500)
    assert member(database, "two")["left_at"] is not None
    assert one.stop() == 0, one.output
