"""The service as a whole: listening, outages, draining, measures, the page's files."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.routes import pages
from api.service import run
from api.settings import ApiSettings
from telemetry.clock import SystemClock
from telemetry.errors import SettingsError
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings, load
from tests.wait import until

from .conftest import KEYS, ORIGIN, PASSWORD, Caller, as_problem, client_of
from .served import Proxy, serving
from .world import World

AUTHORIZED = {"authorization": f"Bearer {KEYS['viewer'].key}"}


async def _ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        answered = 503
        while answered == 503:
            answered = (await client.get("/readyz", timeout=30)).status_code
    assert answered == 200


async def test_a_lost_database_is_503_until_it_is_back(
    database_url: str, box: SecretBox, accounts: None, world: World
) -> None:
    proxy = Proxy(database_url)
    await proxy.open()
    async with (
        serving(proxy.url, box) as served,
        httpx.AsyncClient(base_url=served.url, headers=AUTHORIZED) as client,
    ):
        assert (await client.get("/api/v1/stations")).status_code == 200
        await proxy.cut()
        for path in ("/api/v1/stations", "/readyz"):
            answer = await client.get(path, timeout=30)
            as_problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/healthz")).status_code == 200
        await proxy.open()
        await _ready(client)
        assert (await client.get("/api/v1/stations")).status_code == 200
    await proxy.cut()


async def test_it_starts_before_its_database(database_url: str, box: SecretBox, accounts: None) -> None:
    proxy = Proxy(database_url)
    await proxy.open()
    await proxy.cut()
    async with (
        serving(proxy.url, box) as served,
        httpx.AsyncClient(base_url=served.url, headers=AUTHORIZED) as client,
    ):
        as_problem(await client.get("/readyz", timeout=30), 503)
        await proxy.open()
        await _ready(client)
    await proxy.cut()


async def test_a_schema_that_is_not_there(empty_database_url: str, box: SecretBox) -> None:
    async with serving(empty_database_url, box) as served, httpx.AsyncClient(base_url=served.url) as client:
        problem = as_problem(await client.get("/readyz", timeout=30), 503, "schema")
        assert "quantrac migrate" in problem["detail"]


async def test_a_request_under_way_is_answered_before_the_end(
    database_url: str, box: SecretBox, accounts: None, world: World
) -> None:
    id_ = world.alert()
    async with serving(database_url, box) as served:
        headers = {"authorization": f"Bearer {KEYS['operator'].key}"}
        async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
            with psycopg.connect(database_url) as holder:
                holder.execute("SELECT FROM alert FOR UPDATE")
                asked = asyncio.create_task(client.post(f"/api/v1/alerts/{id_}/ack", timeout=30))
                await until(lambda: world.one("SELECT count(*) FROM pg_locks WHERE NOT granted"))
                served.stop.set()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(served.ended), 0.5)
            assert (await asked).status_code == 200
        await served.ended


async def test_an_address_in_use_is_said_so(database_url: str, box: SecretBox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ApiSettings(api_port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="QUANTRAC_API_PORT"):
            await run(settings, StoreSettings(database_url=database_url), SystemClock(), box, asyncio.Event())
    with pytest.raises(SettingsError, match="QUANTRAC_API_HOST"):
        await run(
            ApiSettings(api_host="nowhere.invalid"),
            StoreSettings(database_url=database_url),
            SystemClock(),
            box,
            asyncio.Event(),
        )


def test_bad_settings_name_variable_and_cure() -> None:
    for name, value in (("API_PORT", "70000"), ("API_BASE_URL", "quantrac.vn"), ("SESSION_HOURS", "0")):
        with pytest.raises(SettingsError, match=f"QUANTRAC_{name}"):
            load(ApiSettings, environ={f"QUANTRAC_{name}": value})


async def test_measures_count_requests_by_route(viewer: httpx.AsyncClient, world: World) -> None:
    await viewer.get("/api/v1/stations/phu-hiep")
    await viewer.get("/api/v1/stations/nowhere")
    await viewer.get("/nothing/at/all")
    text = (await viewer.get("/metrics")).text
    route = 'method="GET",route="/api/v1/stations/{code}"'
    assert f'quantrac_http_requests_total{{{route},status="200"}}' in text
    assert f'quantrac_http_requests_total{{{route},status="404"}}' in text
    assert 'quantrac_http_request_seconds_bucket{le="0.005",route="/api/v1/stations/{code}"}' in text
    assert "/nothing" not in text


@pytest.mark.parametrize(
    ("allowed", "peer", "header", "status"),
    [
        (True, "127.0.0.1", None, 200),
        (True, "::1", None, 200),
        (False, "127.0.0.1", None, 401),
        (True, "203.0.113.7", None, 401),
        (True, "127.0.0.1", "x-forwarded-for", 401),
    ],
)
async def test_measures_without_a_key_are_for_this_machine_when_set_so(
    database_url: str,
    box: SecretBox,
    accounts: None,
    allowed: bool,
    peer: str,
    header: str | None,
    status: int,
) -> None:
    app = create_app(ApiSettings(metrics_open=allowed), StoreSettings(database_url=database_url), box)
    headers = {header: "203.0.113.7"} if header else {}
    async with app.router.lifespan_context(app), client_of(app, peer=peer, **headers) as client:
        assert (await client.get("/metrics")).status_code == status


async def test_behind_a_proxy_the_public_address_is_the_origin(
    database_url: str, box: SecretBox, accounts: None
) -> None:
    settings = ApiSettings(api_base_url="https://quantrac.example.vn/")
    app = create_app(settings, StoreSettings(database_url=database_url), box)
    async with app.router.lifespan_context(app), client_of(app) as client:
        body = {"login": "viewer", "password": PASSWORD}
        origin = {"origin": "https://quantrac.example.vn"}
        answer = await client.post("/api/v1/login", json=body, headers=origin)
        assert answer.status_code == 200
        assert "secure" in answer.headers["set-cookie"].lower()


async def test_the_page_is_for_who_is_logged_in(app: FastAPI, caller: Caller) -> None:
    async with client_of(app) as client:
        assert (await client.get("/")).headers["location"] == "/login"
        await client.post(
            "/api/v1/login", json={"login": "viewer", "password": PASSWORD}, headers={"origin": ORIGIN}
        )
        page = await client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["cache-control"] == "no-cache"
        client.cookies.set("quantrac_session", "no such session")
        assert (await client.get("/")).status_code == 303


async def test_assets_of_a_version_are_kept_for_good(
    app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("static/app.js", "vendor/leaflet-1.9.4.js", "secret.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    app.router.routes[:] = [
        route for route in app.router.routes if getattr(route, "name", "") not in ("static", "vendor")
    ]
    pages.mount_assets(app, tmp_path)
    async with client_of(app) as client:
        assert (await client.get("/static/vendor/leaflet-1.9.4.js")).headers["cache-control"] == (
            "public, max-age=31536000, immutable"
        )
        plain = await client.get("/static/app.js")
        assert plain.headers["cache-control"] == "no-cache"
        again = await client.get("/static/app.js", headers={"if-none-match": plain.headers["etag"]})
        assert again.status_code == 304
        for path in (
            "/static/../secret.txt",
            "/static/%2e%2e/secret.txt",
            "/static/vendor/..%2f..%2fsecret.txt",
        ):
            assert (await client.get(path)).status_code == 404
