"""Every error is a problem, says no more than it should, and leaves the server well."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from api.app import openapi
from api.middleware import MOST_BODY_BYTES

from .conftest import Caller, as_problem, client_of, fields_of
from .world import EUI, NEW_EUI, World


async def test_unknown_routes_and_methods(viewer: httpx.AsyncClient) -> None:
    problem = as_problem(await viewer.get("/api/v1/nothing"), 404, "not-found")
    assert problem["instance"] == "/api/v1/nothing"
    as_problem(await viewer.get("/static/nothing.js"), 404)
    as_problem(await viewer.get("/api/v1/stations/"), 404)
    answer = await viewer.patch("/api/v1/stations")
    as_problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]


BAD_QUESTIONS = {
    "/stations?limit=0": "limit",
    "/stations?limit=1001": "limit",
    "/stations?limit=99999999999999999999999999": "limit",
    "/stations?limit=ten": "limit",
    "/devices?status=asleep": "status",
    "/devices/xyz": "eui",
    "/uplinks/0": "id",
    "/uplinks/9223372036854775808": "id",
    "/uplinks?device=12": "device",
    "/rejects?state=gone": "state",
    "/alerts?level=6": "level",
    "/alerts?state=gone": "state",
    "/alerts/7": "id",
    "/readings?quality=5": "quality.0",
    "/readings?channel=-1": "channel",
    "/readings?order=up": "order",
    "/readings?metric=water.lvl": "metric",
    "/latest?metric=x": "metric",
    "/readings?from=2026-11-21T18:00:00": "from",
    "/readings?from=1700000000": "from",
    "/readings?from=0001-01-01T00:00:00%2B14:00": "from",
    "/readings?from=2026-02-30T00:00:00Z": "from",
    "/readings?from=2026-11-22T00:00:00Z&to=2026-11-21T00:00:00Z": "from",
    "/uplinks?to=yesterday": "to",
}


async def test_a_bad_question_names_its_field(viewer: httpx.AsyncClient) -> None:
    answers = {path: fields_of(await viewer.get("/api/v1" + path)) for path in BAD_QUESTIONS}
    assert answers == {path: [field] for path, field in BAD_QUESTIONS.items()}


MISSING = [
    "/stations/nowhere",
    "/devices/ffffffffffffffff",
    "/devices/ffffffffffffffff/decode-jobs",
    "/device-types/none",
    "/uplinks/77",
    "/rejects/77",
    "/rules/none",
    "/alerts/00000000-0000-0000-0000-000000000000",
    "/alerts/00000000-0000-0000-0000-000000000000/transitions",
    "/endpoints/77",
    "/deliveries/77",
]


async def test_what_there_is_not(caller: Caller) -> None:
    for path in MISSING:
        as_problem(await caller("engineer").get("/api/v1" + path), 404, "not-found")


LISTS = [
    "/stations",
    "/devices",
    f"/devices/{EUI}/decode-jobs",
    "/device-types",
    "/metrics-catalogue",
    "/readings",
    "/latest",
    "/uplinks",
    "/events",
    "/rejects",
    "/rules",
    "/alerts",
    "/endpoints",
    "/deliveries",
    "/keys",
]


CURSORS = [
    "x",
    "!!!",
    "W10",
    "eyJhIjoxfQ",
    "WyJzdGF0aW9ucyIsMV0",
    "WyJhbGVydHMiLCJ4IiwieSJd",
    "đ",
    "bnVsbA",
    "A" * 999,
]


async def test_a_cursor_that_no_list_gave(caller: Caller, world: World) -> None:
    for path in LISTS:
        for cursor in CURSORS:
            answer = await caller("admin").get("/api/v1" + path, params={"cursor": cursor})
            as_problem(answer, 400, "bad-cursor")


async def test_text_that_postgresql_cannot_hold(caller: Caller, world: World) -> None:
    filters = dict.fromkeys(("q", "station", "kind", "reason", "rule"), "a\0b")
    for path in LISTS:
        answer = await caller("admin").get("/api/v1" + path, params=filters)
        assert answer.status_code in (200, 422), path


BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"name": NaN}',
    b'{"name": "\\ud800", "latitude": 1, "longitude": 1}',
    b'{"name": "\\u0000", "latitude": 1, "longitude": 1}',
]


async def test_bodies_that_are_none(caller: Caller) -> None:
    for body in BODIES:
        answer = await caller("engineer").put(
            "/api/v1/stations/x", content=body, headers={"content-type": "application/json"}
        )
        as_problem(answer, 400 if body.startswith(b"[[") else 422)


BAD_CHANGES: list[dict[str, Any]] = [
    {"latitude": 91},
    {"longitude": "east"},
    {"latitude": None},
    {"name": ""},
    {"name": "x" * 501},
    {"thresholds": {"water.lvl": []}},
    {"thresholds": {"water.level": [{"level": 6, "label": "x", "value": 1}]}},
    {"thresholds": {"water.level": [{"level": 1, "label": "x", "value": 1}] * 2}},
    {"public": "perhaps"},
]


async def test_a_bad_station_names_its_field(caller: Caller) -> None:
    for change in BAD_CHANGES:
        body = {"name": "Trạm", "latitude": 11, "longitude": 107, **change}
        answer = await caller("engineer").put("/api/v1/stations/x", json=body)
        assert fields_of(answer)[0].split(".")[0] == next(iter(change))


async def test_a_number_without_end(caller: Caller) -> None:
    body = b'{"name": "x", "latitude": 1e999, "longitude": 1}'
    answer = await caller("engineer").put(
        "/api/v1/stations/x", content=body, headers={"content-type": "application/json"}
    )
    assert fields_of(answer) == ["latitude"]


async def test_a_password_is_never_echoed(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.post("/api/v1/login", json={"login": "a", "password": "s3cret" * 1000})
    assert fields_of(answer) == ["password"]
    assert "s3cret" not in answer.text


async def test_a_body_above_a_mebibyte(caller: Caller) -> None:
    engineer = caller("engineer")
    fits = b'"' + b"x" * (MOST_BODY_BYTES - 2) + b'"'
    headers = {"content-type": "application/json"}
    assert fields_of(await engineer.put("/api/v1/stations/x", content=fits, headers=headers)) == ["body"]
    answer = await engineer.put("/api/v1/stations/x", content=fits + b" ", headers=headers)
    as_problem(answer, 413, "too-large")

    async def chunks() -> Any:
        for _ in range(MOST_BODY_BYTES // 4096 + 1):
            yield b"x" * 4096

    as_problem(await engineer.put("/api/v1/stations/x", content=chunks(), headers=headers), 413)


_OBJECT = {"\ud800": 1, "a\0": 1, "level": [], "field": [], "metric": {}, "scale": 10**400}
AWKWARD: list[Any] = [
    json.loads("[" * 800 + "]" * 800),
    None,
    True,
    -1,
    10**30,
    10**400,
    "",
    "a\0b",
    "\ud800",
    "đ" * 600,
    float("nan"),
    float("inf"),
    [[]],
    [{}],
    {"water.level": [{"level": 1, "label": [], "value": 10**400}]},
    [{"level": 1, "value": 10**400}, {"level": None}],
    [_OBJECT],
    _OBJECT,
]
BODIES_OF: dict[str, tuple[dict[str, Any], str]] = {
    "PUT /stations/x": (
        {"name": "x", "latitude": 1, "longitude": 1},
        "name latitude thresholds public kind",
    ),
    f"PUT /devices/{EUI}": ({"device_type": "ldds75"}, "name device_type station variables status simulated"),
    f"POST /devices/{NEW_EUI}/adopt": (
        {"device_type": "ldds75"},
        "name device_type station variables simulated",
    ),
    "PUT /device-types/x": (
        {
            "vendor": "x",
            "model": "y",
            "codec": "dragino-ldds75",
            "expected_interval": 5,
            "mapping": [{"field": "a", "metric": "distance"}],
        },
        "vendor codec expected_interval mapping",
    ),
    "PUT /rules/x": (
        {"name": "x", "metric": "water.level", "levels": "station"},
        "id name channel where direction levels hysteresis for quality enabled",
    ),
    "POST /endpoints": ({"name": "x", "url": "https://a.vn/"}, "name url event_types min_level simulated"),
    "PATCH /endpoints/1": ({}, "name url event_types enabled"),
    "POST /endpoints/1/recover": ({}, "since"),
    "POST /keys": ({"name": "x", "role": "viewer"}, "name role"),
    "POST /codecs/dragino-ldds75/try": (
        {"payload": "0b45", "f_port": 2},
        "payload f_port time variables version device_type",
    ),
    "POST /alerts/ALERT/ack": ({}, "note"),
    "POST /alerts/ALERT/assign": ({"assignee": "x"}, "assignee note"),
}


async def test_nothing_a_body_can_hold_breaks_the_server(caller: Caller, world: World) -> None:
    alert = str(world.alert())
    world.database.execute("INSERT INTO endpoint (name, url, secret) VALUES ('e', 'https://e.vn', '')")
    headers = {"content-type": "application/json"}
    for route, (body, fields) in BODIES_OF.items():
        method, path = route.replace("ALERT", alert).split()
        for field in fields.split():
            for value in AWKWARD:
                content = json.dumps({**body, field: value}).encode()
                answer = await caller("admin").request(
                    method, f"/api/v1{path}", content=content, headers=headers
                )
                assert answer.status_code < 500, (route, field, content[:200])


def _body(method: str, path: str) -> dict[str, Any]:
    """One that is sound, so that only the path is to blame."""
    form = re.sub(r"\{\w+\}", "[^/]+", f"{method} {path.removeprefix('/api/v1')}")
    return next((body for route, (body, _) in BODIES_OF.items() if re.fullmatch(form, route)), {})


@pytest.mark.parametrize("named", ["%00", "a%00b", "%ED%A0%80", "x" * 5000, "..%2f", "9" * 400])
async def test_no_path_breaks_the_server(app: FastAPI, caller: Caller, world: World, named: str) -> None:
    asked = set()
    for template, operations in openapi(app)["paths"].items():
        path = re.sub(r"\{\w+\}", named, template)
        if path == template:
            continue
        for method in map(str.upper, operations):
            body = None if method in ("GET", "DELETE") else _body(method, template)
            answer = await caller("admin").request(method, path, json=body)
            assert answer.status_code in (404, 422), (method, path[:100], answer.text)
            as_problem(answer, answer.status_code)
            asked.add(f"{method} {template}")
    assert asked >= {"GET /api/v1/codecs/{id}", "POST /api/v1/codecs/{id}/try", "PUT /api/v1/rules/{id}"}


async def test_no_filter_breaks_the_server(app: FastAPI, caller: Caller, world: World) -> None:
    named = {"id": "dragino-ldds75", "eui": EUI, "code": "phu-hiep"}
    asked = set()
    for template, operations in openapi(app)["paths"].items():
        if template == "/api/v1/stream":
            continue  # its answer has no end
        parameters = operations.get("get", {}).get("parameters", ())
        for name in (one["name"] for one in parameters if one["in"] == "query"):
            path = re.sub(r"\{(\w+)\}", lambda found: named[found[1]], template)
            answer = await caller("admin").get(f"{path}?{name}=a%00b")
            assert answer.status_code in (200, 400, 404, 422), (path, name, answer.text)
            asked.add(f"{template} {name}")
    assert asked >= {"/api/v1/codecs/{id} version", "/api/v1/stations q"}


async def test_our_own_fault_tells_no_insides(app: FastAPI) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    with capture_logs() as logs:
        async with client_of(app) as client:
            answer = await client.get("/broken")
    problem = as_problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert problem["instance"].startswith("urn:uuid:")
    assert [entry["instance"] for entry in logs] == [problem["instance"]]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_answer_carries_the_security_headers(anonymous: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/login", "/api/v1/stations", "/nothing", "/static/nothing.js"):
        headers = (await anonymous.get(path)).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self'; style-src 'self'"
        )
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
    assert (await anonymous.get("/api/v1/stations")).headers["cache-control"] == "no-store"


async def test_the_openapi_document_describes_every_route(viewer: httpx.AsyncClient) -> None:
    document = (await viewer.get("/api/v1/openapi.json")).json()
    assert {"/api/v1/stations", "/api/v1/readings", "/api/v1/alerts/{id}/ack"} <= document["paths"].keys()
    assert {"key", "session"} == document["components"]["securitySchemes"].keys()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            default = operation["responses"]["default"]["content"]
            assert default.keys() == {"application/problem+json"}, (method, path)
            assert operation["description"], (method, path)
    known = document["components"]["schemas"]

    def references(node: Any) -> Any:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"].rsplit("/", 1)[1]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    assert set(references(document)) <= known.keys()
