"""Imports of master data, set by set: rows go into a table of the transaction, are compared, are written.

Each kind has one projection, ``(key, data)``: what a row of it looks like in a file. Comparing with it tells
what would change, and exporting it gives a file that changes nothing when it is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL
from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class Target:
    """`upsert` takes the rows of table ``incoming`` to write, whose `data` is complete. `unfit` finds those
    that cannot be written, `faults` what is wrong once they are: ``(row, problem)``; `remarkable` those that
    change more than they say.
    """

    name: str
    key: LiteralString
    projection: LiteralString
    upsert: LiteralString
    then: LiteralString | None = None
    unfit: LiteralString | None = None
    faults: LiteralString | None = None
    remarkable: LiteralString | None = None


class Incoming(NamedTuple):
    """A row of a file: the first is 1. `data` is what the file says of it; None where there are faults."""

    row: int
    line: int | None
    key: str | None
    data: dict[str, Any] | None
    faults: list[str]
    warnings: list[str]


class Outcome(NamedTuple):
    """What became of a row, or would: `changes` are the columns that differ from what is stored."""

    row: int
    line: int | None
    key: str | None
    outcome: str
    changes: list[str]
    faults: list[str]
    warnings: list[str]


_STAGE = """
    CREATE TEMPORARY TABLE incoming (
        row integer NOT NULL, line integer, key text, data jsonb, faults text[] NOT NULL,
        warnings text[] NOT NULL, outcome text NOT NULL DEFAULT 'refused',
        changes text[] NOT NULL DEFAULT '{}'
    ) ON COMMIT DROP
"""
_TWICE = """
    UPDATE incoming i SET faults = faults || format('%%s: ''%%s'' is there twice, first in row %%s',
                                                    %(key)s::text, split_part(i.key, '|', 1), f.row)
    FROM (SELECT key, min(row) AS row FROM incoming WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1) f
    WHERE i.key = f.key AND i.row > f.row
"""
_COMPARE = """
    UPDATE incoming i SET
        outcome = CASE WHEN c.key IS NULL THEN 'created' WHEN d.changes = '{{}}' THEN 'unchanged'
                       ELSE 'changed' END,
        changes = CASE WHEN c.key IS NULL THEN '{{}}' ELSE d.changes END,
        data = coalesce(c.data, '{{}}') || i.data
    FROM incoming n
    LEFT JOIN ({projection}) c ON c.key = n.key
    CROSS JOIN LATERAL (SELECT coalesce(array_agg(e.key ORDER BY e.key), '{{}}') AS changes
                        FROM jsonb_each(n.data) e WHERE e.value IS DISTINCT FROM c.data -> e.key) d
    WHERE n.row = i.row AND i.faults = '{{}}'
"""
_NOTE = """
    UPDATE incoming i SET faults = f.faults
    FROM (SELECT row, array_agg(problem ORDER BY problem) AS faults FROM ({found}) found GROUP BY row) f
    WHERE f.row = i.row
"""
_REMARK = """
    UPDATE incoming i SET warnings = i.warnings || f.problem
    FROM ({found}) f WHERE f.row = i.row
"""
_REPORT = """
    SELECT row, line, key, CASE WHEN faults = '{}' THEN outcome ELSE 'refused' END AS outcome,
           changes, faults, warnings
    FROM incoming
