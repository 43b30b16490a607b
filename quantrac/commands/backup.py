"""`backup` and `restore`: all of it in one file, and back; docs/how-to/backup.md."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantrac.commands.options import AsJson, Data
from quantrac.context import Context
from quantrac.progress import progress_bar
from telemetry.clock import SystemClock
from telemetry.errors import QuantracError, UsageError
from telemetry.settings import StoreSettings, load

if TYPE_CHECKING:
    from quantrac.backup.archive import Reader
    from quantrac.backup.restore import Course


def add_to(app: typer.Typer) -> None:
    panel = "State"
    app.command(rich_help_panel=panel)(backup)
    app.command(rich_help_panel=panel)(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="Where to; a new file.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Write all of it into one file while everything runs: database, broker access, settings, own codecs.

    QUANTRAC_SECRET_KEY is left out; keep it elsewhere. FILE appears when it is complete and on the disk.
    """
    from quantrac.backup.beside import collect
    from quantrac.backup.make import backup as make

    context, began = Context(data), time.monotonic()
    url = context.store().database_url
    with _interruptible(lambda: "nothing was kept"), progress_bar("backing up") as progress:
        manifest = make(
            url, file, beside=collect(context), force=force, clock=SystemClock(), progress=progress
        )
    size, seconds = file.stat().st_size, time.monotonic() - began
    _print(
        as_json,
        {
            "file": str(file),
            "bytes": size,
            "seconds": round(seconds, 1),
            "snapshot_at": manifest.snapshot_at.isoformat(),
            "rows": manifest.rows,
            "tables": {name: table.rows for name, table in manifest.tables.items()},
            "left_out": manifest.left_out,
        },
        f"{file}: {size / 1e6:.1f} MB, {manifest.rows:,} rows of {len(manifest.tables)} tables as of "
        f"{manifest.snapshot_at:%Y-%m-%d %H:%M:%S}Z, in {seconds:.0f} s",
        [f"not in it: {sentence}" for sentence in manifest.left_out],
    )


def restore(
    file: Annotated[Path, typer.Argument(help="What `quantrac backup` wrote.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only read FILE and compare it with its checksums.")
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Restore a backup into an empty database, compare every table with it, and bring the schema up to date.

    Without QUANTRAC_DATABASE_URL a new embedded database is made in the folder --data, for `quantrac up`.
    No service may run meanwhile.
    """
    from quantrac.backup.archive import reading
    from quantrac.backup.restore import Course

    context, course, began = Context(data), Course(), time.monotonic()
    with reading(file) as found, _interruptible(lambda: course.stage.value):
        with progress_bar("checking the file") as progress:
            found.check(progress)
        manifest = found.manifest
        answer: dict[str, Any] = {
            "file": str(file),
            "quantrac": manifest.quantrac,
            "schema": manifest.schema,
            "snapshot_at": manifest.snapshot_at.isoformat(),
            "rows": manifest.rows,
            "tables": {name: table.rows for name, table in manifest.tables.items()},
        }
        said = (
            f"{file}: whole; {manifest.rows:,} rows of {len(manifest.tables)} tables as of "
            f"{manifest.snapshot_at:%Y-%m-%d %H:%M:%S}Z"
        )
        if check:
            _print(as_json, answer, said, [])
            return
        notes = _restore(context, found, course)
    seconds = round(time.monotonic() - began, 1)
    _print(
        as_json,
        {**answer, "seconds": seconds, "notes": notes},
        f"restored and compared: {manifest.rows:,} rows of {len(manifest.tables)} tables as of "
        f"{manifest.snapshot_at:%Y-%m-%d %H:%M:%S}Z, in {seconds:.0f} s",
        notes,
    )


def _restore(context: Context, found: Reader, course: Course) -> list[str]:
    from quantrac.backup.embedded import empty_database
    from quantrac.backup.restore import restore as load_database

    url, folder = load(StoreSettings).database_url, context.common.data_dir
    if url and context.data is not None:
        raise UsageError("--data and QUANTRAC_DATABASE_URL name two databases: unset one of them")
    with (
        _kept_when_whole(course),
        _named(url) if url else empty_database(folder, found.manifest, course) as target,
    ):
        with progress_bar("restoring") as progress:
            load_database(target, found, progress, course)
        return _follow_up(context, found, target, embedded=not url)


def _follow_up(context: Context, found: Reader, url: str, *, embedded: bool) -> list[str]:
    """What a restored database needs besides; a sentence for each thing that is left to a person."""
    from quantrac.backup.beside import put_back, unreadable_secrets
    from quantrac.backup.restore import bring_up_to_date
    from telemetry.store.policies import apply_settings
    from telemetry.store.pool import connect

    notes = put_back(found.beside(), context.common.data_dir, embedded=embedded)
    if bring_up_to_date(url):
        with connect(url, application="quantrac restore", autocommit=True) as connection:
            notes += apply_settings(connection, load(StoreSettings))
    else:
        notes.append(
            f"run `quantrac migrate` with the role {found.manifest.owner!r} before the services start"
        )
    return notes + unreadable_secrets(url, context)


@contextmanager
def _kept_when_whole(course: Course) -> Iterator[None]:
    """An error after the comparison says that the database stays."""
    from psycopg import Error

    from quantrac.backup.restore import Stage

    try:
        yield
    except (QuantracError, Error) as error:
        if course.stage is not Stage.WHOLE:
            raise
        raise QuantracError(f"{error}\n{course.stage.value}") from error


@contextmanager
def _named(url: str) -> Iterator[str]:
    yield url


@contextmanager
def _interruptible(left: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work in order; `left` says what they leave."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise QuantracError(f"interrupted; {left()}") from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(as_json: bool, answer: dict[str, Any], sentence: str, notes: list[str]) -> None:
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=1))
        return
    typer.echo(sentence)
    for note in notes:
        typer.echo(f"  {note}")
