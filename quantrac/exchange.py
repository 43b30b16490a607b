"""Tables out of the store, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, LiteralString, TextIO

import psycopg
from psycopg.sql import SQL

from quantrac.tables import guarded
from telemetry.store.imports import DEVICES, FACILITIES, GATEWAYS, OWNERS, STATIONS, UNITS

# What files hold is told in one place, the projections: what is exported is what an import compares with.
_IMPORTED: dict[str, tuple[LiteralString, LiteralString, LiteralString]] = {
    "stations": (
        STATIONS.projection,
        "code text, name text, name_en text, kind text, river text, basin text, admin_unit text, source text,"
        " certainty text, latitude float8, longitude float8, thresholds text, quality text,"
        " simulated boolean, unit text, owner text, facility text",
        "ORDER BY code",
    ),
    "devices": (
        f"{DEVICES.projection} WHERE d.status = 'active'",
        "dev_eui text, name text, device_type text, station text, variables text, firmware text,"
        " simulated boolean",
        "ORDER BY dev_eui",
    ),
    "gateways": (
        GATEWAYS.projection,
        "gateway_id text, name text, network text, place text, owner text, latitude float8,"
        " longitude float8, altitude float8, note text",
        "ORDER BY gateway_id",
    ),
    "owners": (
        OWNERS.projection,
        "code text, name text, name_en text, kind text, address text, contact text, note text",
        "ORDER BY code",
    ),
    "facilities": (
        FACILITIES.projection,
        "code text, name text, name_en text, kind text, sector text, address text, owner text, unit text,"
        " latitude float8, longitude float8, permit text, permit_from date, permit_to date, note text",
        "ORDER BY code",
    ),
    "units": (
        UNITS.projection,
        "code text, name text, name_en text, level text, parent text, valid_from date, valid_to date,"
        " successors text[], source text, certainty text",
        "ORDER BY code, valid_from NULLS FIRST",
    ),
}
_OTHERS: dict[str, LiteralString] = {
    "placements": """
        SELECT d.dev_eui, s.code AS station, p.valid_from, p.valid_to
        FROM device_station_period p JOIN device d ON d.id = p.device_id JOIN station s ON s.id = p.station_id
        ORDER BY d.dev_eui, p.valid_from NULLS FIRST""",
    "alerts": """
        SELECT a.id, a.rule_id, s.code AS station, d.dev_eui, m.key AS metric, a.state, a.level, a.peak_level,
               a.label, a.value, a.opened_at, a.ended_at, a.acked_at, a.acked_by, a.simulated
        FROM alert a
        JOIN device d ON d.id = a.device_id
        JOIN metric m ON m.id = a.metric_id
        LEFT JOIN station s ON s.id = a.station_id
        ORDER BY a.opened_at, a.id""",
}


def export_csv(connection: psycopg.Connection[Any], what: str, out: TextIO) -> None:
    """One of the tables as CSV with a header, UTF-8, row by row; an import takes it back as it was."""
    if what in _IMPORTED:
        projection, columns, order = _IMPORTED[what]
        query = SQL("SELECT d.* FROM ({}) p CROSS JOIN LATERAL jsonb_to_record(p.data) AS d ({}) {}").format(
            SQL(projection), SQL(columns), SQL(order)
        )
    else:
        query = SQL("{}").format(SQL(_OTHERS[what]))
    with connection.cursor(name="export") as cursor:
        cursor.execute(query)
        first = cursor.fetchone()
        writer = csv.writer(out)
        writer.writerow([column.name for column in cursor.description or ()])
        if first is not None:
            writer.writerow(_shown(first))
        for row in cursor:
            writer.writerow(_shown(row))


def _shown(row: Iterable[Any]) -> list[Any]:
    return [_cell(value) for value in row]


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, str):
        return guarded(value)
    return value.isoformat() if hasattr(value, "isoformat") else value
