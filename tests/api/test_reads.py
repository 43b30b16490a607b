"""Heavy reads go to a streaming replica while it is there and keeps up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from api.app import create_app
from api.reads import Marks, Reads
from api.settings import ApiSettings
from quantrac.embedded import EmbeddedPostgres
from quantrac.embedded.account import choose_account
from quantrac.embedded.cluster import programs
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.migrate import migrate
from telemetry.store.pool import async_pool
from tests.api.conftest import KEYS, client_of
from tests.ports import free_port
from tests.wait import until


def test_the_distance_of_a_replica_as_time() -> None:
    marks = Marks()
    assert marks.lag(0, 100) is None, "nothing is known yet"
    for now, position in ((0, 100), (2, 100), (4, 300), (6, 300)):
        marks.add(now, position)
    assert marks.lag(6, 300) == 0
    assert marks.lag(6, 299) == 4, "it has what was there at 2, and misses something since"
    assert marks.lag(6, 99) is None
    assert marks.lag(6, None) is None, "it has replayed nothing yet"


class Replica:
    """A copy of a server's cluster that follows it, on a port of its own."""

    def __init__(self, primary: EmbeddedPostgres, folder: Path, url: str) -> None:
        home = folder / "postgres"
        password = json.loads((home / "passwords.json").read_text())["postgres"]
        self.admin = f"{url.split('//')[0]}//postgres:{password}@{url.split('@')[1]}"
        self._home, self._data, self.port = home, home / "replica", free_port()
        self._account = choose_account(home, programs() / "postgres")
        with (home / "cluster" / "pg_hba.conf").open("a") as hba:
            hba.write("host replication all 127.0.0.1/32 scram-sha-256\n")
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        source = self.admin.rpartition("/")[0] + "/postgres"
        copy = ("-D", self._data, "-d", source, "-R", "-X", "stream", "-c", "fast")
        self._run(self._account.command(programs() / "pg_basebackup", *copy))
        self.url = f"{url.rpartition(':')[0]}:{self.port}/quantrac"
        self.admin = f"{self.admin.rpartition(':')[0]}:{self.port}/quantrac"

    def start(self) -> None:
        self._control("start", "-o", f"-p {self.port}", "-l", self._home / "replica.log")

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def promote(self) -> None:
        self._control("promote")

    def _control(self, *arguments: str | Path) -> None:
        self._run(self._account.command(programs() / "pg_ctl", "-D", self._data, "-w", *arguments))

    def _run(self, command: list[str]) -> None:
        subprocess.run(
            command,
            check=True,
            cwd=self._home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            **self._account.popen,
        )


@contextmanager
def _stopped(server: EmbeddedPostgres | Replica) -> Iterator[None]:
    try:
        yield
    finally:
        server.stop()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[str, Replica]]:
    primary = EmbeddedPostgres(tmp_path)
    url = primary.start()
    with _stopped(primary):
        migrate(url)
        replica = Replica(primary, tmp_path, url)
        replica.start()
        with _stopped(replica):
            yield url, replica


async def test_a_replica_that_lags_goes_and_comes_back(
    servers: tuple[str, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.reads.LOOK_SECONDS", 0.05)
    url, replica = servers
    store = StoreSettings(
        database_url=url, database_replica_url=replica.url, database_replica_lag=0.5, database_pool=4
    )
    pool = async_pool(store, application="test")
    reads = Reads(store, pool)

    async def answered() -> int:
        async with reads.connection() as connection:
            row = await (await connection.execute("SELECT inet_server_port() AS port")).fetchone()
        assert row is not None
        return int(row["port"])

    with (
        psycopg.connect(replica.admin, autocommit=True) as admin,
        psycopg.connect(url, autocommit=True) as db,
    ):
        async with pool, reads.open():
            await until(lambda: reads.state == "ok")
            assert await answered() == replica.port
            admin.execute("SELECT pg_wal_replay_pause()")
            db.execute("INSERT INTO untimed VALUES (gen_random_uuid(), now())")
            await until(lambda: reads.state == "behind")
            assert await answered() != replica.port
            admin.execute("SELECT pg_wal_replay_resume()")
            await until(lambda: reads.state == "ok")
            assert await answered() == replica.port
            replica.stop()
            assert await answered() != replica.port, "before anybody noticed"
            await until(lambda: reads.state == "away")
            assert await answered() != replica.port
            replica.start()
            await until(lambda: reads.state == "ok")
            assert await answered() == replica.port
            replica.promote()
            await until(lambda: reads.state == "promoted")
            assert await answered() != replica.port, "it has what there was when it was promoted"


async def test_looking_goes_on_after_any_fault(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.reads.LOOK_SECONDS", 0.01)
    store, looks = StoreSettings(database_url=database_url, database_replica_url=database_url), [0]

    async def look(_: Reads) -> None:
        looks[0] += 1
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(Reads, "_look", look)
    pool = async_pool(store, application="test")
    async with pool, Reads(store, pool).open():
        await until(lambda: looks[0] > 2)


async def test_the_api_answers_without_its_replica(database_url: str, accounts: None) -> None:
    store = StoreSettings(
        database_url=database_url, database_replica_url=f"postgresql://x:y@127.0.0.1:{free_port()}/z"
    )
    app = create_app(ApiSettings(), store, SecretBox("a key for tests, of thirty-two letters"))
    bearer = f"Bearer {KEYS['viewer'].key}"
    async with app.router.lifespan_context(app), client_of(app, authorization=bearer) as client:
        assert (await client.get("/readyz")).json() == {"status": "ok", "replica": "away"}
        assert (await client.get("/api/v1/readings")).status_code == 200
