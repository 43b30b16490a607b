"""Codecs over the API: listing, adding, trying, and what a hostile one costs."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest

from .conftest import Caller, as_problem, fields_of
from .world import World

CODECS = "/api/v1/codecs"
SOURCE = """\
function decodeUplink(input) {
  console.log('at', input.recvTime.toISOString());
  if (input.fPort !== 1) return { errors: ['unknown port'] };
  return { data: { mm: input.bytes[0] * 10, gain: input.variables.gain }, warnings: ['dusty'] };
}
"""
TANK: dict[str, Any] = {
    "id": "acme-tank",
    "source": SOURCE,
    "vectors": [
        {"name": "one", "origin": "vendor", "f_port": 1, "payload": "0a", "fields": {"mm": 100}},
        {"name": "port", "origin": "layout", "f_port": 2, "payload": "0a", "error": "unknown"},
    ],
}
TYPE: dict[str, Any] = {
    "vendor": "Acme", "model": "TANK-2", "codec": "acme-tank", "expected_interval": 900,
    "mapping": [{"field": "mm", "metric": "distance", "unit": "mm"},
                {"field": "mm", "metric": "air.temperature", "when": {"gain": "hot"}}],
}  # fmt: skip
CHIRPSTACK = {"input": {"fPort": 1, "bytes": [1]}, "expected": {"data": {"mm": 1}, "warnings": ["dusty"]}}
THINGS = {"input": {"bytes": [1]}, "output": {"data": {}}}
TRY: dict[str, Any] = {"payload": "0a", "f_port": 1}


@pytest.fixture
def engineer(caller: Caller, world: World) -> httpx.AsyncClient:
    return caller("engineer")


async def test_versions_are_added_and_never_change(engineer: httpx.AsyncClient, world: World) -> None:
    made = await engineer.post(CODECS, json=TANK)
    assert made.status_code == 201, made.text
    assert made.json()["source"] == SOURCE
    (first,) = made.json()["versions"]
    assert first.items() >= {"fresh": False, "origin": "API", "added_by": "key:engineer"}.items()
    again = await engineer.post(CODECS, json=TANK)
    assert (again.status_code, again.json()["versions"]) == (200, [first])
    as_problem(await engineer.post(CODECS, json={**TANK, "fresh": True}), 409, "conflict")
    second = await engineer.post(CODECS, json={**TANK, "source": SOURCE + "// 2"})
    assert second.status_code == 201
    assert [entry["version"] for entry in second.json()["versions"]][1] == first["version"]
    old = await engineer.get(f"{CODECS}/acme-tank", params={"version": first["version"]})
    assert old.json()["source"] == SOURCE
    as_problem(await engineer.get(f"{CODECS}/acme-tank", params={"version": "0"}), 404)
    actions = world.database.execute("SELECT action, object FROM audit").fetchall()
    assert [(row["action"], row["object"]) for row in actions] == [("codec.add", "acme-tank")] * 2


async def test_the_list_has_every_kind_in_pages(caller: Caller, engineer: httpx.AsyncClient) -> None:
    for id_ in ("acme-tank", "zeta", "zeta.two"):
        assert (await engineer.post(CODECS, json={**TANK, "id": id_})).status_code == 201
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        asked = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await caller("viewer").get(CODECS, params=asked)).json()
        found += page["items"]
        if not (cursor := page["next"]):
            break
    ids = [item["id"] for item in found]
    assert ids == sorted(set(ids))
    kinds = {item["id"]: item["kind"] for item in found}
    assert (
        kinds.items()
        >= {"acme-tank": "javascript", "zeta.two": "javascript", "dragino-ldds75": "python"}.items()
    )
    some = (await caller("viewer").get(CODECS, params={"q": "ZETA"})).json()["items"]
    assert [item["id"] for item in some] == ["zeta", "zeta.two"]


async def test_sources_are_for_engineers(caller: Caller, engineer: httpx.AsyncClient, world: World) -> None:
    await engineer.post(CODECS, json=TANK)
    await engineer.put("/api/v1/device-types/acme-tank-2", json=TYPE)
    shown = (await caller("operator").get(f"{CODECS}/acme-tank")).json()
    assert (shown["source"], shown["device_types"]) == (None, ["acme-tank-2"])
    native = (await engineer.get(f"{CODECS}/dragino-ldds75")).json()
    assert (native["kind"], native["source"], len(native["versions"])) == ("python", None, 1)
    as_problem(await engineer.get(f"{CODECS}/nothing"), 404)
    as_problem(await caller("operator").post(CODECS, json=TANK), 403)
    as_problem(await caller("operator").post(f"{CODECS}/acme-tank/try", json=TRY), 403)


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"vectors": [{**TANK["vectors"][0], "payload": "0b"}]}, "vectors", "data.mm: expected 100, got 110"),
        ({"vectors": [CHIRPSTACK]}, "vectors", "data.mm: expected 1, got 10"),
        ({"vectors": {"uplinkDecoder": {"examples": [THINGS]}}}, "vectors", "errors.0: expected nothing"),
        ({"vectors": [{"input": 1}]}, "vectors", "[0]"),
        ({"vectors": {"x": 1}}, "vectors", "holds no examples"),
        ({"source": "function ("}, "source", "SyntaxError"),
        ({"source": "1"}, "source", "no function decodeUplink"),
    ],
)  # fmt: skip
async def test_a_codec_that_fails_is_refused_unless_forced(
    engineer: httpx.AsyncClient, world: World, change: dict[str, Any], field: str, told: str
) -> None:
    answer = await engineer.post(CODECS, json={**TANK, **change})
    assert set(fields_of(answer)) == {field}
    assert told in answer.json()["detail"]
    assert world.one("SELECT count(*) FROM codec") == 0
    assert (await engineer.post(CODECS, json={**TANK, **change, "force": True})).status_code == 201
    assert world.one("SELECT detail ->> 'forced' FROM audit") == "true"


async def test_what_cannot_be_added(engineer: httpx.AsyncClient, world: World) -> None:
    as_problem(await engineer.post(CODECS, json={**TANK, "id": "milesight-em300"}), 409, "conflict")
    assert fields_of(await engineer.post(CODECS, json={**TANK, "id": "Bad Id"})) == ["id"]
    assert fields_of(await engineer.post(CODECS, json={**TANK, "source": "a\0"})) == ["source"]
    assert fields_of(await engineer.post(CODECS, json={**TANK, "sauce": ""})) == ["sauce"]
    large = await engineer.post(CODECS, json={**TANK, "source": SOURCE + "//" + "x" * 1024 * 1024})
    as_problem(large, 413)
    assert world.one("SELECT count(*) FROM codec") == 0


async def test_trying_shows_everything(engineer: httpx.AsyncClient, world: World) -> None:
    await engineer.post(CODECS, json=TANK)
    await engineer.put("/api/v1/device-types/acme-tank-2", json=TYPE)
    body = {
        **TRY, "payload": base64.b64encode(b"\xff").decode(), "time": "2026-11-21T18:00:00Z",
        "variables": {"gain": "hot"}, "device_type": "acme-tank-2",
    }  # fmt: skip
    at = {"time": body["time"], "channel": 0}
    tried = await engineer.post(f"{CODECS}/acme-tank/try", json=body)
    assert tried.status_code == 200, tried.text
    assert tried.json().items() >= {
        "fields": {"mm": 2550, "gain": "hot"},
        "metrics": [
            {**at, "metric": "distance", "value": 2.55, "unit": "m", "quality": 1},
            {**at, "metric": "air.temperature", "value": 2550.0, "unit": "Cel", "quality": 4},
        ],
        "warnings": ["dusty"], "errors": [], "problems": [], "unmapped": [], "failure": None,
        "console": ["at 2026-11-21T18:00:00.000Z"],
    }.items()  # fmt: skip
    assert tried.json()["micros"] > 0
    refused = (await engineer.post(f"{CODECS}/acme-tank/try", json={**TRY, "f_port": 2})).json()
    assert (refused["fields"], refused["errors"], refused["failure"]) == (None, ["unknown port"], None)
    native = await engineer.post(
        f"{CODECS}/dragino-ldds75/try",
        json={"payload": "0cea00e4000000", "f_port": 2, "device_type": "ldds75"},
    )
    assert native.json()["fields"] or native.json()["errors"]
    assert world.one("SELECT count(*) FROM uplink") == 0


async def test_trying_normalizes(engineer: httpx.AsyncClient) -> None:
    source = SOURCE + "\nfunction normalizeUplink(i) { return {data: {battery: i.data.mm / 1000}}; }"
    await engineer.post(CODECS, json={**TANK, "source": source})
    tried = (
        await engineer.post(f"{CODECS}/acme-tank/try", json={**TRY, "time": "2026-11-21T18:00:00Z"})
    ).json()
    (metric,) = tried["metrics"]
    assert (metric["metric"], metric["unit"], metric["time"]) == (
        "battery.voltage",
        "V",
        "2026-11-21T18:00:00Z",
    )
    assert tried["normalized"] == {"battery": metric["value"]}
    assert tried["problems"] == []


async def test_what_cannot_be_tried(engineer: httpx.AsyncClient, world: World) -> None:
    await engineer.post(CODECS, json=TANK)

    async def attempt(id_: str = "acme-tank", **change: Any) -> httpx.Response:
        return await engineer.post(f"{CODECS}/{id_}/try", json={**TRY, **change})

    as_problem(await attempt("nothing"), 404)
    as_problem(await attempt(version="0123"), 404)
    as_problem(await attempt("milesight-em300", version="99"), 404)
    assert fields_of(await attempt(payload="zz")) == ["payload"]
    assert fields_of(await attempt(payload="00" * 5000)) == ["payload"]
    assert fields_of(await attempt(f_port=256)) == ["f_port"]
    assert fields_of(await attempt(device_type="nothing")) == ["device_type"]


async def test_a_hostile_codec_holds_nobody_up(engineer: httpx.AsyncClient) -> None:
    hostile = {
        "hang": "for (;;) {}",
        "memory": "const a = []; for (;;) a.push(new Uint8Array(1e6))",
        "stack": "decodeUplink(input)",
        "regex": "/^(a+)+$/.test('a'.repeat(60) + 'b')",
        "output": "return { data: { x: 'x'.repeat(1e7) } }",
        "throw": "throw null",
    }
    for id_, body in hostile.items():
        source = f"function decodeUplink(input) {{ {body} }}"
        added = await engineer.post(CODECS, json={"id": id_, "source": source, "force": True})
        assert added.status_code == 201, added.text
    await engineer.post(CODECS, json=TANK)
    tries = [
        asyncio.create_task(engineer.post(f"{CODECS}/{id_}/try", json=TRY))
        for id_ in hostile
        for _ in range(3)
    ]
    assert (await engineer.get(f"{CODECS}?limit=1")).status_code == 200
    assert not all(task.done() for task in tries)
    for answer in await asyncio.gather(*tries):
        assert answer.status_code == 200, answer.text
        assert answer.json()["failure"], answer.text
        assert answer.json()["errors"]
    sound = await engineer.post(f"{CODECS}/acme-tank/try", json=TRY)
    assert sound.json()["fields"] == {"mm": 100}
