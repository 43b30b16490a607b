"""Which tables are ours, and what they hold, in numbers that can be compared.

The checksum of a table is the sum, modulo 2⁶⁴, of `hashtextextended` of every row's text: it does not depend
on the order of rows, and PostgreSQL keeps that function the same across versions, as hash partitions rely on
it (https://www.postgresql.org/docs/current/sql-createtable.html).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from quantrac.backup.manifest import Table

# Rows of these do not travel: who is logged in, and the mark by which a database counts as complete.
WITHOUT_DATA = ("session", "schema_version")

_TABLES = """
    SELECT n.nspname, c.relname, pg_table_size(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = current_schema()
      AND c.relname <> ALL (%s)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
"""
# A hypertable's chunks are locked with it; the compressed ones are nobody's children.
_LOCKED = """
    SELECT n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND (n.nspname = current_schema() OR EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'))
      AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
    ORDER BY 1, 2
"""
_ROLLUPS = """
    SELECT materialization_hypertable_schema, materialization_hypertable_name, 0
    FROM timescaledb_information.continuous_aggregates
    WHERE hypertable_schema IN (current_schema(), '_timescaledb_internal')
"""
_MEASURE = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {} t"
_TEXTS = (
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'postgres'",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL lock_timeout = '60s'",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)


def prepare(connection: psycopg.Connection[Any]) -> None:
    """For `measure`, in a transaction: how values are written as text, and how long to wait."""
    for statement in _TEXTS:
        connection.execute(statement)


def ours(connection: psycopg.Connection[Any], *, timescaledb: bool) -> list[tuple[str, str]]:
    """(schema, name) of the tables whose rows a backup holds; what rollups hold is among them."""
    found = connection.execute(_TABLES, (list(WITHOUT_DATA),)).fetchall()
    if timescaledb:
        found += connection.execute(_ROLLUPS).fetchall()
    return sorted((schema, name) for schema, name, _ in found)


def dumped(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """(schema, name) of the tables that pg_dump locks, inheriting ones left out."""
    return [(schema, name) for schema, name in connection.execute(_LOCKED).fetchall()]


def lock(connection: psycopg.Connection[Any], names: list[tuple[str, str]]) -> None:
    """Whoever wants to change or drop them waits until the transaction ends; readers and writers go on.

    As the transaction's first statement it comes before the snapshot: all of them are in that then.
    """
    if names:
        listed = sql.SQL(", ").join(sql.Identifier(*name) for name in names)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed))
    # From here on nobody can be waited for who waits for us.
    connection.execute("SET LOCAL lock_timeout = 0")


def size(connection: psycopg.Connection[Any]) -> int:
    """Bytes of the whole database without its indexes."""
    row = connection.execute(
        "SELECT coalesce(sum(pg_table_size(oid)), 0) FROM pg_class WHERE relkind IN ('r', 'm')"
        " AND relnamespace <> ALL (ARRAY['pg_catalog', 'information_schema']::regnamespace[])"
    ).fetchone()
    assert row is not None
    return int(row[0])


def measure(
    connection: psycopg.Connection[Any],
    tables: list[tuple[str, str]],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Table]:
    """Rows and checksum of each, by `schema.name`."""
    measured = {}
    for number, (schema, name) in enumerate(tables, 1):
        statement = sql.SQL(_MEASURE).format(sql.Identifier(schema, name))
        row = connection.execute(statement).fetchone()
        assert row is not None
        measured[f"{schema}.{name}"] = Table(row[0], f"{int(row[1]) % 2**64:016x}")
        progress(number, len(tables))
    return measured
