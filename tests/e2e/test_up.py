"""`quantrac up` from the first start to the last, as an officer and a subscriber live through it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from quantrac.embedded import EmbeddedBroker, EmbeddedPostgres
from tests.collector import Collector
from tests.e2e.conftest import Installation
from tests.program import Program, run
from tests.samples import samples
from tests.traffic import publish, uplinks
from tests.wait import until

UP = next(s for s in samples("chirpstack_v4") if s.name == "chirpstack_v4/up_full")


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    made = Installation(tmp_path / "dữ liệu")
    yield made
    await made.stop()
    for server in (EmbeddedBroker(made.folder), EmbeddedPostgres(made.folder)):
        if server.is_running():
            await asyncio.to_thread(server.stop)


@pytest.mark.slow
async def test_a_flood_reaches_its_subscriber_though_that_fails_at_first(installation: Installation) -> None:
    await installation.start()
    with Collector() as subscriber, installation.client() as api:
        subscriber.answer = 500
        made = api.post("/endpoints", json={"name": "Loa phường", "url": subscriber.url})
        assert made.status_code == 201, made.text
        secret = made.json()["secret"]
        flood = Program(
            "simulate", "la-nga-flood", "--register", "--speed", "3000", "--data", str(installation.folder),
            env=installation.env, cwd=installation.folder.parent,
        )  # fmt: skip
        await until(lambda: len(subscriber.received) >= 2, 60)
        subscriber.answer = 204

        def kinds() -> list[tuple[str, int]]:
            return [
                (m["type"], m["data"]["transition"]["to_level"])
                for m in subscriber.accepted(secret)
                if m["data"]["station"]["code"] == "phu-hiep"
            ]

        await until(lambda: len(kinds()) >= 2, 60)
        assert kinds()[:2] == [("alert.opened", 1), ("alert.escalated", 2)]
        first = [
            r
            for r in subscriber.received
            if r.headers["webhook-id"] == subscriber.received[0].headers["webhook-id"]
        ]
        assert {r.status for r in first} == {500, 204}, "the same id on every try"
        flood.stop()
        alert = next(a for a in api.get("/alerts").json()["items"] if a["station"]["code"] == "phu-hiep")
        assert alert["simulated"]
        assert api.post(f"/alerts/{alert['id']}/ack", json={"note": "Đã báo xã"}).status_code == 200
        await until(lambda: any(m["type"] == "alert.acknowledged" for m in subscriber.accepted(secret)), 20)
        await until(lambda: installation.status()["deliveries"]["pending"] == 0, 30)


@pytest.mark.slow
async def test_kill_9_of_everything_in_the_middle_of_20_000_uplinks(installation: Installation) -> None:
    await installation.start()
    assert installation.program is not None
    thread = threading.Thread(
        target=publish, args=(installation.broker_url("network"), uplinks(20_000)), daemon=True
    )
    thread.start()
    for share in (3_000, 9_000):
        await until(lambda: installation.status()["uplinks"]["stored"] >= share, 60)  # noqa: B023
        services = installation.services()
        assert len(services) == 4
        # At once: a service that is left alone for a moment ends in order.
        for pid in (installation.program.pid, *services):
            os.kill(pid, signal.SIGKILL)
        installation.program.kill()
        await installation.start()
        assert installation.program is not None
    thread.join(60)
    await until(lambda: installation.status()["uplinks"]["stored"] >= 20_000, 60)
    assert installation.status()["uplinks"]["stored"] == 20_000
    with installation.client() as api:
        page = api.get("/uplinks", params={"limit": 1000}).json()["items"]
    assert len({item["dedup_key"] for item in page}) == 1000


@pytest.mark.slow
async def test_services_end_by_themselves_when_up_is_killed(installation: Installation) -> None:
    await installation.start()
    assert installation.program is not None
    assert len(installation.services()) == 4
    installation.program.kill()
    await until(lambda: not installation.services(), 30)
    await installation.start()
    again = run(
        "up", "--data", str(installation.folder), env=installation.env, cwd=installation.folder.parent
    )
    assert again.returncode == 2
    assert "is already run by process" in again.stderr


@pytest.mark.slow
async def test_adopting_a_device_over_the_api_decodes_what_it_sent(installation: Installation) -> None:
    await installation.start()
    await asyncio.to_thread(publish, installation.broker_url("network"), [(UP.topic, UP.payload)])
    with installation.client() as api:

        def unregistered() -> list[dict[str, Any]]:
            return list(api.get("/devices", params={"status": "unregistered"}).json()["items"])

        found = await until(unregistered)
        assert [d["dev_eui"] for d in found] == ["24e124136b502217"]
        adopted = api.post(
            "/devices/24e124136b502217/adopt", json={"device_type": "milesight-em300", "name": "Tủ lạnh"}
        )
        assert adopted.status_code == 202, adopted.text
        query = {"device": "24e124136b502217", "metric": "air.temperature"}
        readings = await until(lambda: api.get("/readings", params=query).json()["items"])
        assert [r["value"] for r in readings] == [30.8]


async def test_wrong_settings_are_one_line_that_names_the_cure(tmp_path: Path) -> None:
    cases = {
        "QUANTRAC_MQTT_URL": "http://broker",
        "QUANTRAC_API_PORT": "eighty",
        "QUANTRAC_WEBHOOK_ALLOW": "10.0.0.1/8",
        "QUANTRAC_DATABASE_URL": "postgresql://[",
    }
    for name, value in cases.items():
        done = run("up", "--data", str(tmp_path / "x"), env={name: value}, cwd=tmp_path)
        assert done.returncode == 2, (name, done.stdout, done.stderr)
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"quantrac: {name}: "), lines
