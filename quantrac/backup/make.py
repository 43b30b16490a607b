"""Take a backup while everything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psycopg
import zstandard
from psycopg import IsolationLevel

from quantrac import __version__
from quantrac.backup import programs, tables
from quantrac.backup.archive import BESIDE, DUMP, RESERVE, Writer, writing
from quantrac.backup.manifest import Manifest, Table
from telemetry.clock import Clock
from telemetry.errors import QuantracError
from telemetry.store.edition import Edition, detect
from telemetry.store.migrate import current_revision
from telemetry.store.pool import connect, is_pooled

Progress = Callable[[int, int], None]

_CHUNK = 1024 * 1024
_LEVEL = 3
_TRIES = 3
# Of the size of the tables, indexes left out; measured on plain tables: a seventh.
_EXPECTED_SHARE = 0.3
POOLED = (
    "pg_dump and pg_restore need the server itself, not PgBouncer: name its own port in "
    "QUANTRAC_DATABASE_URL for this command."
)
LEFT_OUT = (
    "QUANTRAC_SECRET_KEY: the webhook secrets in the backup are encrypted with it. Keep it elsewhere; "
    "without it every endpoint needs a new secret.",
    "sessions: after a restore everybody logs in again.",
    "what waits in the broker, and what ingest acknowledged after the backup began.",
)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A moment of the database that pg_dump sees too, as long as `connection` is in its transaction."""

    connection: psycopg.Connection[Any]
    name: str
    taken_at: datetime
    edition: Edition
    timescaledb: str | None
    revision: str
    owner: str
    namespace: str

    @property
    def major(self) -> int:
        return self.connection.info.server_version // 10000


def backup(
    url: str, path: Path, *, beside: Mapping[str, bytes], force: bool, clock: Clock, progress: Progress
) -> Manifest:
    """Write a backup of the database and of the files `beside` it to `path`.

    It shows one moment, shortly after the beginning: all that was committed until then, and nothing of what
    came later. Writers are not held up.

    Raises:
        UsageError: `path` cannot be written, or is there already and not `force`.
        QuantracError: no room, no schema, no fitting pg_dump, or pg_dump failed. Nothing is kept.
        psycopg.OperationalError: the database does not answer, or went away. Nothing is kept.
    """
    with writing(path, force=force) as writer:
        began = clock.now()
        for name, content in beside.items():
            writer.add(BESIDE + name, iter([content]))
        for attempt in range(1, _TRIES + 1):
            try:
                manifest = _dump(url, writer, path, began, clock, progress)
                break
            except psycopg.errors.LockNotAvailable as error:
                raise QuantracError(
                    f"a table stayed locked for a minute ({' '.join(str(error).split())}); does a migration "
                    "run, or a policy that drops or compresses chunks? Take the backup when it is done."
                ) from None
            except psycopg.errors.InsufficientPrivilege as error:
                raise QuantracError(f"the role may not read all of the database: {error}") from None
            except (programs.ProgramFailed, psycopg.errors.UndefinedTable) as error:
                # A policy may have dropped a chunk before its lock was ours; then nothing is written yet.
                if attempt == _TRIES or DUMP in writer.parts:
                    raise QuantracError(str(error)) from None
        writer.finish(manifest)
    return manifest


def _dump(
    url: str, writer: Writer, path: Path, began: datetime, clock: Clock, progress: Progress
) -> Manifest:
    with _snapshot(url) as snapshot:
        program = programs.find("pg_dump", snapshot.major)
        size = tables.size(snapshot.connection)
        _check_room(path, size)
        env = programs.environment(url, "quantrac backup")
        with programs.running(program, *_arguments(snapshot), env=env, feed=False) as (process, pipe):
            measured: dict[str, Table] = {}
            if first := pipe.read(_CHUNK):  # else it failed, and leaving the block says how
                with ThreadPoolExecutor(1) as pool:
                    measuring = pool.submit(_measure, snapshot)
                    try:
                        writer.add(DUMP, _while(measuring, _compressed(first, pipe, size, progress)))
                        if process.wait() == 0:
                            measured = measuring.result()
                    finally:
                        if not measuring.done():
                            snapshot.connection.cancel_safe()
        return Manifest(
            quantrac=__version__,
            schema=snapshot.revision,
            edition=snapshot.edition.name.lower(),
            timescaledb=snapshot.timescaledb,
            postgresql=snapshot.major,
            pg_dump=program.version,
            owner=snapshot.owner,
            namespace=snapshot.namespace,
            began_at=began,
            snapshot_at=snapshot.taken_at,
            ended_at=clock.now(),
            tables=measured,
            parts=writer.parts,
            left_out=(*LEFT_OUT, *_limits(program, snapshot)),
        )


