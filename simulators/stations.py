"""Measuring stations as editable data: where they are, which levels hold there, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from telemetry.catalogue import CATALOGUE

from .causes import did_you_mean
from .yamlfile import Document, Loc, Model

BUILTIN_FILE = Path(__file__).with_name("stations.yaml")
Certainty = Literal["high", "medium-high", "medium", "medium-low", "low"]


@dataclass(frozen=True, slots=True)
class Station:
    """A station as the registry keeps it.

    `thresholds` is ``{metric: [{"level", "label", "value", "source", "certainty"}, …]}``, levels rising.
    `source` and `certainty` are those of the coordinates.
    """

    code: str
    name: str
    name_en: str
    kind: str
    river: str
    basin: str
    admin_unit: str
    latitude: float
    longitude: float
    thresholds: dict[str, list[dict[str, Any]]]
    source: str
    certainty: str
    simulated: bool = False

    def as_simulated(self) -> Station:
        """The same place, marked as fed by a simulation."""
        return replace(self, simulated=True)


class _Position(Model):
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    certainty: Certainty
    source: str = Field(min_length=1)


class _Level(Model):
    level: int = Field(ge=1, le=5)
    label: str = Field(min_length=1)
    value: float
    certainty: Certainty
    source: str = Field(min_length=1)


class _Entry(Model):
    code: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    name: str = Field(min_length=1)
    name_en: str = Field(min_length=1)
    kind: Literal["river", "reservoir", "rain", "air", "other"]
    river: str = ""
    basin: str = ""
    admin_unit: str
    position: _Position
    levels: dict[str, list[_Level]] = Field(default_factory=dict)


class _File(Model):
    stations: list[_Entry]


def load_stations(path: Path | None = None) -> dict[str, Station]:
    """The stations of a file (the built-in one by default), by code.

    Raises:
        UsageError: one ``file:line: path: cause`` line for each fault.
    """
    document = Document(path or BUILTIN_FILE)
    entries = document.parse(_File).stations
    document.refuse(_faults(entries))
    return {entry.code: _station(entry) for entry in entries}


def _faults(entries: list[_Entry]) -> list[tuple[Loc, str]]:
    found: list[tuple[Loc, str]] = []
    codes: set[str] = set()
    for i, entry in enumerate(entries):
        if entry.code in codes:
            found.append((("stations", i, "code"), f"{entry.code!r} is listed twice"))
        codes.add(entry.code)
        for metric, levels in entry.levels.items():
            loc = ("stations", i, "levels", metric)
            if metric not in CATALOGUE:
                found.append((loc, f"is no metric of the catalogue{did_you_mean(metric, CATALOGUE)}"))
            if len({level.level for level in levels}) < len(levels):
                found.append((loc, "a level is listed twice"))
            ordered = sorted(levels, key=lambda level: level.level)
            if any(a.value >= b.value for a, b in pairwise(ordered)):
                found.append((loc, "a higher level must have a higher value"))
    return found


def _station(entry: _Entry) -> Station:
    return Station(
        code=entry.code,
        name=entry.name,
        name_en=entry.name_en,
        kind=entry.kind,
        river=entry.river,
        basin=entry.basin,
        admin_unit=entry.admin_unit,
        latitude=entry.position.latitude,
        longitude=entry.position.longitude,
        thresholds={
            metric: [level.model_dump() for level in sorted(levels, key=lambda level: level.level)]
            for metric, levels in entry.levels.items()
        },
        source=entry.position.source,
        certainty=entry.position.certainty,
    )
