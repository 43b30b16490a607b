"""The live stream, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from api import live, service
from api.live import newest_of_each
from api.routes import stream as route
from api.stream import Client, Hub
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.lanes import READING_DTYPE, prune, unpack
from telemetry.store.pool import async_pool
from tests.wait import PATIENCE, until

from .conftest import KEYS, as_problem
from .served import Proxy, Served, calling, listening, serving
from .world import EUI, NEW_EUI, T0, World

pytestmark = pytest.mark.usefixtures("accounts")


@pytest.fixture
async def served(database_url: str, box: SecretBox) -> AsyncIterator[Served]:
    async with serving(database_url, box) as running:
        yield running


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(served.url, authorization=f"Bearer {KEYS['operator'].key}") as made:
        yield made


async def test_a_committed_reading_arrives(client: httpx.AsyncClient, world: World) -> None:
    world.commit((T0, 1.0))
    async with listening(client) as stream:
        world.commit((T0 + timedelta(milliseconds=1500), 104.25), (T0, 104.0))
        sent = await stream.next("reading")
        assert sent.data == [
            {
                "dev_eui": EUI,
                "station": "phu-hiep",
                "metric": "water.level",
                "channel": 0,
                "time": (T0 + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.500Z"),
                "value": 104.25,
                "quality": 1,
            },
            {
                "dev_eui": EUI,
                "station": "phu-hiep",
                "metric": "water.level",
                "channel": 0,
                "time": T0.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "value": 104.0,
                "quality": 1,
            },
        ]
        world.commit((T0, 2.0), writer="another")
        later = await stream.next("reading")
        assert [r["value"] for r in later.data] == [2.0]
        assert later.id != sent.id


async def test_a_station_hears_of_itself_only(client: httpx.AsyncClient, world: World) -> None:
    async with listening(client, station="phu-hiep") as one, listening(client) as all_of_them:
        world.commit((T0, 1.0), device=world.newcomer)
        world.commit((T0, 2.0))
        elsewhere = world.alert(rule="other", station_id=None)
        here = world.alert()
        assert [r["value"] for r in (await one.next("reading")).data] == [2.0]
        assert (await one.next("alert")).data["id"] == str(here)
        heard = [(await all_of_them.next("alert")).data["id"] for _ in range(2)]
        assert set(heard) == {str(here), str(elsewhere)}


async def test_a_device_that_moves_is_heard_at_its_new_station(
    client: httpx.AsyncClient, world: World
) -> None:
    async with listening(client) as stream:
        world.commit((T0, 1.0), device=world.newcomer)
        first = (await stream.next("reading")).data[0]
        assert (first["dev_eui"], first["station"]) == (NEW_EUI, None)
        world.database.execute(
            "UPDATE device SET station_id = %s WHERE id = %s", (world.station, world.newcomer)
        )
        world.commit((T0, 1.0), device=world.newcomer)
        assert (await stream.next("reading")).data[0]["station"] == "phu-hiep"


async def test_every_change_of_an_alert_arrives_as_the_list_shows_it(
    client: httpx.AsyncClient, world: World
) -> None:
    before = world.alert(rule="before")
    async with listening(client) as stream:
        id_ = world.alert()
        assert (await stream.next("alert")).data == (await client.get(f"/api/v1/alerts/{id_}")).json()
        answer = await client.post(f"/api/v1/alerts/{id_}/ack")
        assert (await stream.next("alert")).data == answer.json()
        answer = await client.post(f"/api/v1/alerts/{before}/comment", json={"note": "xong"})
        assert (await stream.next("alert")).data == answer.json()


async def test_who_comes_back_is_told_to_fetch_anew(client: httpx.AsyncClient, world: World) -> None:
    client.headers["last-event-id"] = "abc.7"
    async with listening(client) as stream:
        assert (await stream.next("resync", "reading", "alert")).kind == "resync"


async def test_pings_until_the_key_is_revoked(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "PING_SECONDS", 0.1)
    async with listening(client) as stream:
        await stream.next("ping")
        world.database.execute("UPDATE api_key SET revoked_at = now()")
        await stream.until_end()
    as_problem(await client.get("/api/v1/stream"), 401)


async def test_stopping_ends_the_streams_at_once(
    database_url: str, box: SecretBox, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DRAIN_SECONDS", 4 * PATIENCE)  # which other requests have
    async with (
        serving(database_url, box) as served,
        calling(served.url, authorization=f"Bearer {KEYS['operator'].key}") as client,
        listening(client) as stream,
    ):
        served.stop.set()
        async with asyncio.timeout(PATIENCE):
            await stream.until_end()
            await served.ended


async def test_nobody_listening_costs_nothing(client: httpx.AsyncClient, world: World) -> None:
    def following() -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if task.get_name() == "stream"]

    assert not following()
    async with listening(client):
        assert following()
    await until(lambda: not following())
    world.commit((T0, 1.0))
    async with listening(client) as stream:
        world.commit((T0, 2.0))
        assert [r["value"] for r in (await stream.next("reading")).data] == [2.0]


async def test_it_holds_no_clean_up_of_lanes_back(
    client: httpx.AsyncClient, world: World, database_url: str
) -> None:
    world.database.execute("DELETE FROM follower")  # which batches do wait for
    async with (
        async_pool(StoreSettings(database_url=database_url), application="test") as pool,
        listening(client) as stream,
    ):
        world.commit((T0, 1.0))
        await stream.next("reading")
        world.commit((T0, 2.0))
        async with pool.connection() as connection:
            assert await prune(connection, datetime.now(UTC) + timedelta(hours=1)) == 2
        assert world.one("SELECT count(*) FROM follower") == 0


async def test_a_flood_is_told_by_the_newest_of_each_series(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_READINGS", 50)
    async with listening(client) as stream:
        world.commit(*[(T0 + timedelta(seconds=n), float(n)) for n in range(51)])
        assert [r["value"] for r in (await stream.next("reading")).data] == [50.0]


async def test_what_is_too_much_to_read_is_skipped_and_said(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_BYTES", 100)
    async with listening(client) as stream:
        world.commit(*[(T0, float(n)) for n in range(10)])
        assert (await stream.next("resync", "reading")).kind == "resync"
        world.commit((T0, 2.0))
        assert (await stream.next("resync", "reading")).kind == "reading"


async def test_a_lost_database_is_waited_for(database_url: str, box: SecretBox, world: World) -> None:
    proxy = Proxy(database_url)
    await proxy.open()
    async with (
        serving(proxy.url, box) as served,
        calling(served.url, authorization=f"Bearer {KEYS['viewer'].key}") as client,
        listening(client) as stream,
    ):
        with capture_logs() as logs:
            await proxy.cut()
            await until(lambda: any(entry["event"] == "stream_interrupted" for entry in logs))
        await proxy.open()
        await stream.next("resync")
        world.commit((T0, 7.0))
        assert [r["value"] for r in (await stream.next("reading")).data] == [7.0]
    await proxy.cut()


async def test_a_client_that_cannot_keep_up_is_dropped(database_url: str, world: World) -> None:
    async with async_pool(StoreSettings(database_url=database_url), application="test") as pool:
        hub = Hub(pool)
        slow = await hub.join(None)
        quick = await hub.join(None)
        while not slow.queue.full():
            slow.queue.put_nowait(b"read by nobody")
        world.commit((T0, 1.0))
        await until(lambda: slow.queue.qsize() == 2)
        assert b"event: resync" in (slow.queue.get_nowait() or b"")
        assert slow.queue.get_nowait() is None
        assert b"event: reading" in (await quick.queue.get() or b"")
        hub.close()
        await until(lambda: quick.queue.qsize() == 1 and quick.queue.get_nowait() is None)


def test_the_newest_of_each_series() -> None:
    rows = [
        (5, 1.0, 1, 1, 1, 0, 1),
        (7, 2.0, 1, 1, 1, 0, 1),
        (6, 3.0, 1, 1, 1, 0, 1),
        (1, 4.0, 1, 1, 1, 1, 1),
        (1, 5.0, 1, 2, 1, 0, 1),
        (1, 6.0, 1, 1, 2, 0, 1),
    ]
    assert newest_of_each(np.array(rows, READING_DTYPE))["value"].tolist() == [2.0, 4.0, 6.0, 5.0]
    assert len(newest_of_each(unpack(b""))) == 0
    assert newest_of_each(np.array(rows[:1], READING_DTYPE))["value"].tolist() == [1.0]


def test_an_ended_client_gets_the_last_word() -> None:
    client = Client(None)
    client.queue.put_nowait(b"x")
    client.end(b"bye")
    assert [client.queue.get_nowait(), client.queue.get_nowait()] == [b"bye", None]
