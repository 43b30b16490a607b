"""All codecs as the command line sees them: of this machine and, where a database is named, of the store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psycopg
import typer

from decoders.folder import read_folder
from decoders.javascript.workers import JsWorkers
from decoders.registry import Registry, Script, load_codecs
from ingest.settings import IngestSettings
from quantrac.context import Context
from telemetry.errors import NotFound, UsageError
from telemetry.settings import load
from telemetry.store.codecs import CODEC_USERS, CodecEntry, find_codec, list_codecs
from telemetry.store.pool import connect


def machine_registry() -> Registry:
    """Python codecs and those of the user's folder; what could not be loaded is told on stderr."""
    registry, folder = load_codecs(), load(IngestSettings).codecs_dir
    if folder:
        with JsWorkers() as workers:
            registry = registry.with_scripts(*read_folder(Path(folder), workers))
    _tell(registry.problems)
    return registry


def whole_registry(data: Path | None, machine: Registry) -> Registry:
    """Also what is in the store, without sources; a word on stderr where no database is named."""
    return machine.with_scripts(
        Script(entry.id, entry.version, None, entry.fresh, entry.origin) for entry in stored_codecs(data)
    )


def stored_codecs(data: Path | None) -> list[CodecEntry]:
    """The versions in the store; none where no database is named."""
    try:
        with _connect(data) as connection:
            return list_codecs(connection.cursor())
    except UsageError:
        _tell(["no database is named: codecs of the store are not looked at"])
        return []


def source_of(script: Script, data: Path | None) -> str:
    """A codec's JavaScript, from the store where it is there.

    Raises:
        NotFound: it was removed meanwhile.
    """
    if script.source is not None:
        return script.source
    with _connect(data) as connection:
        found = find_codec(connection.cursor(), script.id, script.version)
    if found is None:
        raise NotFound(f"codec {script.id}@{script.version} was removed just now")
    return found.source


def users_of(codec: str, data: Path | None) -> list[str]:
    """Device types of the store that name this codec."""
    with _connect(data) as connection:
        return [str(id_) for (id_,) in connection.execute(CODEC_USERS, {"id": codec})]


def _connect(data: Path | None) -> psycopg.Connection[tuple[object, ...]]:
    return connect(Context(data).store().database_url, application="quantrac codecs")


def _tell(problems: Iterable[str]) -> None:
    for problem in problems:
        typer.echo(f"quantrac: {problem}", err=True)
