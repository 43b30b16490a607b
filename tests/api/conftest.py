"""The application on the test's database, and callers with each role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.credentials import hash_password, new_key
from api.roles import KEY_ROLES
from api.settings import ApiSettings
from telemetry.clock import ManualClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings

from .world import T0, World

ORIGIN = "http://quantrac.test"
PASSWORD = "mật khẩu đủ dài"
KEYS = {role: new_key() for role in KEY_ROLES}
_PASSWORD_HASH = hash_password(PASSWORD)


@pytest.fixture
def world(database: psycopg.Connection[dict[str, Any]]) -> World:
    made = World(database)
    made.build()
    return made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def settings() -> ApiSettings:
    return ApiSettings()


@pytest.fixture
def box() -> SecretBox:
    return SecretBox("a key for tests, of thirty-two letters")


@pytest.fixture
def accounts(database: psycopg.Connection[dict[str, Any]]) -> None:
    """A key of each role, and an account named like each role that an account may have."""
    for role, key in KEYS.items():
        database.execute(
            "INSERT INTO api_key (name, role, hint, key_hash) VALUES (%s, %s, %s, %s)",
            (role, role, key.hint, key.digest),
        )
        if role == "intake":
            continue
        database.execute(
            "INSERT INTO account (login, password_hash, role, must_change) VALUES (%s, %s, %s, false)",
            (role, _PASSWORD_HASH, role),
        )


@pytest.fixture
async def app(
    database_url: str, settings: ApiSettings, box: SecretBox, clock: ManualClock, accounts: None
) -> AsyncIterator[FastAPI]:
    made = create_app(settings, StoreSettings(database_url=database_url), box, clock=clock)
    async with made.router.lifespan_context(made):
        yield made


def client_of(app: FastAPI, *, peer: str = "203.0.113.7", **headers: str) -> httpx.AsyncClient:
    """A caller from `peer`; what the application raises is answered, as a server would."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(peer, 50000))
    return httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers)


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


Caller = Callable[[str], httpx.AsyncClient]


@pytest.fixture
async def caller(app: FastAPI) -> AsyncIterator[Caller]:
    """`caller("engineer")` calls with that role's key."""
    made: dict[str, httpx.AsyncClient] = {}

    def of(role: str) -> httpx.AsyncClient:
        if role not in made:
            made[role] = client_of(app, authorization=f"Bearer {KEYS[role].key}")  # type: ignore[index]
        return made[role]

    yield of
    for client in made.values():
        await client.aclose()


def as_problem(response: httpx.Response, status: int, slug: str | None = None) -> dict[str, Any]:
    """The problem details of an answer that has to be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem.keys() >= {"type", "title", "status", "detail", "instance"}
    assert problem["status"] == status
    assert slug is None or problem["type"].endswith(f"/{slug}"), problem
    return problem


def fields_of(response: httpx.Response) -> list[str]:
    """The fields a 422 complains of."""
    return [error["field"] for error in as_problem(response, 422).get("errors", [])]


@pytest.fixture
def viewer(caller: Caller) -> httpx.AsyncClient:
    return caller("viewer")
