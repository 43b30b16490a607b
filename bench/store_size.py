"""Bringing what was loaded to rest, and its size."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg

from telemetry.settings import StoreSettings
from telemetry.store import policies, rollups
from telemetry.store.edition import Edition, detect

_TABLES = ("reading", "uplink")
_NAME = "format('%%I.%%I', chunk_schema, chunk_name)"
_CHUNKS = f"""
    SELECT {_NAME}, range_end FROM timescaledb_information.chunks
    WHERE hypertable_name = 'reading' ORDER BY range_end
"""
_OF_CHUNKS = f"""
    SELECT sum(total_bytes)::int8 FROM chunks_detailed_size('reading') WHERE {_NAME} = ANY(%s)
"""


def settle(url: str, end: datetime) -> dict[str, Any]:
    """Bytes a reading and a frame, indexes included: as they were written and at rest.

    At rest means vacuumed, and where there is a columnstore, as its policies leave it: rollups filled, what
    is old enough by the settings' defaults packed (all where nothing is). There `bytes_per_reading` is that
    of the packed ones.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        edition = detect(connection)
        counts = {table: _one(connection, f"SELECT count(*) FROM {table}") for table in _TABLES}
        written = _size(connection, edition, "reading") / counts["reading"]
        for table in _TABLES:
            connection.execute(f"VACUUM ANALYZE {table}")
        at_rest = _size(connection, edition, "reading") / counts["reading"]
        if edition is Edition.COMMUNITY:
            rollups.refresh(connection, None, None)
            at_rest = _packed(connection, end)
            connection.execute("VACUUM ANALYZE reading")
        return {
            "bytes_per_reading_rows": written,
            "bytes_per_reading": at_rest,
            "bytes_per_frame": _size(connection, edition, "uplink") / counts["uplink"],
        }


def _size(connection: psycopg.Connection[Any], edition: Edition, table: str) -> int:
    of = "pg_total_relation_size" if edition is Edition.PLAIN else "hypertable_size"
    return _one(connection, f"SELECT {of}('{table}')")


def _packed(connection: psycopg.Connection[Any], end: datetime) -> float:
    """Do at once what the policy does in time; bytes a reading of what it packed."""
    with connection.cursor() as cursor:
        list(policies.set_layouts(cursor))
    before = end - timedelta(days=StoreSettings.model_fields["columnstore_after"].default)
    every = connection.execute(_CHUNKS, ()).fetchall()
    chunks = [(name, until) for name, until in every if until <= before] or every
    for name, _ in chunks:
        connection.execute("SELECT compress_chunk(%s::regclass)", (name,))
    size = _one(connection, _OF_CHUNKS, [name for name, _ in chunks])
    return size / _one(connection, "SELECT count(*) FROM reading WHERE time < %s", chunks[-1][1])


def _one(connection: psycopg.Connection[Any], query: Any, *values: Any) -> int:
    row = connection.execute(query, values or None).fetchone()
    assert row is not None
    return int(row[0])
