"""Everything behind PgBouncer in transaction mode: each transaction may get another session of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerting.engine import Engine
from api.app import create_app
from api.credentials import new_key
from api.settings import ApiSettings
from ingest.increments import IncrementJob
from ingest.link_job import LinkJob
from telemetry.clock import ManualClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.leader import leading
from telemetry.store.migrate import migrate, newest_revision
from telemetry.store.pool import Limits, async_pool, connect, is_pooled
from tests.api.conftest import client_of
from tests.ingest.store import EUI, NOW, adopt, keep_latest, registry, up, writer
from tests.pgbouncer import PROGRAM, pgbouncer

# Other tests use the same server.
_LOCKS_LEFT = """
    SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE locktype = 'advisory' AND d.datname = current_database()
"""

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


@pytest.fixture
def pooled_url(empty_database_url: str, tmp_path: Path) -> Iterator[str]:
    with pgbouncer(empty_database_url, tmp_path) as url:
        yield url


async def test_the_whole_way(pooled_url: str, empty_database_url: str) -> None:
    both = await asyncio.gather(*(asyncio.to_thread(migrate, pooled_url) for _ in range(2)))
    assert sorted(run.before or "" for run in both) == ["", newest_revision()]
    store = StoreSettings(database_url=pooled_url)
    with psycopg.connect(empty_database_url, autocommit=True) as database:
        _work_is_done(pooled_url, database)
        await keep_latest(pooled_url)
        async with async_pool(store, application="test") as pool:
            await asyncio.gather(*(_followed(pool) for _ in range(3)))
            assert await IncrementJob(pool, writer="increments").step() in (True, False)
            async with pool.connection() as connection:
                await LinkJob(pool, ManualClock(NOW)).follow(connection)
                async with leading(pool, 4711) as first, leading(pool, 4711) as second:
                    assert first is not None
                    assert second is None
                async with leading(pool, 4711) as again:
                    assert again is not None  # no session of the server kept the lock
        assert database.execute(_LOCKS_LEFT).fetchone() == (0,)
        await _the_api_reads(store, database)


def _work_is_done(url: str, database: psycopg.Connection[Any]) -> None:
    codecs = registry(c=lambda: {"x": 1.5})
    adopt(database, EUI, "c")
    messages = [up(str(n), time=NOW - timedelta(minutes=n)) for n in range(40)]
    with writer(url, codecs) as commit, writer(url, codecs) as other:
        for n in range(0, 40, 4):  # psycopg would prepare a statement on its fifth time
            commit(*messages[n : n + 4])
        assert other(*messages[:20]).duplicates == 20
        assert commit(*messages[20:], up("new", time=NOW - timedelta(hours=1))).duplicates == 20
    counts = database.execute("SELECT (SELECT count(*) FROM uplink), (SELECT count(*) FROM reading)")
    assert counts.fetchone() == (41, 41)


async def _followed(pool: Any) -> None:
    engine = Engine(pool, batches=1)
    while await engine.step():
        pass


async def _the_api_reads(store: StoreSettings, database: psycopg.Connection[Any]) -> None:
    key = new_key()
    database.execute(
        "INSERT INTO api_key (name, role, hint, key_hash) VALUES ('t', 'viewer', %s, %s)",
        (key.hint, key.digest),
    )
    app = create_app(ApiSettings(), store, SecretBox("a key for tests, of thirty-two letters"))
    async with app.router.lifespan_context(app), client_of(app, authorization=f"Bearer {key.key}") as client:
        assert (await client.get("/readyz")).status_code == 200
        asked = [client.get(f"/api/v1/{what}") for what in ("readings", "latest", "uplinks", "alerts")] * 6
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}, [a.text for a in answers]
        assert len(answers[0].json()["items"]) == 41


def test_settings_of_one_client_are_no_others(pooled_url: str) -> None:
    with (
        connect(pooled_url, application="strict", autocommit=True, limits=Limits(1, 1, 1)) as strict,
        connect(pooled_url, application="other", autocommit=True) as other,
    ):
        assert is_pooled(strict)
        for connection in (strict, other, strict):
            assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
            assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_directly_each_has_its_limits(database_url: str) -> None:
    with connect(database_url, application="t", limits=Limits(1.5, 2, 3)) as connection:
        assert not is_pooled(connection)
        shown = [
            connection.execute(f"SHOW {name}").fetchone()  # type: ignore[arg-type]
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ]
        connection.rollback()
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
    assert shown == [("1500ms",), ("2s",), ("3s",)]
