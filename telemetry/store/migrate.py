"""Bring the schema up to date: forward only, one process at a time, never below a newer program's."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from ..catalogue import CATALOGUE
from ..errors import SchemaTooNew, StoreError
from ..model import hash_key
from .edition import Edition, create_extension, detect, make_hypertables
from .leader import hold
from .pool import Limits, connect, limit
from .revision import newest_revision
from .rollups import make_rollups

MIGRATION_LOCK = 0x7175616E  # "quan": one migration at a time, whoever starts it


class Migrated(NamedTuple):
    """What a run found and did; revisions are None for an empty database."""

    edition: Edition
    before: str | None
    after: str
    hypertables: list[str]
    rollups: list[str]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "telemetry.store:migrations")
    return config


def migrate(url: str, *, lock_timeout: float = 0.0) -> Migrated:
    """Create or upgrade the schema and the metric catalogue.

    `lock_timeout` are the seconds to wait for a table that others use, 0: for ever. Through a pooler it needs
    two connections to the server at once.

    Raises:
        psycopg.errors.LockNotAvailable: nothing of this revision was changed.
        SchemaTooNew: the database has a revision this program does not know.
        StoreError: somebody's restore did not come to its end here.
        psycopg.OperationalError: no connection.
    """
    limits = Limits(lock=lock_timeout)
    with connect(url, application="quantrac migrate") as guard:
        hold(guard, MIGRATION_LOCK)  # until the connection closes
        with connect(url, application="quantrac migrate", autocommit=True) as first:
            _refuse_half_restored(first)
            create_extension(first)
        engine = create_engine("postgresql+psycopg://", creator=lambda: _plain(url), poolclass=NullPool)
        with engine.begin() as connection:
            limit(_driver(connection), limits)
            before = _current(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        with _plain(url) as after:
            limit(after, limits)
            edition = detect(after)
            changed = make_hypertables(after) if edition is not Edition.PLAIN else []
            _seed_catalogue(after)
            _note_checks(after)
            rollups = make_rollups(after, edition)
    return Migrated(edition, before, newest_revision(), changed, rollups)


def current_revision(connection: psycopg.Connection[object]) -> str | None:
    """The schema's revision, or None in a database that has none of our tables."""
    if connection.execute("SELECT to_regclass('schema_version') IS NOT NULL AS x").fetchone() in (
        None,
        (False,),
    ):
        return None
    row = connection.execute("SELECT version_num FROM schema_version").fetchone()
    return str(row[0]) if row else None  # type: ignore[index]


def _refuse_half_restored(connection: psycopg.Connection[object]) -> None:
    """Tables without a revision, or TimescaleDB still expecting a restore: `quantrac restore` was killed."""
    tables = connection.execute("SELECT to_regclass('registry_version') IS NOT NULL").fetchone() == (True,)
    row = connection.execute("SELECT current_setting('timescaledb.restoring', true)").fetchone()
    if (tables and current_revision(connection) is None) or row == ("on",):
        raise StoreError(
            "A restore into this database was cut short, so what is in it is not complete. "
            "Make an empty database and run `quantrac restore` again."
        )


def _plain(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return connect(url, application="quantrac migrate")


def _driver(connection: Connection) -> psycopg.Connection[object]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _current(connection: Connection) -> str | None:
    current = MigrationContext.configure(
        connection, opts={"version_table": "schema_version"}
    ).get_current_revision()
    if current is not None and current not in {
        script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()
    }:
        raise SchemaTooNew(
            f"The database has schema revision {current}, this program knows up to {newest_revision()}. "
            "Start the newer Quantrac that migrated it, or restore a backup."
        )
    return current


def _seed_catalogue(connection: psycopg.Connection[object]) -> None:
    rows = [(key, m.unit, m.vi, m.en, m.kind) for key, m in CATALOGUE.items()]
    with connection.cursor() as cursor:
        # Inserting with ON CONFLICT would burn a smallint id for every metric at every start.
        cursor.execute("SELECT key FROM metric")
        known = {row[0] for row in cursor.fetchall()}  # type: ignore[index]
        cursor.executemany(
            "INSERT INTO metric (key, unit, name_vi, name_en, kind) VALUES (%s, %s, %s, %s, %s)",
            [row for row in rows if row[0] not in known],
        )
        cursor.executemany(
            "UPDATE metric SET unit = %s, name_vi = %s, name_en = %s, kind = %s WHERE key = %s"
            " AND (unit, name_vi, name_en, kind) IS DISTINCT FROM (%s, %s, %s, %s)",
            [(*row[1:], row[0], *row[1:]) for row in rows if row[0] in known],
        )


def _note_checks(connection: psycopg.Connection[object]) -> None:
    """Have readings judged anew where a new version asks something else of a metric."""
    asked = {key: hash_key(repr(metric.quality_checks)).hex() for key, metric in CATALOGUE.items()}
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, id, checks FROM metric")
        known: list[Any] = cursor.fetchall()
        changed = [(asked[key], id_) for key, id_, checks in known if asked.get(key, checks) != checks]
        cursor.executemany("UPDATE metric SET checks = %s WHERE id = %s", changed)
        cursor.executemany(
            "UPDATE metric m SET increment = g.id FROM metric g"
            " WHERE m.key = %s AND g.key = %s AND m.increment IS DISTINCT FROM g.id",
            [(key, metric.increment) for key, metric in CATALOGUE.items() if metric.increment],
        )
        judged = [
            id_ for key, id_, checks in known if checks is not None and asked.get(key, checks) != checks
        ]
        cursor.execute(
            "INSERT INTO quality_job (device_id, metric_id, valid_from, why, priority)"
            " SELECT d.id, m.id, now() - interval '31 days', 'checks of the catalogue', 3 FROM device d"
            " CROSS JOIN unnest(%s::int2[]) AS m (id) WHERE d.status = 'active'",
            (judged,),
        )


__all__ = ["Migrated", "current_revision", "migrate", "newest_revision"]
