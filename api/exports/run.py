"""A selection of a database into a file."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psycopg

from .evidence import TransitionSource
from .files import Tell, write_export
from .known import refuse_unknown
from .selection import Selection
from .series import SeriesSource
from .table import Source


def export(
    connection: psycopg.Connection[Any], selection: Selection, file: Path, *, resume: bool, tell: Tell
) -> int:
    """Write what `selection`, which has an end, holds; returns the rows. `connection` commits by itself.

    Raises `UsageError` for a device, a station or a metric that nobody knows.
    See `api.exports.files.write_export` for what is there while it runs, and for what else it raises.
    """
    refuse_unknown(connection, selection)
    source: Source = (
        TransitionSource(connection, selection)
        if selection.what == "transitions"
        else SeriesSource(connection, selection)
    )
    try:
        program = version("quantrac")
    except PackageNotFoundError:
        program = "0"
    return write_export(source, selection, file, version=program, resume=resume, tell=tell)
