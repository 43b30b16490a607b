"""One import: read, compare, write, report; the transaction is kept only when every row is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from quantrac.tables import Place, Row, read_table
from telemetry.errors import UsageError
from telemetry.store.imports import Incoming, Staging

from .cells import Cells
from .kinds import Kind
from .known import Known

OUTCOMES = ("created", "changed", "unchanged", "refused")


@dataclass(frozen=True)
class Checked:
    """A row of a file as it was read; `data` is None when it has faults."""

    place: Place
    data: Row | None
    faults: list[str]
    warnings: list[str]


def check_file(file: Path, kind: Kind, known: Known | None = None) -> Iterator[Checked]:
    """The rows of a file, one at a time; without `known` what only the database can tell is not looked at.

    Raises:
        UsageError: the file cannot be read as a whole.
    """
    table = read_table(file, kind.columns, kind.aliases)
    for place, row in table.rows:
        if isinstance(row, UsageError):
            yield Checked(place, None, [str(row)], [])
            continue
        cells = Cells(row, table.columns)
        data = kind.check(cells, known)
        yield Checked(place, None if cells.faults else data, cells.faults, cells.warnings)


@dataclass(frozen=True)
class Import:
    """An import under way: compared and written, neither kept nor given up."""

    kind: Kind
    staging: Staging
    counts: dict[str, int]

    @property
    def refused(self) -> bool:
        return self.counts["refused"] > 0

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


def begin_import(connection: psycopg.Connection[Any], file: Path, kind: Kind) -> Import:
    """Read the file and write it; the caller reports, and commits when nothing was refused.

    Raises:
        UsageError: the file cannot be read as a whole.
    """
    known = Known.read(connection.cursor())
    staging = Staging(connection, kind.target)
    staging.load(_incoming(check_file(file, kind, known), kind))
    staging.write()
    return Import(kind, staging, Counter({name: staging.count(name) for name in OUTCOMES}))


def _incoming(rows: Iterator[Checked], kind: Kind) -> Iterator[Incoming]:
    for row in rows:
        key = None
        if row.data is not None:
            key = row.data[kind.target.key]
            if kind.name == "units":
                key = f"{key}|{row.data['valid_from'] or ''}"
        yield Incoming(row.place.number, row.place.line, key, row.data, row.faults, row.warnings)
