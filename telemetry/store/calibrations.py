"""Calibrations as rows: who follows or lays out readings reads them with the registry."""

from __future__ import annotations

from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg

READ_CALIBRATIONS: LiteralString = """
    SELECT device_id, metric.key AS metric, metric_id, channel, valid_from, valid_to, definition
    FROM calibration JOIN metric ON metric.id = metric_id
"""


class CalibrationRow(NamedTuple):
    """One period of a series; `definition` holds gain and offset, or points."""

    device_id: int
    metric: str
    metric_id: int
    channel: int
    valid_from: datetime
    valid_to: datetime | None
    definition: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As `decoders.calibration.parse_calibrations` takes it."""
        period: dict[str, Any] = {"metric": self.metric, "channel": self.channel, "from": self.valid_from}
        if self.valid_to is not None:
            period["to"] = self.valid_to
        return {**period, **self.definition}


def read_calibrations(cursor: psycopg.Cursor[Any]) -> list[CalibrationRow]:
    cursor.execute(READ_CALIBRATIONS)
    return [CalibrationRow(*row) for row in cursor.fetchall()]
