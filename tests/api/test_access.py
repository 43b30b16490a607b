"""Who gets in, walked over every route there is."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from api.roles import ROLES, KeyRole

from .conftest import Caller, as_problem

PUBLIC = {"/healthz", "/readyz", "/", "/login", "/api/v1/login"}
ASSETS = {"/static", "/static/vendor"}

OPERATOR = {
    "POST /api/v1/alerts/{id}/ack",
    "POST /api/v1/alerts/{id}/assign",
    "POST /api/v1/alerts/{id}/comment",
    "POST /api/v1/alerts/{id}/close",
    "GET /api/v1/exports",
    "POST /api/v1/exports",
    "GET /api/v1/exports/{id}",
    "GET /api/v1/exports/{id}/file",
    "DELETE /api/v1/exports/{id}",
    "POST /api/v1/quality-overrides",
    "DELETE /api/v1/quality-overrides/{id}",
}
ENGINEER = {
    "PUT /api/v1/stations/{code}",
    "DELETE /api/v1/stations/{code}",
    "PUT /api/v1/devices/{eui}",
    "POST /api/v1/devices/{eui}/adopt",
    "POST /api/v1/devices/{eui}/placements",
    "POST /api/v1/stations/{code}/history",
    "PUT /api/v1/gateways/{gateway_id}",
    "DELETE /api/v1/gateways/{gateway_id}",
    "PUT /api/v1/owners/{code}",
    "DELETE /api/v1/owners/{code}",
    "PUT /api/v1/facilities/{code}",
    "DELETE /api/v1/facilities/{code}",
    "PUT /api/v1/admin-units/{code}",
    "POST /api/v1/admin-units/{code}/end",
    "POST /api/v1/quality-jobs",
    "DELETE /api/v1/devices/{eui}",
    "POST /api/v1/devices/{eui}/calibrations",
    "PUT /api/v1/devices/{eui}/calibrations/{id}",
    "DELETE /api/v1/devices/{eui}/calibrations/{id}",
    "PUT /api/v1/device-types/{id}",
    "POST /api/v1/codecs",
    "POST /api/v1/codecs/{id}/try",
    "PUT /api/v1/rules/{id}",
    "DELETE /api/v1/rules/{id}",
    "GET /api/v1/endpoints",
    "GET /api/v1/endpoints/{id}",
    "GET /api/v1/deliveries",
    "GET /api/v1/deliveries/{id}",
    "POST /api/v1/deliveries/{id}/resend",
    "POST /api/v1/rejects/{id}/retry",
    "POST /api/v1/rejects/{id}/dismiss",
    "POST /api/v1/rejects/retry",
    "POST /api/v1/rejects/dismiss",
}
ADMIN = {
    "POST /api/v1/endpoints",
    "PATCH /api/v1/endpoints/{id}",
    "DELETE /api/v1/endpoints/{id}",
    "POST /api/v1/endpoints/{id}/rotate",
    "POST /api/v1/endpoints/{id}/test",
    "POST /api/v1/endpoints/{id}/recover",
    "GET /api/v1/keys",
    "POST /api/v1/keys",
    "DELETE /api/v1/keys/{id}",
}
INTAKE = {
    "POST /intake/chirpstack",
    "POST /intake/tts",
    "POST /intake/tts/{event:path}",
}


def _needed(route: str) -> KeyRole:
    for role, routes in (
        ("operator", OPERATOR),
        ("engineer", ENGINEER),
        ("admin", ADMIN),
        ("intake", INTAKE),
    ):
        if route in routes:
            return role  # type: ignore[return-value]
    return "viewer"


def _routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, Mount):
            assert context.path in ASSETS
            continue
        for method in sorted(context.methods or ()):
            if method != "HEAD":
                yield method, str(context.path)


def _address(path: str) -> str:
    return path.replace("{code}", "phu-hiep").replace("{eui}", "a840410000000001").replace("{id}", "999")


async def test_every_route_but_the_public_ones_asks_who_calls(
    app: FastAPI, anonymous: httpx.AsyncClient
) -> None:
    walked = 0
    for method, path in _routes(app):
        if path in PUBLIC:
            continue
        walked += 1
        response = await anonymous.request(method, _address(path))
        assert as_problem(response, 401, "unauthorized"), (method, path)
        assert response.headers["www-authenticate"] == "Bearer"
        wrong = await anonymous.request(method, _address(path), headers={"authorization": "Bearer qt_wrong"})
        as_problem(wrong, 401)
    assert walked > 45


async def test_every_route_refuses_a_role_below_its_own(app: FastAPI, caller: Caller) -> None:
    seen = set()
    for method, path in _routes(app):
        if path in PUBLIC:
            continue
        needed = _needed(f"{method} {path}")
        seen.add(f"{method} {path}")
        below: tuple[KeyRole, ...] = (
            ("viewer", "operator", "engineer")
            if needed == "intake"
            else (*ROLES[: ROLES.index(needed)], "intake")
        )
        for role in below:
            response = await caller(role).request(method, _address(path), json={})
            problem = as_problem(response, 403, "forbidden")
            assert needed in problem["detail"], (method, path)
        if path in ("/api/v1/stream", "/api/v1/logout"):
            continue
        response = await caller(needed).request(method, _address(path), json={})
        assert response.status_code not in (401, 403) or path == "/api/v1/password", (method, path)
    assert seen >= OPERATOR | ENGINEER | ADMIN | INTAKE


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic cXQ6eA==", "Bearer qt_" + "x" * 5000])
async def test_a_header_that_is_no_key(anonymous: httpx.AsyncClient, header: str) -> None:
    as_problem(await anonymous.get("/api/v1/stations", headers={"authorization": header}), 401)


async def test_the_public_ones_are_public(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/healthz")).json() == {"status": "ok"}
    assert (await anonymous.get("/readyz")).json() == {"status": "ok", "replica": "none"}
    assert (await anonymous.get("/login")).status_code == 200
    index = await anonymous.get("/")
    assert (index.status_code, index.headers["location"]) == (303, "/login")
