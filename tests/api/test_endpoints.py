"""Endpoints and deliveries."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from ipaddress import IPv4Network
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from alerting.delivery.send import Sender
from alerting.delivery.settings import DeliverySettings
from alerting.delivery.worker import Worker
from telemetry.clock import ManualClock, SystemClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.pool import async_pool
from tests.alerting.delivery.conftest import Receiver

from .conftest import Caller, as_problem, fields_of
from .world import T0, World

ENDPOINTS = "/api/v1/endpoints"
BODY: dict[str, Any] = {"name": "Loa xã", "url": "https://loa.example.vn/hook"}


@pytest.fixture
def admin(caller: Caller) -> httpx.AsyncClient:
    return caller("admin")


async def _add(admin: httpx.AsyncClient, **change: Any) -> dict[str, Any]:
    answer = await admin.post(ENDPOINTS, json={**BODY, **change})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_subscription_shows_its_secret_once(
    admin: httpx.AsyncClient, world: World, box: SecretBox
) -> None:
    made = await _add(admin, event_types=["alert.opened", "alert.opened"], min_level=2, simulated=False)
    secret = made.pop("secret")
    Webhook(secret)
    assert (
        made.items()
        >= {
            **BODY,
            "event_types": ["alert.opened"],
            "min_level": 2,
            "simulated": False,
            "enabled": True,
            "disabled_why": None,
            "last_success": None,
            "pending": 0,
        }.items()
    )
    stored = world.one("SELECT secret FROM endpoint")
    assert secret.encode() not in stored
    assert box.decrypt(stored).decode() == secret
    assert (await admin.get(ENDPOINTS)).json()["items"] == [made]
    assert (await admin.get(f"{ENDPOINTS}/{made['id']}")).json() == made
    assert secret not in json.dumps(world.database.execute("SELECT detail FROM audit").fetchall())


async def test_rotation_keeps_the_old_secret_for_a_day(
    admin: httpx.AsyncClient, world: World, box: SecretBox, clock: ManualClock
) -> None:
    made = await _add(admin)
    fresh = (await admin.post(f"{ENDPOINTS}/{made['id']}/rotate")).json()["secret"]
    row = world.database.execute("SELECT secret, old_secret, old_until FROM endpoint").fetchall()[0]
    assert box.decrypt(row["secret"]).decode() == fresh != made["secret"]
    assert box.decrypt(row["old_secret"]).decode() == made["secret"]
    assert row["old_until"] == clock.now() + timedelta(days=1)


async def test_bad_subscriptions(admin: httpx.AsyncClient, world: World) -> None:
    made = await _add(admin)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"url": "ftp://example.vn"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://a:b@example.vn"}, "url"),
        ({"url": "x" * 3000}, "url"),
        ({"name": ""}, "name"),
        ({"event_types": ["alert.exploded"]}, "event_types"),
        ({"min_level": 6}, "min_level"),
        ({"simulated": "maybe"}, "simulated"),
    ]
    for change, field in bad:
        assert fields_of(await admin.post(ENDPOINTS, json={**BODY, **change})) == [field]
        assert fields_of(await admin.patch(f"{ENDPOINTS}/{made['id']}", json=change)) == [field]
    for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/test")):
        as_problem(await admin.request(method, f"{ENDPOINTS}/77{path}", json={}), 404)


async def test_a_change_leaves_the_rest(admin: httpx.AsyncClient, world: World) -> None:
    made = await _add(admin, min_level=3)
    changed = (await admin.patch(f"{ENDPOINTS}/{made['id']}", json={"name": "LGSP"})).json()
    assert (changed["name"], changed["min_level"], changed["url"]) == ("LGSP", 3, BODY["url"])


async def test_switched_off_and_on_again(admin: httpx.AsyncClient, world: World) -> None:
    id_ = (await _add(admin))["id"]
    delivery = (await admin.post(f"{ENDPOINTS}/{id_}/test")).json()["delivery"]
    assert (await admin.get(f"{ENDPOINTS}/{id_}")).json()["pending"] == 1
    off = (await admin.patch(f"{ENDPOINTS}/{id_}", json={"enabled": False})).json()
    assert (off["enabled"], off["disabled_why"], off["pending"]) == (False, "switched off by key:admin", 0)
    as_problem(await admin.post(f"{ENDPOINTS}/{id_}/test"), 409)
    as_problem(await admin.post(f"/api/v1/deliveries/{delivery}/resend"), 409)
    on = (await admin.patch(f"{ENDPOINTS}/{id_}", json={"enabled": True})).json()
    assert (on["enabled"], on["disabled_why"], on["pending"]) == (True, None, 0)
    since = (T0 - timedelta(days=1)).isoformat()
    recovered = await admin.post(f"{ENDPOINTS}/{id_}/recover", json={"since": since})
    assert (recovered.status_code, recovered.json()) == (202, {"recovered": 1})
    assert (await admin.get(f"{ENDPOINTS}/{id_}")).json()["pending"] == 1


async def test_what_a_disabled_endpoint_missed_is_recovered_in_order(
    admin: httpx.AsyncClient, world: World, database_url: str, box: SecretBox
) -> None:
    async with (
        Receiver().listening() as receiver,
        async_pool(StoreSettings(database_url=database_url), application="test") as pool,
    ):
        id_ = (await _add(admin, url=receiver.url()))["id"]
        await admin.patch(f"{ENDPOINTS}/{id_}", json={"enabled": False})
        alerts = [str(world.alert(rule=rule)) for rule in ("one", "two")]
        for action in ("ack", "comment", "close"):
            for alert in alerts:
                answer = await admin.post(f"/api/v1/alerts/{alert}/{action}", json={"note": "x"})
                assert answer.status_code == 200, answer.text
        missed = (await admin.get("/api/v1/deliveries")).json()["items"]
        assert {(d["state"], d["last_error"]) for d in missed} == {("failed", "the endpoint is disabled")}

        await admin.patch(f"{ENDPOINTS}/{id_}", json={"enabled": True})
        since = (T0 - timedelta(days=1)).isoformat()
        recovered = await admin.post(f"{ENDPOINTS}/{id_}/recover", json={"since": since})
        assert recovered.json() == {"recovered": 6}
        settings = DeliverySettings(webhook_allow=(IPv4Network("127.0.0.0/8"),))
        async with Sender(settings) as sender:
            worker = Worker(pool, settings, SystemClock(), box, sender)
            while jobs := await worker.claim(100):
                await asyncio.gather(*map(worker.perform, jobs))

        sent = {d["message_id"]: (d["alert"], d["seq"]) for d in missed}
        got = [sent[message] for message in receiver.ids]
        for alert in alerts:
            assert [seq for of, seq in got if of == alert] == [2, 3, 4]
        assert len(got) == 6
        now = (await admin.get("/api/v1/deliveries")).json()["items"]
        assert {(d["state"], d["last_error"]) for d in now} == {("delivered", None)}


async def test_delete_takes_its_deliveries(admin: httpx.AsyncClient, world: World) -> None:
    id_ = (await _add(admin))["id"]
    await admin.post(f"{ENDPOINTS}/{id_}/test")
    assert (await admin.delete(f"{ENDPOINTS}/{id_}")).status_code == 204
    assert world.one("SELECT count(*) FROM delivery") == 0
    as_problem(await admin.delete(f"{ENDPOINTS}/{id_}"), 404)


async def test_a_delivery_with_its_tries(admin: httpx.AsyncClient, world: World) -> None:
    id_ = (await _add(admin))["id"]
    sent = await admin.post(f"{ENDPOINTS}/{id_}/test")
    assert sent.status_code == 202
    delivery = sent.json()["delivery"]
    world.database.execute(
        "INSERT INTO attempt (delivery_id, at, duration_ms, status, response)"
        " VALUES (%s, %s, 12, 500, 'lỗi')",
        (delivery, T0),
    )
    world.database.execute("UPDATE delivery SET state = 'failed', attempts = 1, last_status = 500")
    found = (await admin.get(f"/api/v1/deliveries/{delivery}")).json()
    assert (
        found.items()
        >= {
            "id": delivery,
            "endpoint": id_,
            "type": "endpoint.test",
            "alert": None,
            "seq": None,
            "state": "failed",
            "attempts": 1,
            "last_status": 500,
        }.items()
    )
    body = json.loads(found["body"])
    assert body["type"] == "endpoint.test"
    assert body["data"] == {"endpoint": {"id": id_, "name": "Loa xã"}}
    assert found["tries"] == [
        {
            "at": T0.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_ms": 12,
            "status": 500,
            "error": None,
            "response": "lỗi",
        }
    ]

    again = await admin.post(f"/api/v1/deliveries/{delivery}/resend")
    assert again.status_code == 202
    assert (again.json()["state"], again.json()["attempts"]) == ("pending", 0)
    assert again.json()["message_id"] == found["message_id"]

    async def listed(**params: Any) -> list[int]:
        items = (await admin.get("/api/v1/deliveries", params=params)).json()["items"]
        return [item["id"] for item in items]

    assert await listed() == await listed(endpoint=id_) == await listed(state="pending") == [delivery]
    assert await listed(state="failed") == await listed(endpoint=id_ + 1) == []
    assert await listed(alert="00000000-0000-0000-0000-000000000000") == []
    as_problem(await admin.get("/api/v1/deliveries", params={"alert": "x"}), 422)


async def test_keys_are_shown_once_used_and_revoked(
    admin: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    made = (await admin.post("/api/v1/keys", json={"name": "Tổng đài 1022", "role": "viewer"})).json()
    key = made.pop("key")
    assert key.startswith(made["hint"])
    assert len(key) == 46
    listed = (await admin.get("/api/v1/keys")).json()["items"]
    assert listed[-1] == made
    assert (made["created_by"], made["revoked_at"]) == ("key:admin", None)
    headers = {"authorization": f"Bearer {key}"}
    assert (await anonymous.get("/api/v1/stations", headers=headers)).status_code == 200
    assert (await admin.delete(f"/api/v1/keys/{made['id']}")).status_code == 204
    as_problem(await anonymous.get("/api/v1/stations", headers=headers), 401)
    as_problem(await admin.delete(f"/api/v1/keys/{made['id']}"), 404)
    assert fields_of(await admin.post("/api/v1/keys", json={"name": "x", "role": "root"})) == ["role"]
