"""Files of master data: CSV and GeoJSON in, CSV out."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

import psycopg

from alerting.rules import ladder_of
from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError

Row = dict[str, Any]
_STATION_TEXTS = ("name_en", "kind", "river", "basin", "admin_unit", "source", "certainty")
_STATION_COLUMNS = ("code", "name", *_STATION_TEXTS, "latitude", "longitude", "thresholds", "simulated")
_DEVICE_COLUMNS = ("dev_eui", "name", "device_type", "station", "variables", "simulated")
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

EXPORTS = {
    "stations": """
        SELECT code, name, name_en, kind, river, basin, admin_unit, source, certainty, latitude, longitude,
               thresholds::text AS thresholds, simulated
        FROM station ORDER BY code""",
    "devices": """
        SELECT d.dev_eui, d.name, d.device_type, s.code AS station,
               d.variables::text AS variables, d.simulated
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
    rows = _geojson(file) if file.suffix.lower() in (".geojson", ".json") else _csv(file, _STATION_COLUMNS)
    return _each(file, rows, _station, "code")


def read_devices(file: Path) -> list[Row]:
    """Devices of a CSV with dev_eui, device_type and, if wanted, name, station, variables (JSON), simulated.

    Raises:
        UsageError: one line for each fault, beginning with file and row.
    """
    return _each(file, _csv(file, _DEVICE_COLUMNS), _device, "dev_eui")


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


def _each(file: Path, rows: list[Row], check: Callable[[Row], Row], key: str) -> list[Row]:
    checked, faults, seen = [], [], set()
    for number, row in enumerate(rows, 2):
        try:
            made = check(row)
        except UsageError as error:
            faults += [f"{file}, row {number}: {line}" for line in str(error).splitlines()]
            continue
        if made[key] in seen:
            faults.append(f"{file}, row {number}: {key}: {made[key]!r} is there twice")
        seen.add(made[key])
        checked.append(made)
    if faults:
        raise UsageError("\n".join(faults))
    return checked


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}; save it as UTF-8") from None


def _csv(file: Path, columns: tuple[str, ...]) -> list[Row]:
    reader = csv.DictReader(io.StringIO(_text(file)))
    unknown = set(reader.fieldnames or ()) - set(columns)
    if not reader.fieldnames or unknown:
        raise UsageError(
            f"{file}: columns are {', '.join(columns)}; got {', '.join(reader.fieldnames or ['none'])}"
        )
    return [{key: value for key, value in row.items() if key and value} for row in reader]


def _geojson(file: Path) -> list[Row]:
    try:
        features = json.loads(_text(file))["features"]
        rows = []
        for feature in features:
            longitude, latitude = feature["geometry"]["coordinates"][:2]
            rows.append({**feature["properties"], "longitude": longitude, "latitude": latitude})
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: no GeoJSON FeatureCollection of points ({error})") from None
    return rows


def _station(row: Row) -> Row:
    faults: list[str] = []
    code = str(row.get("code", ""))
    if not _CODE.fullmatch(code):
        faults.append(f"code: {code!r}: lower-case letters, digits and '-' are needed")
    if not row.get("name"):
        faults.append("name: missing")
    thresholds = _json(row, "thresholds", faults)
    made = {
        "code": code,
        "name": row.get("name"),
        **{key: str(row.get(key, "other" if key == "kind" else "")) for key in _STATION_TEXTS},
        "latitude": _number(row, "latitude", 90, faults),
        "longitude": _number(row, "longitude", 180, faults),
        "thresholds": thresholds,
        "simulated": _bool(row, faults),
    }
    for metric, levels in thresholds.items():
        if metric not in CATALOGUE:
            faults.append(f"thresholds.{metric}: unknown metric")
            continue
        try:
            ladder_of(
                levels, "below" if len(levels) > 1 and levels[0]["value"] > levels[-1]["value"] else "above"
            )
        except (UsageError, TypeError, KeyError) as error:
            faults.append(f"thresholds.{metric}{error}")
    if faults:
        raise UsageError("\n".join(faults))
    return made


def _device(row: Row) -> Row:
    faults: list[str] = []
    eui = str(row.get("dev_eui", "")).lower().replace(":", "").replace("-", "")
    if not re.fullmatch("[0-9a-f]{16}", eui):
        faults.append(f"dev_eui: {row.get('dev_eui', '')!r} is no 64-bit identifier in hex")
    if not row.get("device_type"):
        faults.append("device_type: missing; see `quantrac codecs list`")
    variables = _json(row, "variables", faults)
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in variables.values()):
        faults.append("variables: every value must be a number")
    made = {
        "dev_eui": eui,
        "name": row.get("name", ""),
        "device_type": row.get("device_type"),
        "station": row.get("station"),
        "variables": variables,
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
        faults.append(f"{key}: {row.get(key, '')!r} is no number from {-most:g} to {most:g}")
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
