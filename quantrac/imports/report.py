"""What became of each row of a file, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from quantrac.tables import Place
from telemetry.store.imports import Outcome

from .run import OUTCOMES, Import

MOST_LINES = 200
"""Rows told one by one; a program reads all of them with --json."""


def write_json(done: Import, file: Path, *, kept: bool, out: TextIO) -> None:
    """One object; its `rows` come one a line, in the order of the file."""
    head = {"file": str(file), "kind": done.kind.name, "kept": kept, "counts": done.counts}
    out.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "rows": [')
    separator = "\n"
    for row in done.staging.report():
        out.write(separator + json.dumps(_plain(row), ensure_ascii=False))
        separator = ",\n"
    out.write("\n]}\n")


def _plain(row: Outcome) -> dict[str, object]:
    return {**row._asdict(), "key": row.key and row.key.partition("|")[0]}


def fault_lines(done: Import, file: Path) -> list[str]:
    """A line for each fault, with its row."""
    lines: list[str] = []
    for row in done.staging.report("outcome = 'refused'"):
        lines += [f"{file}, {_place(row)}: {line}" for fault in row.faults for line in fault.splitlines()]
        if len(lines) >= MOST_LINES:
            refused = done.counts["refused"]
            return [*lines[:MOST_LINES], f"{file}: {refused} rows are refused; --json tells all"]
    return lines


def warning_lines(done: Import, file: Path) -> list[str]:
    lines: list[str] = []
    for row in done.staging.report("warnings <> '{}'"):
        lines += [f"{file}, {_place(row)}: {warning}" for warning in row.warnings]
        if len(lines) >= MOST_LINES:
            return [*lines[:MOST_LINES], f"{file}: and more of these; --json tells all"]
    return lines


def row_lines(done: Import) -> list[str]:
    """Row by row, what would be created or changed; then how many of each."""
    lines: list[str] = []
    for row in done.staging.report("outcome IN ('created', 'changed')"):
        if len(lines) == MOST_LINES:
            lines.append("…")
            break
        key = (row.key or "").partition("|")[0]
        changes = f": {', '.join(row.changes)}" if row.changes else ""
        lines.append(f"{_place(row)}: {row.outcome} {key}{changes}")
    return [*lines, ", ".join(f"{done.counts[name]} {name}" for name in OUTCOMES)]


def _place(row: Outcome) -> Place:
    return Place(row.row, row.line)
