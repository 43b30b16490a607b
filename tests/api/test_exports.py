"""Exports over the API: asked for, made by a child, fetched in pieces, gone on with after a crash, swept."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from api.exports import child, jobs, worker
from api.exports.files import locked, part_of
from api.exports.selection import Selection
from api.settings import ApiSettings
from telemetry.clock import SystemClock
from tests.sessions import OURS
from tests.wait import until

from .conftest import KEYS, Caller, as_problem, fields_of
from .world import EUI, T0, World


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.1)


@pytest.fixture
def settings(tmp_path: Path) -> ApiSettings:
    return ApiSettings(export_dir=str(tmp_path / "exports"))


@pytest.fixture
def clock() -> SystemClock:
    return SystemClock()


@pytest.fixture
def operator(caller: Caller) -> httpx.AsyncClient:
    return caller("operator")


async def asked(client: httpx.AsyncClient, **selection: Any) -> str:
    answer = await client.post("/api/v1/exports", json=selection)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/v1/exports/{answer.json()['id']}"
    return str(answer.json()["id"])


async def ended(world: World, client: httpx.AsyncClient, id_: str) -> dict[str, Any]:
    query = "SELECT state IN ('done', 'failed') FROM export_job WHERE id = %s"
    await until(lambda: world.one(query, id_), 60)
    return dict((await client.get(f"/api/v1/exports/{id_}")).json())


async def test_an_export_is_made_and_fetched_in_pieces(operator: httpx.AsyncClient, world: World) -> None:
    for n in range(5):
        world.reading(T0 + timedelta(minutes=n), n)
    world.reading(T0, 7, device=world.newcomer)
    id_ = await asked(operator, devices=[EUI.upper()], zone="+07:00", bom=True)
    export = await ended(world, operator, id_)
    assert (export["state"], export["rows"], export["share"]) == ("done", 5, 1)
    assert export["expires_at"] > export["finished_at"]
    url = f"/api/v1/exports/{id_}/file"
    whole = await operator.get(url)
    assert whole.content.startswith(b"\xef\xbb\xbftime,station,")
    assert "Trạm Phú Hiệp" in whole.text
    assert "+07:00," in whole.text
    assert hashlib.sha256(whole.content).hexdigest() == export["sha256"]
    assert whole.headers["etag"] == f'"{export["sha256"]}"'
    assert 'filename="quantrac-readings.csv"' in whole.headers["content-disposition"]
    rest = await operator.get(url, headers={"Range": "bytes=10-", "If-Range": whole.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, whole.content[10:])
    changed = await operator.get(url, headers={"Range": "bytes=10-", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)

    listed = (await operator.get("/api/v1/exports")).json()["items"]
    assert [item["id"] for item in listed] == [id_]
    assert (await operator.delete(f"/api/v1/exports/{id_}")).status_code == 204
    as_problem(await operator.get(url), 404, "not-found")


async def test_what_cannot_be_exported(
    operator: httpx.AsyncClient, viewer: httpx.AsyncClient, world: World
) -> None:
    as_problem(await viewer.post("/api/v1/exports", json={}), 403)
    wrong = await operator.post("/api/v1/exports", json={"format": "pdf", "from": "yesterday", "devcies": []})
    assert set(fields_of(wrong)) == {"format", "from", "devcies"}
    assert fields_of(await operator.post("/api/v1/exports", json={"metrics": ["water.lvl"]})) == ["metric"]
    nobody = {"devices": [EUI, "ffffffffffffffff"], "stations": ["phu-heip"]}
    assert fields_of(await operator.post("/api/v1/exports", json=nobody)) == ["devices", "stations"]
    as_problem(await operator.get("/api/v1/exports/00000000-0000-0000-0000-000000000000"), 404)


async def test_a_job_whose_worker_died_is_gone_on_with(
    operator: httpx.AsyncClient, world: World, settings: ApiSettings
) -> None:
    world.reading(T0, 1)
    now = datetime.now(UTC)
    selection = Jsonb({"what": "readings", "format": "parquet", "to": now.isoformat()})
    id_ = world.one(
        "INSERT INTO export_job (selection, state, requested_by, requested_at, worker, leased_until)"
        " VALUES (%s, 'running', 'x', %s, 'dead', %s) RETURNING id",
        selection, now, now - timedelta(seconds=1),
    )  # fmt: skip
    orphan = Path(settings.export_dir) / "0b9bf2a8-6a2a-4b7f-a2ab-d94c9a20ac29"
    orphan.mkdir(parents=True)
    await operator.post("/api/v1/exports", json={"what": "rollups"})  # wakes the worker
    assert (await ended(world, operator, str(id_)))["rows"] == 1
    await until(lambda: not orphan.exists())
    world.database.execute("UPDATE export_job SET expires_at = now() WHERE id = %s", (id_,))
    folder = Path(settings.export_dir) / str(id_)
    assert folder.exists()
    await until(lambda: not folder.exists())


async def test_what_takes_longer_than_a_lease_is_not_taken_over(
    operator: httpx.AsyncClient, world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LEASE", timedelta(seconds=1))
    monkeypatch.setattr(worker, "HOLD_SECONDS", 0.2)
    world.reading(T0, 1)
    with psycopg.connect(database_url) as slow:
        slow.execute("LOCK TABLE reading")
        id_ = await asked(operator, format="parquet")
        waits = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event = 'relation'"
        await until(lambda: world.one(waits) == 1)
        first = world.one("SELECT leased_until FROM export_job WHERE id = %s", id_)
        held = "SELECT leased_until > %s + interval '1.5 seconds' FROM export_job WHERE id = %s"
        await until(lambda: world.one(held, first, id_))
    export = await ended(world, operator, id_)
    assert (export["state"], export["rows"]) == ("done", 1)


async def test_a_file_that_another_process_writes_is_left_alone(
    operator: httpx.AsyncClient, world: World, settings: ApiSettings
) -> None:
    world.reading(T0, 1)
    now = datetime.now(UTC)
    id_ = world.one(
        "INSERT INTO export_job (selection, requested_by, requested_at) VALUES (%s, 'x', %s) RETURNING id",
        Jsonb({"to": now.isoformat()}), now,
    )  # fmt: skip
    file = jobs.file_of_job(Path(settings.export_dir), id_, Selection())
    file.parent.mkdir(parents=True)
    with locked(file):
        told = "SELECT count(*) FROM export_job WHERE state = 'waiting' AND error LIKE '%%another export%%'"
        await until(lambda: world.one(told) == 1)
        assert part_of(file).exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), child.AGAIN),
        (psycopg.errors.AdminShutdown("terminating connection"), child.AGAIN),
        (psycopg.errors.ConnectionFailure("gone"), child.AGAIN),
        (psycopg.errors.DiskFull("no space left on device"), child.FAILED),
        (psycopg.errors.QueryCanceled("statement timeout"), child.FAILED),
        (psycopg.errors.UndefinedColumn("no such column"), child.FAILED),
    ],
)
def test_what_the_database_refuses_is_not_tried_for_ever(error: psycopg.Error, status: int) -> None:
    assert child.ended_by_database(error) == status


async def test_exports_end_where_their_space_does(operator: httpx.AsyncClient, world: World) -> None:
    world.reading(T0, 1)
    world.database.execute(
        "INSERT INTO export_job (selection, state, requested_by, requested_at, bytes)"
        " VALUES ('{}', 'done', 'x', now(), 20::bigint << 30)"
    )
    export = await ended(world, operator, await asked(operator))
    assert export["state"] == "failed"
    assert "QUANTRAC_EXPORT_SPACE" in export["error"]
    as_problem(await operator.get(f"/api/v1/exports/{export['id']}/file"), 409, "conflict")


async def test_a_caller_has_a_few_at_a_time(operator: httpx.AsyncClient, world: World) -> None:
    for _ in range(5):
        world.database.execute(
            "INSERT INTO export_job (selection, requested_by, requested_at, leased_until)"
            " VALUES ('{}', %s, now(), now() + interval '1 hour')",
            ("key:operator",),
        )
    assert KEYS["operator"]
    as_problem(await operator.post("/api/v1/exports", json={}), 409, "conflict")
