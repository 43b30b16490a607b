"""Files of master data: CSV and GeoJSON in, CSV out."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

import psycopg

from alerting.rules import ladder_faults, shown_steps
from telemetry.catalogue import CATALOGUE
from telemetry.checks import parse_station_checks
from telemetry.errors import UsageError

from .tables import Place, Row, read_csv, read_geojson

_STATION_TEXTS = ("name_en", "kind", "river", "basin", "admin_unit", "source", "certainty")
_STATION_COLUMNS = (
    "code",
    "name",
    *_STATION_TEXTS,
    "latitude",
    "longitude",
    "thresholds",
    "quality",
    "simulated",
)
_DEVICE_COLUMNS = ("dev_eui", "name", "device_type", "station", "variables", "firmware", "simulated")
_LARGEST = sys.float_info.max
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

EXPORTS = {
    "stations": """
        SELECT code, name, name_en, kind, river, basin, admin_unit, source, certainty, latitude, longitude,
               thresholds::text AS thresholds, quality::text AS quality, simulated
        FROM station ORDER BY code""",
    "devices": """
        SELECT d.dev_eui, d.name, d.device_type, s.code AS station,
               d.variables::text AS variables, d.firmware, d.simulated
        FROM device d LEFT JOIN station s ON s.id = d.station_id
        WHERE d.status = 'active' ORDER BY d.dev_eui""",
    "alerts": """
        SELECT a.id, a.rule_id, s.code AS station, d.dev_eui, m.key AS metric, a.state, a.level, a.peak_level,
               a.label, a.value, a.opened_at, a.ended_at, a.acked_at, a.acked_by, a.simulated
        FROM alert a
        JOIN device d ON d.id = a.device_id
        JOIN metric m ON m.id = a.metric_id
        LEFT JOIN station s ON s.id = a.station_id
        ORDER BY a.opened_at, a.id""",
}


def read_stations(file: Path) -> list[Row]:
    """Stations of a CSV (columns as `export stations` writes them) or of a GeoJSON of points.

    Raises:
        UsageError: one line for each fault, beginning with file and row.
    """
    geojson = file.suffix.lower() in (".geojson", ".json")
    rows = read_geojson(file) if geojson else read_csv(file, _STATION_COLUMNS)
    return _each(file, rows, _station, "code")


def read_devices(file: Path) -> list[Row]:
    """Devices of a CSV: dev_eui, device_type; if wanted name, station, variables (JSON), firmware, simulated.

    Raises:
        UsageError: one line for each fault, beginning with file and row.
    """
    return [row for _, row in read_placed_devices(file)]


def read_placed_devices(file: Path) -> list[tuple[Place, Row]]:
    """As `read_devices`, each with where it stands: what only the database knows is wrong has a place too."""
    return _placed(file, read_csv(file, _DEVICE_COLUMNS), _device, "dev_eui")


def falling_ladders(stations: Iterable[Row]) -> list[str]:
    """A sentence for each station and metric whose thresholds fall: right for low water, a slip otherwise."""
    return [
        f"{station['code']}: thresholds.{metric} fall ({shown_steps(levels)}); "
        "only rules with `direction: below` use them"
        for station in stations
        for metric, levels in station["thresholds"].items()
        if len(levels) > 1 and ladder_faults(levels, ("above",))
    ]


def export_csv(connection: psycopg.Connection[Any], what: str, out: TextIO) -> None:
    """One of `EXPORTS` as CSV with a header, UTF-8, row by row."""
    with connection.cursor(name="export") as cursor:
        cursor.execute(EXPORTS[what])
        first = cursor.fetchone()
        writer = csv.writer(out)
        writer.writerow([column.name for column in cursor.description or ()])
        if first is not None:
            writer.writerow(_shown(first))
        for row in cursor:
            writer.writerow(_shown(row))


def _shown(row: Iterable[Any]) -> list[Any]:
    return [v.isoformat() if hasattr(v, "isoformat") else v for v in row]


def _each(
    file: Path, rows: Iterable[tuple[Place, Row | UsageError]], check: Callable[[Row], Row], key: str
) -> list[Row]:
    return [row for _, row in _placed(file, rows, check, key)]


def _placed(
    file: Path, rows: Iterable[tuple[Place, Row | UsageError]], check: Callable[[Row], Row], key: str
) -> list[tuple[Place, Row]]:
    checked: list[tuple[Place, Row]] = []
    faults: list[str] = []
    seen: set[str] = set()
    for place, row in rows:
        try:
            if isinstance(row, UsageError):
                raise row
            made = check(row)
        except UsageError as error:
            faults += [f"{file}, {place}: {line}" for line in str(error).splitlines()]
            continue
        if made[key] in seen:
            faults.append(f"{file}, {place}: {key}: {made[key]!r} is there twice")
        seen.add(made[key])
        checked.append((f"{file}, {place}", made))
    if faults:
        raise UsageError("\n".join(faults))
    return checked


def _station(row: Row) -> Row:
    faults: list[str] = []
    code = str(row.get("code", ""))
    if not _CODE.fullmatch(code):
        faults.append(f"code: {code!r}: lower-case letters, digits and '-' are needed")
    if not row.get("name"):
        faults.append("name: missing")
    thresholds, quality = _json(row, "thresholds", faults), _json(row, "quality", faults)
    made = {
        "code": code,
        "name": row.get("name"),
        **{key: str(row.get(key, "other" if key == "kind" else "")) for key in _STATION_TEXTS},
        "latitude": _number(row, "latitude", 90, faults),
        "longitude": _number(row, "longitude", 180, faults),
        "thresholds": thresholds,
        "quality": quality,
        "simulated": _bool(row, faults),
    }
    try:
        parse_station_checks(quality, CATALOGUE)
    except UsageError as error:
        faults += [f"quality.{line}" for line in str(error).splitlines()]
    for metric, levels in thresholds.items():
        if metric not in CATALOGUE:
            faults.append(f"thresholds.{metric}: unknown metric")
            continue
        if not isinstance(levels, list):
            faults.append(f"thresholds.{metric}: a list of {{level, label, value}} is needed, got {levels!r}")
            continue
        faults += [f"thresholds.{metric}{line}" for line in ladder_faults(levels)]
    if faults:
        raise UsageError("\n".join(faults))
    return made


def _device(row: Row) -> Row:
    faults: list[str] = []
    eui = str(row.get("dev_eui", "")).lower().replace(":", "").replace("-", "")
    if not re.fullmatch("[0-9a-f]{16}", eui):
        faults.append(f"dev_eui: {row.get('dev_eui', '')!r} is no 64-bit identifier in hex")
    if not row.get("device_type"):
        faults.append("device_type: missing; GET /api/v1/device-types lists them")
    variables = _json(row, "variables", faults)
    for name, value in variables.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            faults.append(f"variables.{name}: a number is needed, got {value!r}")
    made = {
        "dev_eui": eui,
        "name": row.get("name", ""),
        "device_type": row.get("device_type"),
        "station": row.get("station"),
        "variables": variables,
        "firmware": str(row.get("firmware") or "").strip() or None,
        "simulated": _bool(row, faults),
    }
    if faults:
        raise UsageError("\n".join(faults))
    return made


def _number(row: Row, key: str, most: float, faults: list[str]) -> float:
    try:
        value = float(row.get(key, ""))
    except (TypeError, ValueError):
        value = math.nan
    if not abs(value) <= most:
        hint = "; write 11.15, with a point" if "," in str(row.get(key, "")) else ""
        faults.append(f"{key}: {row.get(key, '')!r} is no number from {-most:g} to {most:g}{hint}")
    return value


def _json(row: Row, key: str, faults: list[str]) -> dict[str, Any]:
    value = row.get(key, "{}")
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        faults.append(f"{key}: no JSON ({error})")
        return {}
    if not isinstance(value, dict):
        faults.append(f"{key}: a JSON object is needed")
        return {}
    return value


def _bool(row: Row, faults: list[str]) -> bool:
    value = str(row.get("simulated", "false")).lower()
    if value not in ("true", "false", "t", "f", "1", "0"):
        faults.append(f"simulated: {value!r} is neither true nor false")
    return value in ("true", "t", "1")
