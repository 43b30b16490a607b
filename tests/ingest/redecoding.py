"""Orders to decode stored frames again, and what the store says afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg

from decoders.registry import Registry
from ingest.decode_jobs import Span, find_asked, order
from ingest.redecode import Redecoder
from telemetry.store.pool import connect
from tests.ingest.says_json import CODECS

Database = psycopg.Connection[dict[str, Any]]
EVER = Span(datetime(2000, 1, 1, tzinfo=UTC), None)

_STORED = {
    "readings": """
        SELECT r.time, m.key, r.channel, r.value, r.raw, r.quality, u.dedup_key FROM reading r
        JOIN metric m ON m.id = r.metric_id JOIN uplink u ON u.id = r.uplink_id ORDER BY 1, 2, 3, 4, 7
    """,
    "uplinks": "SELECT dedup_key, decoded_by, problem, fields FROM uplink ORDER BY time, dedup_key",
    "latest": "SELECT readings, newest FROM latest ORDER BY device_id",
}


def place_order(
    url: str,
    device_type: str | None = "says-json",
    euis: list[str] | None = None,
    span: Span = EVER,
    *,
    every_frame: bool = False,
    detached: bool = False,
) -> int:
    """Order it for all devices of a type or of some EUIs that sent frames; returns its number."""
    with connect(url, application="test") as connection, connection.cursor() as cursor:
        asked = find_asked(cursor, span, device_type, euis)
        return order(
            cursor, asked, span, device_type, every_frame=every_frame, detached=detached, actor="test"
        )


def redecoder(url: str, number: int | None, codecs: Registry = CODECS, **more: Any) -> Redecoder:
    return Redecoder(
        lambda: connect(url, application="test"), writer="again", codecs=codecs, redecoding=number, **more
    )


def redecode(url: str, *args: Any, codecs: Registry = CODECS, **kwargs: Any) -> int:
    """Order it and work it off; returns its number."""
    number = place_order(url, *args, **kwargs)
    redecoder(url, number, codecs).run_waiting()
    return number


def stored(database: Database) -> dict[str, list[dict[str, Any]]]:
    """What decoding made of the frames, without what depends on when it was done."""
    return {name: database.execute(query).fetchall() for name, query in _STORED.items()}  # type: ignore[arg-type]


def jobs(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    rows = database.execute(f"SELECT {', '.join(columns)} FROM decode_job ORDER BY id").fetchall()  # type: ignore[arg-type]
    return [tuple(row.values()) for row in rows]
