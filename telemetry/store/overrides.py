"""People's words on readings as rows: whoever flags readings reads them."""

from __future__ import annotations

from typing import Any, LiteralString, NamedTuple

import psycopg

# Later ones are the quality job's alone; so long late readings may page somebody.
_LATE = "7 days"
READ_OVERRIDES: LiteralString = """
    SELECT id, device_id, metric_id, channel,
           (extract(epoch FROM valid_from) * 1000000)::int8 AS first,
           CASE WHEN valid_to IS NULL THEN 9223372036854775807
                ELSE (extract(epoch FROM valid_to) * 1000000)::int8 END AS "end", quality
    FROM quality_override WHERE withdrawn_at IS NULL
"""


class Override(NamedTuple):
    """A person's word on readings from `first` to before `end` (µs since 1970)."""

    id: int
    device_id: int
    metric_id: int
    channel: int
    first: int
    end: int
    quality: int


def read_overrides_now(cursor: psycopg.Cursor[Any]) -> list[Override]:
    """Those that hold for readings that come now, also if some days late; oldest first."""
    cursor.execute(
        READ_OVERRIDES + "AND (valid_to IS NULL OR valid_to > now() - %s::interval) ORDER BY id", (_LATE,)
    )
    return [Override(*row) for row in cursor.fetchall()]
