"""Bringing what was loaded to rest, and its size."""

from __future__ import annotations

from typing import Any

import psycopg

from telemetry.store.edition import Edition, detect

_TABLES = ("reading", "uplink")


def settle(url: str, readings: int) -> dict[str, Any]:
    """Bytes a reading and a frame, indexes included: as they were written and at rest.

    At rest means vacuumed, and where there is a columnstore, moved there as its policy would in time; rollups
    are brought up to date.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        edition = detect(connection)
        written = _sizes(connection, edition)
        for table in _TABLES:
            connection.execute(f"VACUUM ANALYZE {table}")
        if edition is Edition.COMMUNITY:
            _compress(connection)
        rest = _sizes(connection, edition)
        row = connection.execute("SELECT count(*) FROM uplink").fetchone()
        assert row is not None
        frames = row[0]
    return {
        "bytes_per_reading_rows": written["reading"] / readings,
        "bytes_per_reading": rest["reading"] / readings,
        "bytes_per_frame": rest["uplink"] / frames,
    }


def _sizes(connection: psycopg.Connection[Any], edition: Edition) -> dict[str, int]:
    of = "pg_total_relation_size" if edition is Edition.PLAIN else "hypertable_size"
    found = {}
    for table in _TABLES:
        row = connection.execute(f"SELECT {of}(%s::regclass)", (table,)).fetchone()
        assert row is not None
        found[table] = row[0]
    return found


def _compress(connection: psycopg.Connection[Any]) -> None:
    """What the policies do in time, at once."""
    enabled = connection.execute(
        "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE compression_enabled"
        " AND hypertable_name = ANY(%s)",
        (list(_TABLES),),
    ).fetchall()
    for (table,) in enabled:
        chunks = connection.execute("SELECT c::text FROM show_chunks(%s::regclass) AS c", (table,)).fetchall()
        for (chunk,) in chunks:
            connection.execute("SELECT compress_chunk(%s::regclass, if_not_compressed => true)", (chunk,))
