"""Which PostgreSQL this is, and turning plain tables into hypertables where TimescaleDB is at hand."""

from __future__ import annotations

from enum import Enum
from typing import Any

import psycopg
from psycopg.rows import tuple_row


class Edition(Enum):
    """The three editions of docs/reference/store.md; names and columns are the same in all."""

    PLAIN = "PostgreSQL"
    APACHE = "TimescaleDB Apache edition"
    COMMUNITY = "TimescaleDB Community edition"


# Whatever the length of a chunk, writing keeps one leaf of its index in memory for each series. Twelve days:
# readings every ten minutes fill two batches of the columnstore, docs/decisions/0009-store-editions.md.
HYPERTABLES = {
    "uplink": "7 days",
    "reading": "12 days",
    "event": "30 days",
    "link": "30 days",
    "message_block": "7 days",
}


UNPACK_ALL = "SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true)"
"""For a transaction that changes rows of many series by their keys: each unpacks its series' batch in the
columnstore, and TimescaleDB would refuse beyond 100,000 rows. Elsewhere it means nothing."""


def detect(connection: psycopg.Connection[Any]) -> Edition:
    """The edition of this database; TimescaleDB counts once the extension is created in it."""
    cursor = connection.cursor(row_factory=tuple_row)
    if not cursor.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").rowcount:
        return Edition.PLAIN
    licence = cursor.execute("SHOW timescaledb.license").fetchone()
    return Edition.COMMUNITY if licence and licence[0] == "timescale" else Edition.APACHE


def create_extension(connection: psycopg.Connection[Any]) -> None:
    """Create TimescaleDB in this database where the server offers it and we may."""
    known = connection.execute(
        "SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'"
    ).fetchone()
    if known is None or known[0] is not None:
        return
    try:
        loaded = connection.execute("SHOW shared_preload_libraries").fetchone()
        if loaded is not None and "timescaledb" in loaded[0]:
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.errors.InsufficientPrivilege:
        return  # a role that may neither look nor create: its administrator decides


def make_hypertables(connection: psycopg.Connection[Any]) -> list[str]:
    """Turn what is still plain into hypertables, data included; returns the tables that changed.

    Chunks to come are as long as `HYPERTABLES` says, those that are there stay as they are.
    """
    changed = []
    for table, interval in HYPERTABLES.items():
        known = connection.execute(
            "SELECT time_interval <> %s::interval FROM timescaledb_information.dimensions"
            " WHERE hypertable_schema = current_schema() AND hypertable_name = %s",
            (interval, table),
        ).fetchone()
        if known and known[0]:
            connection.execute(
                "SELECT set_chunk_time_interval(%s::regclass, %s::interval)", (table, interval)
            )
        if known:
            continue
        connection.execute(
            "SELECT create_hypertable(%s::regclass, 'time', chunk_time_interval => %s::interval,"
            " create_default_indexes => false, migrate_data => true)",
            (table, interval),
        )
        changed.append(table)
    return changed
