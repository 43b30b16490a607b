"""Bring a backup back into an empty database."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import psycopg
import zstandard
from psycopg import sql

from quantrac.backup import programs, tables
from quantrac.backup.archive import DUMP, Reader
from quantrac.backup.manifest import Manifest
from quantrac.backup.target import check_target, keeps_owner, timescaledb_restoring
from quantrac.seed import seed
from telemetry.errors import QuantracError, SchemaTooNew
from telemetry.store.migrate import MIGRATION_LOCK, migrate, newest_revision
from telemetry.store.pool import connect

Progress = Callable[[int, int], None]

_APPLICATION = "quantrac restore"
_CHUNK = 1024 * 1024
# What the target has already, or what no role but its owner may make.
_NOT_RESTORED = re.compile(r"\d+; \d+ \d+ (?:(?:COMMENT|ACL) - )?(?:EXTENSION|SCHEMA|EVENT TRIGGER) ")
_OURS_STILL_THERE = """
    SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = %s
"""


class Stage(Enum):
    """How far a restore has come; the value says what it leaves when it ends there."""

    BEFORE = "nothing was restored"
    LOADED = "what was restored was not compared to the end: drop the database and restore again"
    WHOLE = (
        "the database is restored, compared, and kept; only what comes after is missing: run `quantrac "
        "migrate` before the services start (`quantrac up` does it by itself)"
    )


@dataclass(slots=True)
class Course:
    """A restore on its way."""

    stage: Stage = Stage.BEFORE


def restore(url: str, backup: Reader, progress: Progress, course: Course) -> None:
    """Restore the backup's database; afterwards it is as the backup says, row by row.

    All comes in one transaction: whatever happens before its end leaves the database empty. It counts as
    Quantrac's only after rows and checksums were compared.

    Raises:
        SchemaTooNew: a newer Quantrac made the backup.
        QuantracError: the database is not empty or in use, is of an edition or version that cannot take the
            backup, pg_restore failed, or what was restored differs from the manifest.
        psycopg.OperationalError: the database does not answer, or went away.
    """
    manifest = backup.manifest
    if manifest.schema > newest_revision():
        raise SchemaTooNew(
            f"The backup has schema revision {manifest.schema} (Quantrac {manifest.quantrac}), this program "
            f"knows up to {newest_revision()}. Restore it with that Quantrac or a newer one."
        )
    with connect(url, application=_APPLICATION, autocommit=True) as guard:
        # Whoever wants to migrate meanwhile waits.
        guard.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        major = guard.info.server_version // 10000
        program = _program(manifest, major)
        check_target(guard, manifest, major)
        keep_owner = keeps_owner(guard, manifest)
        with timescaledb_restoring(guard, manifest):
            _load(url, guard, backup, program, keep_owner, progress)
            course.stage = Stage.LOADED
            _compare(url, manifest)
        # From here on the database counts as complete.
        guard.execute("INSERT INTO schema_version (version_num) VALUES (%s)", (manifest.schema,))
        course.stage = Stage.WHOLE
        for name in manifest.tables:
            guard.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*name.split(".", 1))))


def bring_up_to_date(url: str) -> bool:
    """The newest schema into a restored database; False where only its owner may: `quantrac migrate` yet."""
    if not _may_migrate(url):
        return False
    migrate(url)
    seed(url)
    return True


def _program(manifest: Manifest, major: int) -> programs.Program:
    program = programs.find("pg_restore", max(major, int(manifest.pg_dump.partition(".")[0])))
    if programs.too_new(program, major):
        raise QuantracError(
            f"The backup was made by pg_dump {manifest.pg_dump}, and pg_restore {program.version} cannot "
            f"restore into PostgreSQL {major}. Restore into PostgreSQL {program.major}, or install the "
            f"package postgresql-client-{major} on both machines and take the backup anew."
        )
    return program


def _load(
    url: str,
    guard: psycopg.Connection[Any],
    backup: Reader,
    program: programs.Program,
    keep_owner: bool,
    progress: Progress,
) -> None:
    env = programs.environment(url, _APPLICATION)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".list") as contents:
        contents.writelines(line for line in _contents(backup, program, env) if not _NOT_RESTORED.match(line))
        contents.flush()
        arguments = [
            "--single-transaction",
            "--exit-on-error",
            "--no-privileges",
            f"--use-list={contents.name}",
            f"--dbname={guard.info.dbname}",
        ]
        if not keep_owner:
            arguments.append("--no-owner")
        try:
            with programs.running(program, *arguments, env=env, feed=True) as (_, pipe):
                total = backup.manifest.parts[DUMP].bytes
                for done, chunk in _dump(backup):
                    pipe.write(chunk)
                    progress(done, total)
        except BaseException:
            # A server notices a client's death only when it next speaks to it.
            with suppress(psycopg.Error):  # what went wrong before tells more
                guard.execute(_OURS_STILL_THERE, (_APPLICATION,))
            raise


def _contents(backup: Reader, program: programs.Program, env: dict[str, str]) -> list[str]:
    """What the dump holds, one line each, as pg_restore lists it."""
    with tempfile.NamedTemporaryFile() as listed:
        with programs.running(program, "--list", f"--file={listed.name}", env=env, feed=True) as (_, pipe):
            for _, chunk in _dump(backup):
                pipe.write(chunk)  # it reads no more than it needs
        return listed.read().decode().splitlines(keepends=True)


def _dump(backup: Reader) -> Iterator[tuple[int, bytes]]:
    """(compressed bytes read, a piece of the dump)."""
    with backup.open(DUMP) as file, zstandard.ZstdDecompressor().stream_reader(file) as expanded:
        while chunk := expanded.read(_CHUNK):
            yield file.tell(), chunk


def _compare(url: str, manifest: Manifest) -> None:
    """Raises `QuantracError` unless every table holds what the manifest says."""
    with connect(url, application=_APPLICATION) as connection:
        tables.prepare(connection)
        if manifest.timescaledb:
            connection.execute("SET LOCAL timescaledb.restoring = off")
        names = [tuple(name.split(".", 1)) for name in manifest.tables]
        found = tables.measure(connection, names)  # type: ignore[arg-type]
    if wrong := [name for name, table in manifest.tables.items() if found[name] != table]:
        name = wrong[0]
        raise QuantracError(
            f"What was restored differs from the backup in {', '.join(wrong)} ({name}: {found[name].rows} "
            f"rows instead of {manifest.tables[name].rows}, or other values). Do not use this database: drop "
            "it, see that nothing writes into it, and restore again."
        )


def _may_migrate(url: str) -> bool:
    """What a migration makes must belong to the owner of the rest."""
    with connect(url, application=_APPLICATION, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pg_get_userbyid(relowner) = current_user FROM pg_class"
            " WHERE oid = 'registry_version'::regclass"
        ).fetchone()
    return row == (True,)