"""


class Staging:
    """The rows of one import in a transaction of the caller's, who commits it or rolls it back."""

    def __init__(self, connection: psycopg.Connection[Any], target: Target) -> None:
        self._connection = connection
        self._target = target
        connection.execute(_STAGE)

    def load(self, rows: Iterable[Incoming]) -> None:
        """Take the rows in and compare them with what is stored."""
        copy_in = "COPY incoming (row, line, key, data, faults, warnings) FROM STDIN"
        with self._connection.cursor().copy(copy_in) as copy:
            for row in rows:
                copy.write_row(row._replace(data=None if row.data is None else Jsonb(row.data)))  # type: ignore[arg-type]
        self._connection.execute("CREATE INDEX ON incoming (row)")
        self._connection.execute("ANALYZE incoming")
        self._connection.execute(_TWICE, {"key": self._target.key})
        self._connection.execute(SQL(_COMPARE).format(projection=SQL(self._target.projection)))
        self._note(self._target.unfit)
        if self._target.remarkable:
            self._connection.execute(SQL(_REMARK).format(found=SQL(self._target.remarkable)))

    def write(self) -> None:
        """Write what is new or differs; faults that show only then are noted with their rows.

        A row whose content the database refuses is a fault of the program: `check` lets none through.
        """
        if self.count("refused"):
            return
        self._connection.execute("SET CONSTRAINTS ALL DEFERRED")
        self._connection.execute(self._target.upsert)
        if self._target.then:
            self._connection.execute(self._target.then)
        self._note(self._target.faults)

    def _note(self, found: LiteralString | None) -> None:
        if found:
            self._connection.execute(SQL(_NOTE).format(found=SQL(found)))

    def count(self, outcome: str) -> int:
        row = self._connection.execute(
            SQL("SELECT count(*) FROM ({}) told WHERE outcome = %s").format(SQL(_REPORT)), (outcome,)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def report(self, where: LiteralString = "true") -> Iterator[Outcome]:
        """The rows in the order of the file, a few at a time."""
        query = SQL("SELECT * FROM ({}) told WHERE {} ORDER BY row").format(SQL(_REPORT), SQL(where))
        with self._connection.cursor(name="report", row_factory=class_row(Outcome)) as cursor:
            cursor.execute(query)
            yield from cursor


_ROWS: LiteralString = "FROM incoming i CROSS JOIN LATERAL jsonb_to_record(i.data) AS d ("
# Looked up once for all rows that name the same unit.
_OF_UNIT: LiteralString = """
    WITH named AS MATERIALIZED (
        SELECT reference, unit_id_of(reference) AS id
        FROM (SELECT DISTINCT data ->> 'unit' AS reference FROM incoming) told WHERE reference IS NOT NULL)
"""
_NEWS: LiteralString = "WHERE i.outcome IN ('created', 'changed')"

STATIONS = Target(
    "stations",
    "code",
    """
    SELECT s.code AS key, jsonb_build_object(
        'code', s.code, 'name', s.name, 'name_en', s.name_en, 'kind', s.kind, 'river', s.river,
        'basin', s.basin, 'admin_unit', s.admin_unit, 'source', s.source, 'certainty', s.certainty,
        'latitude', s.latitude, 'longitude', s.longitude, 'thresholds', s.thresholds,
        'quality', s.quality, 'simulated', s.simulated,
        'unit', unit_reference(u), 'owner', o.code, 'facility', f.code) AS data
    FROM station s LEFT JOIN admin_unit u ON u.id = s.unit_id LEFT JOIN owner o ON o.id = s.owner_id
    LEFT JOIN facility f ON f.id = s.facility_id""",
    f"""{_OF_UNIT}
    INSERT INTO station (code, name, name_en, kind, river, basin, admin_unit, latitude, longitude, thresholds,
                         quality, source, certainty, simulated, unit_id, owner_id, facility_id)
    SELECT d.code, d.name, d.name_en, d.kind, d.river, d.basin, coalesce(d.admin_unit, ''), d.latitude,
           d.longitude, d.thresholds, coalesce(d.quality, '{{}}'), d.source, d.certainty, d.simulated, n.id,
           o.id, f.id
    {_ROWS} code text, name text, name_en text, kind text, river text, basin text, admin_unit text,
        latitude float8, longitude float8, thresholds jsonb, quality jsonb, source text, certainty text,
        simulated boolean, unit text, owner text, facility text)
    LEFT JOIN owner o ON o.code = d.owner LEFT JOIN facility f ON f.code = d.facility
    LEFT JOIN named n ON n.reference = d.unit
    {_NEWS}
    ON CONFLICT (code) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, kind = excluded.kind, river = excluded.river,
        basin = excluded.basin, admin_unit = excluded.admin_unit, latitude = excluded.latitude,
        longitude = excluded.longitude, thresholds = excluded.thresholds, quality = excluded.quality,
        source = excluded.source,
        certainty = excluded.certainty, simulated = excluded.simulated, unit_id = excluded.unit_id,
        owner_id = excluded.owner_id, facility_id = excluded.facility_id, updated_at = now()""",
)
DEVICES = Target(
    "devices",
    "dev_eui",
    """
    SELECT d.dev_eui AS key, jsonb_build_object(
        'dev_eui', d.dev_eui, 'name', d.name, 'status', d.status, 'device_type', d.device_type,
        'station', s.code, 'variables', d.variables, 'firmware', d.firmware, 'simulated', d.simulated) AS data
    FROM device d LEFT JOIN station s ON s.id = d.station_id""",
    f"""
    INSERT INTO device (dev_eui, name, status, device_type, station_id, variables, firmware, simulated)
    SELECT d.dev_eui, d.name, d.status, d.device_type, s.id, d.variables, d.firmware, d.simulated
    {_ROWS} dev_eui text, name text, status text, device_type text, station text, variables jsonb,
        firmware text, simulated boolean)
    LEFT JOIN station s ON s.code = d.station
    {_NEWS}
    ON CONFLICT (dev_eui) DO UPDATE SET
        name = excluded.name, status = excluded.status, device_type = excluded.device_type,
        station_id = excluded.station_id, variables = excluded.variables, firmware = excluded.firmware,
        simulated = excluded.simulated, updated_at = now()""",
    then="""
    INSERT INTO decode_job (device_id, requested_by)
    SELECT d.id, 'command line' FROM incoming i JOIN device d ON d.dev_eui = i.key
    WHERE i.outcome IN ('created', 'changed') ORDER BY i.row""",
    remarkable="""
    SELECT i.row, format('dev_eui: %s was retired and is active again; what it sends is decoded', i.key)
                  AS problem
    FROM incoming i JOIN device d ON d.dev_eui = i.key WHERE d.status = 'retired'""",
)
GATEWAYS = Target(
    "gateways",
    "gateway_id",
    """
    SELECT g.gateway_id AS key, jsonb_build_object(
        'gateway_id', g.gateway_id, 'name', g.name, 'network', g.network, 'place', g.place, 'owner', o.code,
        'latitude', g.latitude, 'longitude', g.longitude, 'altitude', g.altitude, 'note', g.note) AS data
    FROM gateway g LEFT JOIN owner o ON o.id = g.owner_id""",
    f"""
    INSERT INTO gateway (gateway_id, name, network, place, owner_id, latitude, longitude, altitude, note)
    SELECT d.gateway_id, coalesce(d.name, ''), coalesce(d.network, ''), coalesce(d.place, ''), o.id,
           d.latitude, d.longitude, d.altitude, coalesce(d.note, '')
    {_ROWS} gateway_id text, name text, network text, place text, owner text, latitude float8,
        longitude float8, altitude float8, note text)
    LEFT JOIN owner o ON o.code = d.owner
    {_NEWS}
    ON CONFLICT (gateway_id) DO UPDATE SET
        name = excluded.name, network = excluded.network, place = excluded.place,
        owner_id = excluded.owner_id, latitude = excluded.latitude,
        longitude = excluded.longitude, altitude = excluded.altitude, note = excluded.note,
        updated_at = now()""",
)
OWNERS = Target(
    "owners",
    "code",
    """
    SELECT code AS key, jsonb_build_object(
        'code', code, 'name', name, 'name_en', name_en, 'kind', kind, 'address', address, 'contact', contact,
        'note', note) AS data
    FROM owner""",
    f"""
    INSERT INTO owner (code, name, name_en, kind, address, contact, note)
    SELECT d.code, d.name, coalesce(d.name_en, ''), coalesce(d.kind, ''), coalesce(d.address, ''),
           coalesce(d.contact, ''), coalesce(d.note, '')
    {_ROWS} code text, name text, name_en text, kind text, address text, contact text, note text)
    {_NEWS}
    ON CONFLICT (code) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, kind = excluded.kind, address = excluded.address,
        contact = excluded.contact, note = excluded.note, updated_at = now()""",
)
FACILITIES = Target(
    "facilities",
    "code",
    """
    SELECT f.code AS key, jsonb_build_object(
        'code', f.code, 'name', f.name, 'name_en', f.name_en, 'kind', f.kind, 'sector', f.sector,
        'address', f.address, 'owner', o.code, 'unit', unit_reference(u), 'latitude', f.latitude,
        'longitude', f.longitude, 'permit', f.permit, 'permit_from', f.permit_from, 'permit_to', f.permit_to,
        'note', f.note) AS data
    FROM facility f LEFT JOIN owner o ON o.id = f.owner_id LEFT JOIN admin_unit u ON u.id = f.unit_id""",
    f"""{_OF_UNIT}
    INSERT INTO facility (code, name, name_en, kind, sector, address, owner_id, unit_id, latitude, longitude,
                          permit, permit_from, permit_to, note)
    SELECT d.code, d.name, coalesce(d.name_en, ''), coalesce(d.kind, ''), coalesce(d.sector, ''),
           coalesce(d.address, ''), o.id, n.id, d.latitude, d.longitude,
           coalesce(d.permit, ''), d.permit_from, d.permit_to, coalesce(d.note, '')
    {_ROWS} code text, name text, name_en text, kind text, sector text, address text, owner text, unit text,
        latitude float8, longitude float8, permit text, permit_from date, permit_to date, note text)
    LEFT JOIN owner o ON o.code = d.owner LEFT JOIN named n ON n.reference = d.unit
    {_NEWS}
    ON CONFLICT (code) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, kind = excluded.kind, sector = excluded.sector,
        address = excluded.address, owner_id = excluded.owner_id, unit_id = excluded.unit_id,
        latitude = excluded.latitude, longitude = excluded.longitude, permit = excluded.permit,
        permit_from = excluded.permit_from, permit_to = excluded.permit_to, note = excluded.note,
        updated_at = now()""",
    unfit="""
    SELECT row, format('permit_to: %s lies before %s', data ->> 'permit_to', data ->> 'permit_from')
                AS problem
    FROM incoming WHERE (data ->> 'permit_to')::date < (data ->> 'permit_from')::date""",
)
UNITS = Target(
    "units",
    "code",
    """
    SELECT code || '|' || coalesce(valid_from::text, '') AS key, jsonb_build_object(
        'code', code, 'name', name, 'name_en', name_en, 'level', level, 'parent', parent,
        'valid_from', valid_from, 'valid_to', valid_to, 'successors', successors, 'source', source,
        'certainty', certainty) AS data
    FROM admin_unit""",
    f"""
    INSERT INTO admin_unit (code, name, name_en, level, parent, valid_from, valid_to, successors, source,
                            certainty)
    SELECT d.code, d.name, coalesce(d.name_en, ''), d.level, d.parent, d.valid_from, d.valid_to,
           d.successors, coalesce(d.source, ''), coalesce(d.certainty, '')
    {_ROWS} code text, name text, name_en text, level text, parent text, valid_from date, valid_to date,
        successors text[], source text, certainty text)
    {_NEWS}
    ON CONFLICT (code, valid_from) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, level = excluded.level, parent = excluded.parent,
        valid_to = excluded.valid_to, successors = excluded.successors, source = excluded.source,
        certainty = excluded.certainty, updated_at = now()""",
    faults="""
    WITH mine AS (
        SELECT i.row, u.*, daterange(u.valid_from, u.valid_to) AS days
        FROM incoming i JOIN admin_unit u
          ON u.code = i.data ->> 'code' AND u.valid_from IS NOT DISTINCT FROM (i.data ->> 'valid_from')::date
    )
    SELECT m.row, format('code: %s is %s from %s to %s already; end that one first', m.code, o.name,
                         coalesce(o.valid_from::text, 'ever'), coalesce(o.valid_to::text, 'further notice'))
                  AS problem
    FROM mine m JOIN admin_unit o ON o.code = m.code AND o.id <> m.id
                                 AND daterange(o.valid_from, o.valid_to) && m.days
    UNION ALL
    SELECT m.row, format('parent: there is no %s in that time; import it before, or with it', m.parent)
    FROM mine m
    WHERE m.parent IS NOT NULL AND NOT EXISTS (
        SELECT FROM admin_unit o WHERE o.code = m.parent AND daterange(o.valid_from, o.valid_to) && m.days)
    UNION ALL
    SELECT m.row, format('successors: there is no %s on %s; import it before, or with it', s, m.valid_to)
    FROM mine m CROSS JOIN unnest(m.successors) AS s
    WHERE NOT EXISTS (
        SELECT FROM admin_unit o WHERE o.code = s AND daterange(o.valid_from, o.valid_to) @> m.valid_to)""",
)
