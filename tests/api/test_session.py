"""Logging in and out, the first password, throttling, and whose requests a cookie may carry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from api.logins import MOST_PER_LOGIN, MOST_PER_PEER, WINDOW, peer_of, wait_for
from telemetry.clock import ManualClock

from .conftest import ORIGIN, PASSWORD, Caller, as_problem, client_of, fields_of

LOGIN = "/api/v1/login"
Database = psycopg.Connection[dict[str, Any]]


async def _log_in(
    client: httpx.AsyncClient, login: str = "operator", password: str = PASSWORD
) -> httpx.Response:
    return await client.post(LOGIN, json={"login": login, "password": password}, headers={"origin": ORIGIN})


async def test_a_login_opens_a_session_until_it_is_closed(
    anonymous: httpx.AsyncClient, database: Database
) -> None:
    answer = await _log_in(anonymous)
    assert answer.json() == {"login": "operator", "role": "operator", "must_change": False}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    assert (await anonymous.get("/api/v1/session")).json()["login"] == "operator"
    token = anonymous.cookies["quantrac_session"]
    stored = database.execute("SELECT * FROM session").fetchall()
    assert len(stored) == 1
    assert token.encode() not in stored[0]["token_hash"]

    assert (await anonymous.post("/api/v1/logout", headers={"origin": ORIGIN})).status_code == 204
    anonymous.cookies.set("quantrac_session", token)
    as_problem(await anonymous.get("/api/v1/session"), 401)


async def test_a_session_ends_by_itself(anonymous: httpx.AsyncClient, clock: ManualClock) -> None:
    await _log_in(anonymous)
    clock.advance(timedelta(hours=11, minutes=59))
    assert (await anonymous.get("/api/v1/session")).status_code == 200
    clock.advance(timedelta(minutes=1))
    as_problem(await anonymous.get("/api/v1/session"), 401)


async def test_over_https_the_cookie_is_secure(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="https://quantrac.test") as client:
        answer = await client.post(
            LOGIN,
            json={"login": "viewer", "password": PASSWORD},
            headers={"origin": "https://quantrac.test"},
        )
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_wrong_unknown_and_disabled_look_alike(
    anonymous: httpx.AsyncClient, database: Database
) -> None:
    database.execute("UPDATE account SET disabled = true WHERE login = 'viewer'")
    answers = [
        await _log_in(anonymous, "operator", "falsch falsch"),
        await _log_in(anonymous, "không ai"),
        await _log_in(anonymous, "viewer"),
    ]
    assert len({as_problem(answer, 401, "wrong-login")["detail"] for answer in answers}) == 1


async def test_a_disabled_account_loses_its_session(anonymous: httpx.AsyncClient, database: Database) -> None:
    await _log_in(anonymous)
    database.execute("UPDATE account SET disabled = true")
    as_problem(await anonymous.get("/api/v1/session"), 401)


async def test_five_failures_of_a_login_close_it_to_that_peer_for_a_while(
    app: FastAPI, anonymous: httpx.AsyncClient, clock: ManualClock
) -> None:
    for _ in range(MOST_PER_LOGIN):
        as_problem(await _log_in(anonymous, password="wrong wrong"), 401)
        clock.advance(timedelta(minutes=1))
    answer = await _log_in(anonymous)
    as_problem(answer, 429, "too-many-tries")
    # The first of the five was five minutes ago, so it is forgotten in ten.
    assert answer.headers["retry-after"] == "600"
    assert (await _log_in(anonymous, "engineer")).status_code == 200
    async with client_of(app, peer="198.51.100.9") as elsewhere:
        assert (await _log_in(elsewhere)).status_code == 200
    clock.advance(timedelta(seconds=600))
    assert (await _log_in(anonymous)).status_code == 200


async def test_a_success_takes_failures_back(anonymous: httpx.AsyncClient) -> None:
    for _ in range(2):
        for _ in range(MOST_PER_LOGIN - 1):
            as_problem(await _log_in(anonymous, password="wrong wrong"), 401)
        assert (await _log_in(anonymous)).status_code == 200


async def test_tries_side_by_side_are_counted_too(anonymous: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*[_log_in(anonymous, password=f"wrong {n} wrong") for n in range(8)])
    assert sorted(answer.status_code for answer in answers) == [401] * MOST_PER_LOGIN + [429] * 3


def test_a_peer_that_tries_many_logins_is_stopped_too() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    tries = [(f"login {n}", now + timedelta(seconds=n)) for n in range(MOST_PER_PEER)]
    later = now + timedelta(minutes=1)
    assert wait_for(tries, "another", later) == WINDOW - timedelta(minutes=1)
    assert wait_for(tries[1:], "another", later) is None


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("somewhere", "somewhere"),
    ],
)
def test_peers(host: str | None, peer: str) -> None:
    assert peer_of(host) == peer


async def test_the_first_password_is_changed_before_anything_else(
    app: FastAPI, anonymous: httpx.AsyncClient, database: Database
) -> None:
    database.execute("UPDATE account SET must_change = true WHERE login = 'admin'")
    assert (await _log_in(anonymous, "admin")).json()["must_change"] is True
    async with client_of(app, origin=ORIGIN) as other:
        await _log_in(other, "admin")
        as_problem(await anonymous.get("/api/v1/stations"), 403, "must-change-password")
        as_problem(await anonymous.get("/metrics"), 403, "must-change-password")
        assert (await anonymous.get("/api/v1/session")).json()["must_change"] is True

        async def change(old: str, new: str) -> httpx.Response:
            body = {"old": old, "new": new}
            return await anonymous.post("/api/v1/password", json=body, headers={"origin": ORIGIN})

        assert fields_of(await change(PASSWORD, "short")) == ["new"]
        assert fields_of(await change(PASSWORD, PASSWORD)) == ["new"]
        assert fields_of(await change("không phải", "một mật khẩu mới")) == ["old"]
        assert (await change(PASSWORD, "một mật khẩu mới")).status_code == 204

        assert (await anonymous.get("/api/v1/stations")).status_code == 200
        as_problem(await other.get("/api/v1/session"), 401)
        as_problem(await _log_in(other, "admin"), 401)
        assert (await _log_in(other, "admin", "một mật khẩu mới")).json()["must_change"] is False


async def test_guesses_at_the_old_password_are_throttled(anonymous: httpx.AsyncClient) -> None:
    await _log_in(anonymous)
    body = {"old": "wrong wrong", "new": "một mật khẩu mới"}
    for _ in range(MOST_PER_LOGIN):
        fields_of(await anonymous.post("/api/v1/password", json=body, headers={"origin": ORIGIN}))
    answer = await anonymous.post("/api/v1/password", json=body, headers={"origin": ORIGIN})
    as_problem(answer, 429)


async def test_a_key_has_a_session_view_but_no_password(caller: Caller) -> None:
    key = caller("viewer")
    assert (await key.get("/api/v1/session")).json() == {
        "login": "key:viewer",
        "role": "viewer",
        "must_change": False,
    }
    answer = await key.post("/api/v1/password", json={"old": "x", "new": "một mật khẩu mới"})
    as_problem(answer, 403)


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", "http://quantrac.test.evil.example", ""]
)
async def test_another_site_cannot_use_the_cookie(
    app: FastAPI, anonymous: httpx.AsyncClient, origin: str | None
) -> None:
    await _log_in(anonymous, "admin")
    headers = {} if origin is None else {"origin": origin}
    answer = await anonymous.post("/api/v1/keys", json={"name": "x", "role": "admin"}, headers=headers)
    as_problem(answer, 403, "foreign-origin")
    assert (await anonymous.get("/api/v1/keys", headers=headers)).status_code == 200


@pytest.mark.parametrize("authorization", ["Basic eDp5", "Bearer", "Bearer  ", "Bearerx y", "x", ""])
async def test_no_other_authorization_makes_up_for_the_origin(
    anonymous: httpx.AsyncClient, authorization: str
) -> None:
    await _log_in(anonymous, "admin")
    headers = {"authorization": authorization, "origin": "https://evil.example"}
    answer = await anonymous.post("/api/v1/keys", json={"name": "x", "role": "admin"}, headers=headers)
    as_problem(answer, 403, "foreign-origin")


async def test_another_site_cannot_log_anybody_in(anonymous: httpx.AsyncClient) -> None:
    body = {"login": "viewer", "password": PASSWORD}
    answer = await anonymous.post(LOGIN, json=body, headers={"origin": "https://evil.example"})
    as_problem(answer, 403, "foreign-origin")
    # A program sends no Origin and has no cookie yet.
    assert (await anonymous.post(LOGIN, json=body)).status_code == 200


async def test_a_key_needs_no_origin(caller: Caller) -> None:
    answer = await caller("admin").post(
        "/api/v1/keys", json={"name": "x", "role": "viewer"}, headers={"origin": "https://elsewhere.example"}
    )
    assert answer.status_code == 201


async def test_a_login_is_audited(anonymous: httpx.AsyncClient, database: Database) -> None:
    await _log_in(anonymous)
    rows = database.execute("SELECT actor, action, detail FROM audit").fetchall()
    assert rows == [{"actor": "operator", "action": "session.open", "detail": {}}]
