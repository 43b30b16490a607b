"""The state of a running system in a few numbers."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from telemetry.store.pool import connect

_QUERIES = {
    "uplinks": "SELECT coalesce(sum(uplinks), 0)::bigint AS stored,"
    " (SELECT max(seen_at) FROM latest) AS newest FROM lane",
    "readings": "SELECT coalesce(sum(readings), 0)::bigint AS stored FROM lane",
    "rejects": "SELECT count(*) AS open FROM reject WHERE state = 'open'",
    "devices": "SELECT count(*) FILTER (WHERE status = 'active') AS active,"
    " count(*) FILTER (WHERE status = 'unregistered') AS unregistered FROM device",
    "redecodings": "SELECT count(DISTINCT redecoding_id) AS waiting, count(*) AS devices,"
    " coalesce(sum(greatest(expected - frames, 0)), 0)::bigint AS frames"
    " FROM decode_job WHERE state = 'waiting' AND redecoding_id IS NOT NULL",
    "alerts": "SELECT count(*) AS firing, count(*) FILTER (WHERE acked_at IS NULL) AS unacknowledged"
    " FROM alert WHERE state = 'firing'",
    "deliveries": "SELECT count(*) FILTER (WHERE state = 'pending') AS pending,"
    " count(*) FILTER (WHERE state = 'failed') AS failed FROM delivery",
    "ingest": "SELECT count(*) FILTER (WHERE left_at IS NULL) AS members,"
    " count(*) FILTER (WHERE left_at IS NULL AND connected) AS connected FROM ingest_member",
    "database": "SELECT pg_database_size(current_database()) AS bytes",
    "health": "SELECT count(*) AS open FROM health_alert WHERE ended_at IS NULL",
}


def read_status(url: str) -> dict[str, dict[str, Any]]:
    """Numbers by subject: uplinks.stored, rejects.open, alerts.firing, deliveries.pending, health.open, …"""
    with connect(url, application="quantrac status", autocommit=True) as connection:
        found: dict[str, dict[str, Any]] = {}
        for subject, query in _QUERIES.items():
            row = connection.cursor(row_factory=dict_row).execute(query).fetchone()
            assert row is not None
            found[subject] = {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in row.items()}
        return found
