"""Rejects over the API: shown in bounds, tried again, put aside."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import httpx
import pytest

from api.rejects import SHOWN_BYTES

from .conftest import Caller, as_problem, fields_of
from .world import EUI, T0, World

URL = "/api/v1/rejects"


def add(world: World, **columns: Any) -> int:
    values = {
        "received_at": T0,
        "reason": "too_large",
        "detail": "d",
        "source": "mqtt",
        "topic": "t",
        "message": b"{}",
        **columns,
    }
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    row = world.database.execute(
        f"INSERT INTO reject (key, {names}) VALUES (gen_random_uuid(), {marks}) RETURNING id",
        values,
    ).fetchone()
    assert row is not None
    return int(row["id"])


def states(world: World) -> list[str]:
    return [row["state"] for row in world.database.execute("SELECT state FROM reject ORDER BY id").fetchall()]


def audited(world: World) -> list[dict[str, Any]]:
    return world.database.execute("SELECT actor, action, object, detail FROM audit ORDER BY id").fetchall()


async def test_a_huge_message_is_shown_in_part(viewer: httpx.AsyncClient, world: World) -> None:
    message = "đ".encode() * SHOWN_BYTES
    found = (await viewer.get(f"{URL}/{add(world, message=message)}")).json()
    assert (found["size"], found["truncated"]) == (2 * SHOWN_BYTES, True)
    assert base64.b64decode(found["message"]) == message[:SHOWN_BYTES]
    assert found["message_hex"] == message[:SHOWN_BYTES].hex()
    assert found["message_text"] == "đ" * (SHOWN_BYTES // 2)
    small = (await viewer.get(f"{URL}/{add(world, message=message[:SHOWN_BYTES])}")).json()
    assert not small["truncated"]


async def test_one_is_tried_again_or_put_aside(caller: Caller, world: World) -> None:
    engineer, id_ = caller("engineer"), add(world)
    for wish, answer, status, state in (
        ("retry", {"waiting": 1}, 202, "waiting"),
        ("retry", {"waiting": 1}, 202, "waiting"),
        ("dismiss", {"dismissed": 1}, 200, "dismissed"),
        ("retry", {"waiting": 1}, 202, "waiting"),
    ):
        response = await engineer.post(f"{URL}/{id_}/{wish}")
        assert (response.status_code, response.json()) == (status, answer)
        assert (await engineer.get(f"{URL}/{id_}")).json()["state"] == state
    assert [entry["action"] for entry in audited(world)] == [
        "reject.retry", "reject.retry", "reject.dismiss", "reject.retry",
    ]  # fmt: skip
    assert {(entry["actor"], entry["object"]) for entry in audited(world)} == {("key:engineer", str(id_))}


@pytest.mark.parametrize("wish", ["retry", "dismiss"])
async def test_one_that_is_stored_stays_as_it_is(wish: str, caller: Caller, world: World) -> None:
    id_ = add(world, state="retried", tries=1, tried_at=T0)
    assert "stored" in as_problem(await caller("engineer").post(f"{URL}/{id_}/{wish}"), 409)["detail"]
    as_problem(await caller("engineer").post(f"{URL}/{id_ + 1}/{wish}"), 404)
    assert states(world) == ["retried"]
    assert audited(world) == []
    shown = (await caller("viewer").get(f"{URL}/{id_}")).json()
    assert (shown["tries"], shown["tried_at"]) == (1, T0.strftime("%Y-%m-%dT%H:%M:%SZ"))


KINDS: list[tuple[dict[str, str], list[int]]] = [
    ({"reason": "too_large"}, [0, 1, 2]),
    ({"reason": "too_large", "network": "tts-v3"}, [1]),
    ({"reason": "too_large", "dev_eui": EUI.upper()}, [2]),
    ({"reason": "too_large", "before": T0.isoformat()}, [1]),
    ({"reason": "not_json"}, [3]),
    ({"reason": "none_such"}, []),
]


@pytest.mark.parametrize(
    ("wish", "done", "status"), [("retry", "waiting", 202), ("dismiss", "dismissed", 200)]
)
@pytest.mark.parametrize(("kind", "chosen"), KINDS)
async def test_all_of_a_kind(
    wish: str, done: str, status: int, kind: dict[str, str], chosen: list[int], caller: Caller, world: World
) -> None:
    add(world)
    add(world, network="tts-v3", received_at=T0 - timedelta(hours=1))
    add(world, dev_eui=EUI)
    add(world, reason="not_json")
    add(world, state="retried")
    add(world, state="dismissed")
    response = await caller("engineer").post(f"{URL}/{wish}", json=kind)
    assert (response.status_code, response.json()) == (status, {done: len(chosen)})
    assert states(world) == [
        *(done if number in chosen else "open" for number in range(4)), "retried", "dismissed",
    ]  # fmt: skip
    (entry,) = audited(world)
    assert (entry["action"], entry["object"]) == (f"reject.{wish}", kind["reason"])
    assert entry["detail"]["rejects"] == len(chosen)


async def test_who_may_and_what_is_refused(caller: Caller, world: World) -> None:
    id_ = add(world)
    for wish in ("retry", "dismiss"):
        for role, url in (("operator", f"{URL}/{id_}/{wish}"), ("operator", f"{URL}/{wish}")):
            as_problem(await caller(role).post(url, json={"reason": "too_large"}), 403)
        assert fields_of(await caller("engineer").post(f"{URL}/{wish}", json={})) == ["reason"]
        body = {"reason": "x", "device": EUI, "before": "yesterday"}
        assert fields_of(await caller("engineer").post(f"{URL}/{wish}", json=body)) == ["before", "device"]
    assert states(world) == ["open"]


async def test_listed_by_device_and_network(viewer: httpx.AsyncClient, world: World) -> None:
    ids = [add(world), add(world, dev_eui=EUI), add(world, network="tts-v3", state="waiting")]

    async def found(**params: str) -> list[int]:
        return [item["id"] for item in (await viewer.get(URL, params=params)).json()["items"]]

    assert await found() == ids[::-1]
    assert await found(device=EUI) == [ids[1]]
    assert await found(network="tts-v3") == [ids[2]]
    assert await found(state="waiting") == [ids[2]]
