"""The cells of one row, read as what they should be; what is wrong is gathered, with the cure."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from quantrac.tables import Row

CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Land, islands and archipelagos (Hoàng Sa, Trường Sa) with room around; a warning, never a fault.
VIETNAM = {"latitude": (6.0, 24.0), "longitude": (101.5, 118.0)}
_UNSTORABLE = "holds a sign that cannot be stored (U+0000, or half of a pair)"
_LARGEST = sys.float_info.max
_ISO_DAY = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_VIETNAMESE_DAY = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})")


@dataclass(slots=True)
class Cells:
    """`row` has no empty cells; `columns` are those of the file, of which a row may leave some empty."""

    row: Row
    columns: frozenset[str] = frozenset()
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fault(self, sentence: str) -> None:
        self.faults.append(sentence)

    def given(self, *keys: str) -> list[str]:
        """Those of the keys that the file speaks of: what is not there stays as it is."""
        return [key for key in keys if key in self.row or key in self.columns]

    def text(self, key: str, default: str = "") -> str:
        value = str(self.row.get(key, default))
        if not _storable(value):
            self.fault(f"{key}: {_UNSTORABLE}")
            return default
        return value

    def code(self, key: str) -> str:
        value = self.text(key)
        if not CODE.fullmatch(value):
            self.fault(f"{key}: {value!r}: lower-case letters, digits and '-' are needed")
        return value

    def name(self) -> str:
        if not self.row.get("name"):
            self.fault("name: missing")
        return self.text("name")

    def number(self, key: str, most: float) -> float:
        raw = self.row.get(key, "")
        try:
            value = float(raw)
        except (TypeError, ValueError):
            value = math.nan
        if not abs(value) <= most:
            hint = "; write 11.15, with a point" if "," in str(raw) else ""
            self.fault(f"{key}: {raw!r} is no number from {-most:g} to {most:g}{hint}")
        return value

    def coordinates(self) -> tuple[float, float]:
        """(latitude, longitude); told when they look swapped or lie far from Vietnam."""
        before = len(self.faults)
        latitude, longitude = self.number("latitude", 90), self.number("longitude", 180)
        if _in_vietnam(longitude, self._plain("latitude")):
            self.faults[before:] = [
                f"latitude: {self.row['latitude']!r} and longitude {longitude:g} are swapped, it seems; "
                "the latitude of a place in Vietnam lies from 6 to 24"
            ]
        elif len(self.faults) == before and not _in_vietnam(latitude, longitude):
            self.warnings.append(f"latitude: {latitude:g}, {longitude:g} lies outside Vietnam")
        return latitude, longitude

    def _plain(self, key: str) -> float:
        try:
            return float(self.row.get(key, ""))
        except (TypeError, ValueError):
            return math.nan

    def maybe_coordinates(self) -> dict[str, float | None]:
        """Both, or neither; an empty dictionary when the file has no such columns."""
        if "latitude" in self.row or "longitude" in self.row:
            latitude, longitude = self.coordinates()
            return {"latitude": latitude, "longitude": longitude}
        return dict.fromkeys(("latitude", "longitude")) if self.given("latitude", "longitude") else {}

    def json_object(self, key: str) -> dict[str, Any]:
        value = self.row.get(key, "{}")
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError) as error:
            self.fault(f"{key}: no JSON ({error})")
            return {}
        if not isinstance(value, dict):
            self.fault(f"{key}: a JSON object is needed")
            return {}
        if not all(map(_storable, _leaves(value))):
            self.fault(f"{key}: {_UNSTORABLE}")
            return {}
        return value

    def variables(self) -> dict[str, float]:
        values = self.json_object("variables")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
                self.fault(f"variables.{name}: a number is needed, got {value!r}")
        return values

    def boolean(self, key: str) -> bool:
        value = str(self.row.get(key, "false")).lower()
        if value not in ("true", "false", "t", "f", "1", "0"):
            self.fault(f"{key}: {value!r} is neither true nor false")
        return value in ("true", "t", "1")

    def day(self, key: str) -> str | None:
        """A day as `2025-07-01`; `1/7/2025`, day first, is read too."""
        raw = self.text(key)
        if not raw:
            return None
        if match := _ISO_DAY.fullmatch(raw):
            year, month, day = match.groups()
        elif match := _VIETNAMESE_DAY.fullmatch(raw):
            day, month, year = match.groups()
        else:
            self.fault(f"{key}: {raw!r} is no day; write 2025-07-01 or 01/07/2025")
            return None
        try:
            return date(int(year), int(month), int(day)).isoformat()
        except ValueError:
            self.fault(f"{key}: there is no day {raw!r}")
            return None

    def one_of(self, key: str, words: Sequence[str], others: dict[str, str]) -> str:
        """One of the words; `others` are more ways to say them, in lower case."""
        raw = self.text(key).lower()
        value = others.get(raw, raw)
        if value not in words:
            self.fault(f"{key}: {raw!r} is none of {', '.join(words)}")
        return value


def _leaves(value: Any) -> Iterator[str]:
    """Every text in it, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def _in_vietnam(latitude: float, longitude: float) -> bool:
    (south, north), (west, east) = VIETNAM["latitude"], VIETNAM["longitude"]
    return south <= latitude <= north and west <= longitude <= east