@contextmanager
def _snapshot(url: str) -> Iterator[_Snapshot]:
    connection = connect(url, application="quantrac backup")
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection:
        if is_pooled(connection):
            raise QuantracError(POOLED)
        names = tables.dumped(connection)
        connection.commit()
        tables.prepare(connection)
        tables.lock(connection, names)
        row = connection.execute(
            "SELECT pg_export_snapshot(), clock_timestamp(), current_schema(),"
            " (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass('registry_version')),"
            " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
        ).fetchone()
        assert row is not None
        name, taken_at, namespace, owner, timescaledb = row
        revision = current_revision(connection)
        if revision is None:
            raise QuantracError("the database has no Quantrac schema, so there is nothing to back up")
        snapshot = _Snapshot(
            connection,
            name,
            taken_at.astimezone(UTC),
            detect(connection),
            timescaledb,
            revision,
            owner,
            namespace,
        )
        try:
            yield snapshot
        except programs.ProgramFailed:
            connection.rollback()  # when the database went away, that is what is to be told
            raise


def _arguments(snapshot: _Snapshot) -> list[str]:
    arguments = [
        "--format=custom",
        "--compress=0",  # we compress better than its zlib
        f"--snapshot={snapshot.name}",
        "--lock-wait-timeout=60s",
        "--no-publications",
        "--no-subscriptions",
        "--no-security-labels",
        *(f"--exclude-table-data={snapshot.namespace}.{name}" for name in tables.WITHOUT_DATA),
    ]
    # TimescaleDB's chunks and catalogue lie in schemas of its own.
    return arguments if snapshot.timescaledb else [*arguments, f'--schema="{snapshot.namespace}"']


def _compressed(first: bytes, pipe: IO[bytes], size: int, progress: Progress) -> Iterator[bytes]:
    squeeze = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
    done, chunk = 0, first
    while chunk:
        done += len(chunk)
        progress(min(done, size), size)
        if made := squeeze.compress(chunk):
            yield made
        chunk = pipe.read(_CHUNK)
    yield squeeze.flush()


def _while(measuring: Future[dict[str, Table]], chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks; what goes wrong beside them is raised at once, not after hours of dumping."""
    for chunk in chunks:
        if measuring.done():
            measuring.result()
        yield chunk


def _measure(snapshot: _Snapshot) -> dict[str, Table]:
    found = tables.ours(snapshot.connection, timescaledb=snapshot.timescaledb is not None)
    return tables.measure(snapshot.connection, found)


def _limits(program: programs.Program, snapshot: _Snapshot) -> list[str]:
    if not programs.too_new(program, snapshot.major):
        return []
    return [
        f"a way back into PostgreSQL {snapshot.major}: pg_dump {program.version} made it, so only 17 or "
        f"newer takes it. Install the package postgresql-client-{snapshot.major} and take it anew."
    ]


def _check_room(path: Path, size: int) -> None:
    free, wanted = shutil.disk_usage(path.resolve().parent).free, int(size * _EXPECTED_SHARE) + RESERVE
    if free < wanted:
        raise QuantracError(
            f"{path.resolve().parent} has {free / 1e9:.1f} GB free, the backup may need "
            f"{wanted / 1e9:.1f} GB. Make room or choose another disk."
        )
