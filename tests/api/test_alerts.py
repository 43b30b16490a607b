"""Alerts and what people do about them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from telemetry.clock import ManualClock

from .conftest import Caller, as_problem, fields_of
from .world import EUI, T0, World

ALERTS = "/api/v1/alerts"
NOBODY = UUID(int=0)


def _subscribe(world: World) -> None:
    world.database.execute(
        "INSERT INTO endpoint (name, url, secret) VALUES ('LGSP', 'https://lgsp.example', '')"
    )


async def test_an_alert_with_all_it_says(viewer: httpx.AsyncClient, world: World) -> None:
    id_ = world.alert(level=2, updated_at=T0)
    found = (await viewer.get(f"{ALERTS}/{id_}")).json()
    at = T0.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found == {
        "id": str(id_),
        "rule": {"id": "river-level", "name": {"vi": "Mực nước sông", "en": "River level"}},
        "station": {"code": "phu-hiep", "name": "Trạm Phú Hiệp"},
        "dev_eui": EUI,
        "metric": "water.level",
        "channel": 0,
        "unit": "m",
        "state": "firing",
        "level": 2,
        "peak_level": 2,
        "label": "BĐ2",
        "value": 104.6,
        "opened_at": at,
        "ended_at": None,
        "updated_at": at,
        "acked_at": None,
        "acked_by": None,
        "assignee": None,
        "late": False,
        "simulated": False,
        "seq": 1,
    }
    assert (await viewer.get(ALERTS)).json() == {"items": [found], "next": None}


async def test_an_alert_outlives_its_rule(caller: Caller, world: World) -> None:
    id_ = world.alert()
    await caller("engineer").delete("/api/v1/rules/river-level")
    rule = (await caller("viewer").get(f"{ALERTS}/{id_}")).json()["rule"]
    assert rule == {"id": "river-level", "name": {"vi": "river-level", "en": "river-level"}}


async def test_filters_and_order(viewer: httpx.AsyncClient, world: World) -> None:
    old = world.alert(opened_at=T0, level=1, state="resolved", rule="a")
    new = world.alert(opened_at=T0 + timedelta(minutes=5), level=3, rule="b")
    elsewhere = world.alert(opened_at=T0 + timedelta(minutes=1), level=2, rule="a", station_id=None)

    async def found(**params: Any) -> list[UUID]:
        return [UUID(item["id"]) for item in (await viewer.get(ALERTS, params=params)).json()["items"]]

    assert await found() == [new, elsewhere, old]
    assert await found(state="resolved") == [old]
    assert await found(station="phu-hiep") == [new, old]
    assert await found(rule="a") == [elsewhere, old]
    assert await found(level=2) == [new, elsewhere]


async def test_a_life(caller: Caller, world: World, clock: ManualClock) -> None:
    _subscribe(world)
    id_ = world.alert()
    operator = caller("operator")
    steps = [
        ("ack", {"note": "Đã báo xã Phú Hiệp"}),
        ("assign", {"assignee": "Nguyễn Văn A"}),
        ("comment", {"note": "Nước đang lên"}),
        ("assign", {"assignee": None}),
        ("close", {"note": "Xong"}),
    ]
    for step, body in steps:
        clock.advance(timedelta(minutes=1))
        answer = await operator.post(f"{ALERTS}/{id_}/{step}", json=body)
        assert answer.status_code == 200, answer.text
        if step == "ack":
            acked = answer.json()
    assert (acked["acked_by"], acked["acked_at"]) == (
        "key:operator",
        (T0 + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    closed = answer.json()
    assert (closed["state"], closed["level"], closed["peak_level"], closed["seq"]) == ("closed", 0, 1, 6)
    assert (
        closed["ended_at"]
        == closed["updated_at"]
        == (T0 + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    log = (await operator.get(f"{ALERTS}/{id_}/transitions")).json()["items"]
    assert [(t["seq"], t["kind"], t["actor"], t["note"]) for t in log] == [
        (1, "opened", None, None),
        (2, "acknowledged", "key:operator", "Đã báo xã Phú Hiệp"),
        (3, "assigned", "key:operator", None),
        (4, "commented", "key:operator", "Nước đang lên"),
        (5, "assigned", "key:operator", None),
        (6, "closed", "key:operator", "Xong"),
    ]
    assert [(t["from_level"], t["to_level"]) for t in log[-2:]] == [(1, 1), (1, 0)]
    messages = world.database.execute(
        "SELECT m.type, m.alert_seq, m.body FROM message m JOIN delivery d ON d.message_id = m.id"
        " ORDER BY m.alert_seq"
    ).fetchall()
    assert [(m["type"], m["alert_seq"]) for m in messages] == [
        ("alert.acknowledged", 2),
        ("alert.updated", 3),
        ("alert.updated", 4),
        ("alert.updated", 5),
        ("alert.closed", 6),
    ]
    assert json.loads(messages[1]["body"])["data"]["alert"]["assignee"] == "Nguyễn Văn A"
    audited = world.database.execute("SELECT action FROM audit ORDER BY id").fetchall()
    assert [row["action"] for row in audited] == [
        "alert.acknowledged",
        "alert.assigned",
        "alert.commented",
        "alert.assigned",
        "alert.closed",
    ]


async def test_of_two_who_acknowledge_at_once_one_does(caller: Caller, world: World) -> None:
    _subscribe(world)
    id_ = world.alert()
    answers = await asyncio.gather(*[caller("operator").post(f"{ALERTS}/{id_}/ack") for _ in range(6)])
    assert sorted(a.status_code for a in answers) == [200, *[409] * 5]
    refused = next(a for a in answers if a.status_code == 409)
    assert "key:operator" in as_problem(refused, 409, "conflict")["detail"]
    assert world.one("SELECT count(*) FROM transition WHERE kind = 'acknowledged'") == 1
    assert world.one("SELECT count(*) FROM delivery") == 1


async def test_remarks_side_by_side_are_all_kept_in_order(caller: Caller, world: World) -> None:
    id_ = world.alert()
    await asyncio.gather(
        *[caller("operator").post(f"{ALERTS}/{id_}/comment", json={"note": f"n{n}"}) for n in range(8)]
    )
    rows = world.database.execute("SELECT seq FROM transition ORDER BY seq").fetchall()
    assert [row["seq"] for row in rows] == list(range(1, 10))
    assert world.one("SELECT seq FROM alert") == 9


@pytest.mark.parametrize("state", ["closed", "withdrawn"])
async def test_what_is_over_is_not_acknowledged(caller: Caller, world: World, state: str) -> None:
    id_ = world.alert(state=state, level=0)
    as_problem(await caller("operator").post(f"{ALERTS}/{id_}/ack"), 409)
    as_problem(await caller("operator").post(f"{ALERTS}/{id_}/close", json={"note": "x"}), 409)
    assert (await caller("operator").post(f"{ALERTS}/{id_}/comment", json={"note": "x"})).status_code == 200


async def test_a_resolved_alert_is_closed_at_the_time_it_ended(caller: Caller, world: World) -> None:
    id_ = world.alert(state="resolved", level=0, ended_at=T0)
    closed = (await caller("operator").post(f"{ALERTS}/{id_}/close", json={"note": "x"})).json()
    assert closed["ended_at"] == T0.strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_bad_actions(caller: Caller, world: World) -> None:
    id_ = world.alert()
    operator = caller("operator")
    assert fields_of(await operator.post(f"{ALERTS}/{id_}/comment", json={"note": " "})) == ["note"]
    assert fields_of(await operator.post(f"{ALERTS}/{id_}/close", json={})) == ["note"]
    assert fields_of(await operator.post(f"{ALERTS}/{id_}/assign", json={})) == ["assignee"]
    assert fields_of(await operator.post(f"{ALERTS}/{id_}/ack", json={"note": 7})) == ["note"]
    as_problem(await operator.post(f"{ALERTS}/{NOBODY}/ack"), 404)
    assert world.one("SELECT seq FROM alert") == 1
