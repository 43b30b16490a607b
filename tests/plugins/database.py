"""A real PostgreSQL: QUANTRAC_TEST_DATABASE_URL, else the embedded one; a fresh database a test."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from quantrac.embedded import EmbeddedPostgres
from telemetry.settings import StoreSettings
from telemetry.store.migrate import migrate
from telemetry.store.pool import Pool, async_pool

_numbers = itertools.count(1)

# For this server alone: making and dropping databases, one a test, is most of what it does. What must outlive
# a crash is tested on servers of the tests' own (tests/embedded, e2e, chaos), which wait for the disk.
_FAST = """
fsync = off
synchronous_commit = off
full_page_writes = off
wal_compression = off
min_wal_size = '32MB'
max_wal_size = '128MB'
"""
_MEMORY, _ROOM = Path("/dev/shm"), 4 * 2**30  # bytes; each server holds some 300 MB
_PREFIX = "quantrac-tests-"


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark `database` what uses the server, by whatever fixtures: `pytest -m database` runs all of it."""
    for item in items:
        if "database_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.database)


def _admin(server: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(server, autocommit=True)


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server on which databases may be created."""
    given = os.environ.get("QUANTRAC_TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder: Path = tmp_path_factory.mktemp("postgres")
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    if in_memory:
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY))
    server = EmbeddedPostgres(folder)
    try:
        url = server.start()
        (folder / "postgres" / "cluster" / "local.conf").write_text(_FAST, encoding="utf-8")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGHUP)  # takes the settings
        _cheapen_password(url, folder / "postgres" / "passwords.json")
        yield url
    finally:
        server.stop()
        if in_memory:
            shutil.rmtree(folder)


def _sweep() -> None:
    """End and remove what runs that were killed left in memory."""
    for left in _MEMORY.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            with contextlib.suppress(Exception):  # another worker may be at it
                EmbeddedPostgres(left).stop()
                shutil.rmtree(left, ignore_errors=True)


def _cheapen_password(url: str, kept: Path) -> None:
    """Opening a connection costs milliseconds with the usual 4096 rounds of SCRAM."""
    parts, words = psycopg.conninfo.conninfo_to_dict(url), json.loads(kept.read_text(encoding="utf-8"))
    superuser = {**parts, "user": "postgres", "password": words["postgres"]}
    with psycopg.connect(**superuser, autocommit=True) as session:
        session.execute("SET scram_iterations = 1")
        role, word = sql.Identifier(str(parts["user"])), sql.Literal(parts["password"])
        session.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, word))


@pytest.fixture(scope="session")
def _template(database_server: str) -> Iterator[str]:
    name = f"quantrac_template_{os.getpid()}"
    with _admin(database_server) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate(_url(database_server, name))
        # A template must have no connections, and an extension's background worker would open one.
        admin.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND usename IS NOT NULL",
            (name,),
        )
    yield name
    _drop(database_server, name)


@pytest.fixture
def database_url(database_server: str, _template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"quantrac_test_{os.getpid()}_{next(_numbers)}"
    with _admin(database_server) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_template))
        )
    yield _url(database_server, name)
    _drop(database_server, name)


@pytest.fixture
def empty_database_url(database_server: str) -> Iterator[str]:
    """A database without our schema."""
    name = f"quantrac_empty_{os.getpid()}_{next(_numbers)}"
    with _admin(database_server) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield _url(database_server, name)
    _drop(database_server, name)


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[dict[str, object]]]:
    """A connection to the test's database, for looking; autocommit, rows as dictionaries."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections of a service to the test's database."""
    async with async_pool(StoreSettings(database_url=database_url), application="test") as opened:
        yield opened


def _drop(server: str, database: str) -> None:
    """Drop it with whoever is connected; one who is no superuser has to wait while autovacuum is there."""
    statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database))
    deadline = time.monotonic() + 30
    with _admin(server) as admin:
        while True:
            try:
                admin.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def _url(server: str, database: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(server)
    assert parts.get("host"), "name the server's host in QUANTRAC_TEST_DATABASE_URL"
    password = f":{parts['password']}" if parts.get("password") else ""
    made = f"postgresql://{parts['user']}{password}@{parts['host']}:{parts.get('port', 5432)}/{database}"
    make_conninfo(made)
    return made
