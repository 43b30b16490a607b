"""Numbers that rows carry in place of names, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import tuple_row

from .database import Connection
from .problems import FieldProblem, invalid, invalid_fields


class MetricName(NamedTuple):
    """A metric as readers know it; `unit` in UCUM."""

    key: str
    unit: str


async def metric_names(db: Connection) -> Mapping[int, MetricName]:
    cursor = db.cursor(row_factory=tuple_row)
    rows = await (await cursor.execute("SELECT id, key, unit FROM metric ORDER BY id")).fetchall()
    return {id_: MetricName(key, unit) for id_, key, unit in rows}


def metric_ids(names: Mapping[int, MetricName], keys: Sequence[str]) -> list[int]:
    """The ids of these keys, of all metrics when none is given. Raises a 422 problem for an unknown one."""
    if not keys:
        return list(names)
    by_key = {name.key: id_ for id_, name in names.items()}
    unknown = [key for key in keys if key not in by_key]
    if unknown:
        raise invalid_fields(
            [FieldProblem(field="metric", problem=f"unknown metric {key[:60]!r}") for key in unknown]
        )
    return [by_key[key] for key in dict.fromkeys(keys)]


async def station_id(db: Connection, code: str | None) -> int | None:
    """The id behind a station code in a body. Raises a 422 problem when there is no such station."""
    return await _id(db, "station", "SELECT id FROM station WHERE code = %s", code)


async def owner_id(db: Connection, code: str | None) -> int | None:
    """The id behind an owner's code in a body; raises a 422 problem when there is no such owner."""
    return await _id(db, "owner", "SELECT id FROM owner WHERE code = %s", code)


async def facility_id(db: Connection, code: str | None) -> int | None:
    """The id behind a facility's code in a body; raises a 422 problem when there is no such facility."""
    return await _id(db, "facility", "SELECT id FROM facility WHERE code = %s", code)


async def unit_id(db: Connection, reference: str | None) -> int | None:
    """The id behind ``code`` or ``code@day`` in a body; raises a 422 problem when there is no such unit."""
    return await _id(db, "unit", "SELECT unit_id_of(%s) AS id", reference)


async def _id(db: Connection, field: str, query: LiteralString, code: str | None) -> int | None:
    if code is None:
        return None
    row = await (await db.execute(query, (code,))).fetchone()
    if row is None or row["id"] is None:
        raise invalid(field, f"there is no {field} {code!r}")
    return int(row["id"])


async def device_type_map(db: Connection, id_: str) -> list[dict[str, Any]]:
    """The entries of a device type's map; raises a 422 problem when there is no such device type."""
    row = await (await db.execute("SELECT mapping FROM device_type WHERE id = %s", (id_,))).fetchone()
    if row is None:
        raise invalid("device_type", f"there is no device type {id_!r}")
    return list(row["mapping"])
