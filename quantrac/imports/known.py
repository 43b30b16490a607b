"""What a file may refer to, read once: codes of the store, and the maps of device types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import psycopg

_SUGGESTED = 50  # faults that get a "did you mean": looking for one takes a while


class UnitSpan(NamedTuple):
    """Days on which a code named one unit; the last one is not included."""

    valid_from: date | None
    valid_to: date | None
    successors: list[str]

    def holds(self, day: date) -> bool:
        return (self.valid_from is None or self.valid_from <= day) and (
            self.valid_to is None or day < self.valid_to
        )


@dataclass(slots=True)
class Known:
    """References that hold; `mappings` are those of device types by id, `units` their spans by code,
    `checks` the quality tests of stations that have some, as JSON by code."""

    today: date
    stations: set[str] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)
    facilities: set[str] = field(default_factory=set)
    units: dict[str, list[UnitSpan]] = field(default_factory=dict)
    mappings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    _told: int = 0

    @classmethod
    def read(cls, cursor: psycopg.Cursor[Any]) -> Known:
        today = cursor.execute("SELECT vietnam_day(now())").fetchone()
        assert today is not None
        units: dict[str, list[UnitSpan]] = {}
        for code, *span in cursor.execute("SELECT code, valid_from, valid_to, successors FROM admin_unit"):
            units.setdefault(code, []).append(UnitSpan(*span))
        return cls(
            today=today[0],
            stations=_codes(cursor, "SELECT code FROM station"),
            owners=_codes(cursor, "SELECT code FROM owner"),
            facilities=_codes(cursor, "SELECT code FROM facility"),
            units=units,
            checks=dict(
                cursor.execute("SELECT code, quality::text FROM station WHERE quality <> '{}'").fetchall()
            ),
            mappings=dict(cursor.execute("SELECT id, mapping FROM device_type").fetchall()),
        )

    def near(self, word: str, known: Iterable[str]) -> str:
        """Words that were perhaps meant."""
        self._told += 1
        near = difflib.get_close_matches(word, known, n=3) if self._told <= _SUGGESTED else []
        return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""

    def unit(self, reference: str) -> tuple[str, str | None]:
        """The reference as the store takes it and what is wrong with it, if anything.

        `75` is the unit of today, `24@2025-06-30` the one of that day; a spreadsheet takes the leading
        zeros away, so `1` is `01`.
        """
        code, _, day = reference.partition("@")
        try:
            at = date.fromisoformat(day) if day else self.today
        except ValueError:
            return reference, f"{reference!r}: write a day as 24@2025-06-30"
        if code not in self.units and code.isdigit():
            code = next((padded for n in (2, 3, 5) if (padded := code.zfill(n)) in self.units), code)
        spans = self.units.get(code)
        if spans is None:
            near = self.near(code, self.units)
            return reference, f"there is no {code!r}{near}; import the units first"
        if not any(span.holds(at) for span in spans):
            return reference, _no_more(code, at, spans)
        return f"{code}@{day}" if day else code, None


def _no_more(code: str, at: date, spans: list[UnitSpan]) -> str:
    last = max(spans, key=lambda span: span.valid_to or date.max)
    if last.valid_to is None or last.valid_to > at:
        return f"{code!r} is no unit on {at}"
    heirs = f"; its successor is {' or '.join(last.successors)}" if last.successors else ""
    return f"{code!r} ended on {last.valid_to}{heirs}"


def _codes(cursor: psycopg.Cursor[Any], query: str) -> set[str]:
    return {row[0] for row in cursor.execute(query)}
