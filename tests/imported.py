"""Files of master data as an import reads them, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantrac.imports.kinds import KINDS
from quantrac.imports.run import check_file
from telemetry.errors import UsageError


def read_rows(file: Path, what: str) -> list[dict[str, Any]]:
    """The rows; raises `UsageError` with a line for each fault, as the command tells it."""
    checked = list(check_file(file, KINDS[what]))
    if faults := [f"{file}, {row.place}: {fault}" for row in checked for fault in row.faults]:
        raise UsageError("\n".join(faults))
    return [row.data for row in checked if row.data is not None]
