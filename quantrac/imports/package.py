"""The list of units of the package `vietnam-provinces`, where its user installed it.

The package is under the GPL 3.0 or later, so Quantrac neither depends on it nor ships what is in it, and
none of its code runs here: its data file is read as any other file of the user's
(docs/decisions/0011-master-data.md).
"""

from __future__ import annotations

import csv
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from telemetry.errors import UsageError

PACKAGE = "vietnam-provinces"
_FILE = "nested-divisions.json"
REFORM = "2025-07-01"


def installed_file() -> tuple[Path, str]:
    """Its data file, and the version of the package.

    Raises:
        UsageError: it is not installed, or has no such file.
    """
    try:
        found = distribution(PACKAGE)
    except PackageNotFoundError:
        raise UsageError(
            f"{PACKAGE} is not installed here; install it beside Quantrac (its licence is the GPL), "
            "or import a CSV: docs/how-to/master-data.md"
        ) from None
    for file in found.files or ():
        if file.name == _FILE:
            return Path(str(found.locate_file(file))), found.version
    raise UsageError(f"{PACKAGE} {found.version} has no {_FILE}; import a CSV: docs/how-to/master-data.md")


def write_communes(source: Path, version: str, out: Path) -> int:
    """Its communes as a file that `units import` takes; returns how many.

    Provinces are left to what Quantrac knows itself, successors included.

    Raises:
        UsageError: the file is not what the package had since its version 2025.7.
    """
    try:
        provinces: list[dict[str, Any]] = json.loads(source.read_text(encoding="utf-8"))
        rows = [
            (f"{ward['code']:05d}", ward["name"], f"{province['code']:02d}")
            for province in provinces
            for ward in province["wards"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{source}: is no list of provinces with their wards, as since July 2025; take a newer {PACKAGE}"
        ) from None
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("code", "name", "level", "parent", "valid_from", "source", "certainty"))
        told = f"{PACKAGE} {version}"
        writer.writerows(
            (code, name, "commune", parent, REFORM, told, "medium") for code, name, parent in rows
        )
    return len(rows)
