"""The network servers' messages that a database holds beside its uplinks."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from telemetry.store.messages import unpack


def kept_messages(database: psycopg.Connection[Any]) -> dict[int, bytes]:
    """By uplink id."""
    with database.cursor(row_factory=tuple_row) as cursor:
        blocks = cursor.execute("SELECT messages FROM message_block").fetchall()
    return {uplink_id: message for (block,) in blocks for uplink_id, message in unpack(block).items()}
