"""The services' database role is no superuser: owning its database must be enough."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from telemetry.store.migrate import migrate


@pytest.fixture
def owners_url(database_server: str) -> Iterator[str]:
    """An empty database and its owner, made as timescaledb/quantrac.sql and README.md make them."""
    name = sql.Identifier(f"quantrac_owner_{os.getpid()}")
    server = conninfo_to_dict(database_server)
    with psycopg.connect(database_server, autocommit=True) as admin:
        row = admin.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = user").fetchone()
        if row != (True,):
            # The embedded server's role is an ordinary owner itself, so every other test shows the same.
            pytest.skip("the role of the test's server may not create another")
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(name))
        plain = name.as_string(admin).strip('"')
        yield f"postgresql://{plain}:secret@{server['host']}:{server.get('port', 5432)}/{plain}"
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("DROP ROLE {}").format(name))


def test_the_owner_of_a_database_may_migrate_it(owners_url: str) -> None:
    done = migrate(owners_url)
    assert migrate(owners_url) == done._replace(before=done.after, hypertables=[], rollups=[])
