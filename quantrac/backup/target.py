"""Whether a database can take a backup, and TimescaleDB's part of getting it ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from quantrac.backup.make import POOLED
from quantrac.backup.manifest import Manifest
from telemetry.errors import QuantracError
from telemetry.store.edition import Edition
from telemetry.store.pool import is_pooled

_THINGS = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
    ORDER BY 1 LIMIT 3
"""
_OTHERS = """
    SELECT coalesce(nullif(application_name, ''), usename, '?') FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    ORDER BY 1 LIMIT 5
"""


def check_target(guard: psycopg.Connection[Any], manifest: Manifest, major: int) -> None:
    """Raises `QuantracError` with the cure when it is not empty, in use, older, or not in UTF-8."""
    if is_pooled(guard):
        raise QuantracError(POOLED)
    name = guard.info.dbname
    cure = (
        "Make an empty one (createdb) and name it in QUANTRAC_DATABASE_URL, "
        "or choose an empty folder with --data."
    )
    if things := guard.execute(_THINGS).fetchall():
        shown = ", ".join(row[0] for row in things)
        raise QuantracError(f"The database {name!r} is not empty (it holds {shown}, …). {cure}")
    row = guard.execute("SELECT current_schema()").fetchone()
    if row is None or row[0] != manifest.namespace:
        raise QuantracError(
            f"The backup's tables lie in the schema {manifest.namespace!r}, but here the first one of the "
            f"search_path is {row and row[0]!r}. Create that schema, or set the role's search_path."
        )
    if others := guard.execute(_OTHERS).fetchall():
        shown = ", ".join(row[0] for row in others)
        raise QuantracError(f"The database {name!r} is in use ({shown}). Stop every service first.")
    if major < manifest.postgresql:
        raise QuantracError(
            f"The backup is of PostgreSQL {manifest.postgresql}, this server is {major}. "
            f"Use a server of PostgreSQL {manifest.postgresql} or newer."
        )
    encoding = guard.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise QuantracError(f"The database {name!r} is not in UTF-8. Make it with: createdb --encoding=UTF8")


def keeps_owner(guard: psycopg.Connection[Any], manifest: Manifest) -> bool:
    """Whether what is restored shall belong to whom it belonged; else it belongs to the role that restores.

    Raises `QuantracError` where TimescaleDB leaves no choice, and the role or its rights are missing.
    """
    row = guard.execute(
        "SELECT rolsuper, EXISTS (SELECT FROM pg_roles WHERE rolname = %s) FROM pg_roles"
        " WHERE rolname = current_user",
        (manifest.owner,),
    ).fetchone()
    assert row is not None
    superuser, known = row
    if manifest.timescaledb and not superuser:
        raise QuantracError(
            "TimescaleDB's catalogue can be restored by a superuser only. Set QUANTRAC_DATABASE_URL to one "
            f"for this command; everything will belong to {manifest.owner!r}, as in the backup."
        )
    if manifest.timescaledb and not known:
        raise QuantracError(
            f"The role {manifest.owner!r}, whom everything in the backup belongs to, is missing here. "
            f"Make it: createuser --pwprompt {manifest.owner}"
        )
    return bool(superuser and known)


@contextmanager
def timescaledb_restoring(guard: psycopg.Connection[Any], manifest: Manifest) -> Iterator[None]:
    """The extension in the backup's version, and its background jobs held back until the block ends.

    https://docs.tigerdata.com/self-hosted/latest/backup-and-restore/logical-backup/
    """
    if manifest.timescaledb is None:
        yield
        return
    _provide_timescaledb(guard, manifest, manifest.timescaledb)
    guard.execute("SELECT timescaledb_pre_restore()")
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):  # what went wrong before tells more
            guard.execute("SELECT timescaledb_post_restore()")
        raise
    guard.execute("SELECT timescaledb_post_restore()")


def _provide_timescaledb(guard: psycopg.Connection[Any], manifest: Manifest, version: str) -> None:
    installed = guard.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    if installed is None:
        offered = guard.execute(
            "SELECT version FROM pg_available_extension_versions WHERE name = 'timescaledb'"
        ).fetchall()
        if (version,) not in offered:
            here = (
                "this server has no TimescaleDB" if not offered else "this server does not offer that version"
            )
            raise QuantracError(
                f"The backup needs TimescaleDB {version}, and {here}. Install exactly that version; once "
                "restored it can be updated (ALTER EXTENSION timescaledb UPDATE)."
            )
        guard.execute(
            sql.SQL("CREATE EXTENSION timescaledb WITH SCHEMA {} VERSION {}").format(
                sql.Identifier(manifest.namespace), sql.Literal(version)
            )
        )
    elif installed[0] != version:
        raise QuantracError(
            f"The backup needs TimescaleDB {version}, the database has {installed[0]}. Make the database "
            "without it (createdb --template=template0), so that the right version can be created."
        )
    licence = guard.execute("SHOW timescaledb.license").fetchone()
    if manifest.edition == Edition.COMMUNITY.name.lower() and licence != ("timescale",):
        raise QuantracError(
            "The backup is of TimescaleDB Community, this server runs the Apache edition, which lacks "
            "compression and continuous aggregates. Use the Community packages, or set "
            "timescaledb.license = 'timescale'."
        )
