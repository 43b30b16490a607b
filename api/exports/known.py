"""Names in a selection that nobody knows: an export of them would be empty and look like an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.rows import tuple_row

from telemetry.errors import UsageError

from .selection import Selection

UNKNOWN: dict[str, LiteralString] = {
    "devices": "SELECT name FROM unnest(%s::text[]) AS name WHERE name NOT IN (SELECT dev_eui FROM device)",
    "stations": "SELECT name FROM unnest(%s::text[]) AS name WHERE name NOT IN (SELECT code FROM station)",
}
"""By field of a selection: which of these DevEUIs or codes there are not."""
_SHOWN = 5


def refuse_unknown(connection: psycopg.Connection[Any], selection: Selection) -> None:
    """Raises `UsageError` for devices and stations that there are not."""
    asked: dict[str, Sequence[str]] = {"devices": selection.devices, "stations": selection.stations}
    for field, names in asked.items():
        with connection.cursor(row_factory=tuple_row) as cursor:
            unknown = [name for (name,) in cursor.execute(UNKNOWN[field], (list(names),))] if names else []
        if unknown:
            raise UsageError(f"{field}: {problem(field, unknown)}")


def problem(field: str, unknown: Sequence[str]) -> str:
    """The sentence that names them, the first few of many."""
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return f"unknown {field.removesuffix('s')} {', '.join(map(repr, unknown[:_SHOWN]))}{more}"
