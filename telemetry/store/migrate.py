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
from ..errors import SchemaTooNew
from ..model import hash_key
from .edition import Edition, create_extension, detect, make_hypertables
from .pool import connect
from .revision import newest_revision

_LOCK = 0x7175616E  # "quan": one migration at a time, whoever starts it


class Migrated(NamedTuple):
    """What a run found and did; revisions are None for an empty database."""

    edition: Edition
    before: str | None
    after: str
    hypertables: list[str]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "telemetry.store:migrations")
    return config


def migrate(url: str) -> Migrated:
    """Create or upgrade the schema and the metric catalogue.

    Raises:
        SchemaTooNew: the database has a revision this program does not know.
        psycopg.OperationalError: no connection.
    """
    with connect(url, application="quantrac migrate", autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))  # held until the connection closes
        create_extension(guard)
        engine = create_engine("postgresql+psycopg://", creator=lambda: _plain(url), poolclass=NullPool)
        with engine.begin() as connection:
            before = _current(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        with guard.transaction():
            edition = detect(guard)
            changed = make_hypertables(guard) if edition is not Edition.PLAIN else []
            _seed_catalogue(guard)
            _note_checks(guard)
    return Migrated(edition, before, newest_revision(), changed)


def current_revision(connection: psycopg.Connection[object]) -> str | None:
    """The schema's revision, or None in a database that has none of our tables."""
    if connection.execute("SELECT to_regclass('schema_version') IS NOT NULL AS x").fetchone() in (
        None,
        (False,),
    ):
        return None
    row = connection.execute("SELECT version_num FROM schema_version").fetchone()
    return str(row[0]) if row else None  # type: ignore[index]


def _plain(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return connect(url, application="quantrac migrate")


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
    rows = [(key, m.unit, m.vi, m.en) for key, m in CATALOGUE.items()]
    with connection.cursor() as cursor:
        # Inserting with ON CONFLICT would burn a smallint id for every metric at every start.
        cursor.execute("SELECT key FROM metric")
        known = {row[0] for row in cursor.fetchall()}  # type: ignore[index]
        cursor.executemany(
            "INSERT INTO metric (key, unit, name_vi, name_en) VALUES (%s, %s, %s, %s)",
            [row for row in rows if row[0] not in known],
        )
        cursor.executemany(
            "UPDATE metric SET unit = %s, name_vi = %s, name_en = %s WHERE key = %s"
            " AND (unit, name_vi, name_en) IS DISTINCT FROM (%s, %s, %s)",
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
            "INSERT INTO quality_job (device_id, metric_id, valid_from, why)"
            " SELECT d.id, m.id, now() - interval '31 days', 'checks of the catalogue' FROM device d"
            " CROSS JOIN unnest(%s::int2[]) AS m (id) WHERE d.status = 'active'",
            (judged,),
        )


__all__ = ["Migrated", "current_revision", "migrate", "newest_revision"]
