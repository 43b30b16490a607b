"""Pages stay what they were while rows arrive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from .conftest import Caller
from .world import EUI, NEW_EUI, T0, World


async def pages(client: httpx.AsyncClient, path: str, **params: Any) -> list[list[dict[str, Any]]]:
    """Every page of a list."""
    found = []
    cursor: str | None = None
    while True:
        answer = await client.get(path, params={**params, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["items"])
        cursor = answer.json()["next"]
        if cursor is None:
            return found
        assert len(found) < 1000


async def test_readings_that_arrive_meanwhile_move_nothing(viewer: httpx.AsyncClient, world: World) -> None:
    for n in range(10):
        world.reading(T0 + timedelta(minutes=n), n)
    params: dict[str, Any] = {"device": EUI, "order": "desc", "limit": 4}
    first = (await viewer.get("/api/v1/readings", params=params)).json()
    world.reading(T0 + timedelta(minutes=60), 60)
    world.reading(T0 + timedelta(minutes=8, seconds=30), 8.5)
    rest = await pages(viewer, "/api/v1/readings", **params, cursor=first["next"])
    values = [item["value"] for page in [first["items"], *rest] for item in page]
    assert values == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_readings_of_one_moment_come_once_each(
    viewer: httpx.AsyncClient, world: World, order: str
) -> None:
    expected = set()
    for device, eui in ((world.device, EUI), (world.newcomer, NEW_EUI)):
        for metric in ("water.level", "battery.voltage"):
            for channel in range(3):
                for uplink in range(2):
                    world.reading(T0, channel, device=device, metric=metric, channel=channel, uplink=uplink)
                    expected.add((eui, metric, channel, str(uplink)))
    for limit in (1, 5, 24, 1000):
        found = await pages(viewer, "/api/v1/readings", limit=limit, order=order)
        assert all(len(page) == limit for page in found[:-1])
        rows = [(i["dev_eui"], i["metric"], i["channel"], i["uplink"]) for page in found for i in page]
        assert len(rows) == len(expected)
        assert set(rows) == expected


async def test_every_list_can_be_paged_to_its_end(caller: Caller, world: World) -> None:
    for n in range(5):
        code = f"station-{n}"
        world.database.execute(
            "INSERT INTO station (code, name, latitude, longitude) VALUES (%s, %s, 10, 106)", (code, code)
        )
        world.uplink(T0)
        world.alert(state="resolved")
        for query in (
            "INSERT INTO event (time, ingest_time, dedup_key, kind, network, topic, message)"
            " VALUES (now(), now(), gen_random_uuid(), 'join', 'n', 't', '')",
            "INSERT INTO reject (key, received_at, reason, detail, source, topic, message)"
            " VALUES (gen_random_uuid(), now(), 'not_json', 'd', 'mqtt', 't', 'x')",
            "INSERT INTO api_key (name, role, hint, key_hash)"
            " VALUES ('k', 'viewer', 'h', uuid_send(gen_random_uuid()))",
            "INSERT INTO endpoint (name, url, secret) VALUES ('e', 'https://example.org', '')",
            f"INSERT INTO decode_job (device_id, requested_by) VALUES ({world.device}, 'x')",
            f"INSERT INTO rule (id, definition) VALUES ('r{n}', '{{}}')",
            f"INSERT INTO device_type VALUES ('t{n}', 'v', 'm', 'c', 60, '[]')",
            f"INSERT INTO message VALUES ('msg_{n}', 'endpoint.test', NULL, NULL, '{{}}', now())",
            "INSERT INTO delivery (message_id, endpoint_id, next_at, created_at)"
            f" SELECT 'msg_{n}', min(id), now(), now() FROM endpoint",
        ):
            world.database.execute(query)
    world.latest(T0, {f"water.level:{n}": (0, n, 1) for n in range(5)})
    alert = world.alert()
    for seq in range(2, 6):
        world.database.execute(
            "INSERT INTO transition (alert_id, seq, at, known_at, kind)"
            " VALUES (%s, %s, now(), now(), 'commented')",
            (alert, seq),
        )
    lists = {
        "/stations": "code",
        "/device-types": "id",
        "/uplinks": "id",
        "/events": "id",
        "/rejects": "id",
        "/rules": "id",
        "/alerts": "id",
        f"/alerts/{alert}/transitions": "seq",
        "/endpoints": "id",
        "/deliveries": "id",
        "/keys": "id",
        f"/devices/{EUI}/decode-jobs": "id",
        "/latest": "channel",
        "/metrics-catalogue": "key",
        "/devices": "dev_eui",
    }
    for path, key in lists.items():
        whole = await pages(caller("admin"), "/api/v1" + path, limit=1000)
        by_ones = await pages(caller("admin"), "/api/v1" + path, limit=1)
        assert [item[key] for page in by_ones for item in page] == [item[key] for item in whole[0]], path
        assert len(whole[0]) >= (2 if path == "/devices" else 5), path
