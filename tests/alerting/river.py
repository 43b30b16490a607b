"""A river with one level sensor, and what alerts make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from alerting.engine import Engine
from telemetry.clock import micros
from telemetry.store.lanes import READING_DTYPE, commit_batch
from telemetry.store.writer import copy_readings

THRESHOLDS = [{"level": 1, "label": "BĐ1", "value": 104.5}, {"level": 2, "label": "BĐ2", "value": 105.5}]
RULE = {
    "id": "river-level", "name": {"vi": "Mực nước", "en": "River level"}, "metric": "water.level",
    "levels": "station", "hysteresis": 0.1, "max_age": "1h",
}  # fmt: skip


class River:
    """One level sensor at one station; times are minutes before `now`, when the test began."""

    def __init__(self, database: psycopg.Connection[dict[str, Any]]) -> None:
        self.database = database
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.metric = self._one("SELECT id FROM metric WHERE key = 'water.level'")
        self.station = self._one(
            "INSERT INTO station (code, name, latitude, longitude, thresholds)"
            " VALUES ('phu-hiep', 'Phú Hiệp', 11.1, 107.4, %s) RETURNING id",
            Jsonb({"water.level": THRESHOLDS}),
        )
        database.execute("INSERT INTO device_type VALUES ('t', 'v', 'm', 'c', 60, '[]')")
        self.device = self._one(
            "INSERT INTO device (dev_eui, status, device_type, station_id)"
            " VALUES ('0000000000000001', 'active', 't', %s) RETURNING id",
            self.station,
        )
        self.rule(RULE)

    def _one(self, query: str, *values: Any) -> int:
        row = self.database.execute(query, values).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row["id"])

    def rule(self, definition: dict[str, Any]) -> None:
        self.database.execute(
            "INSERT INTO rule (id, definition) VALUES (%s, %s)"
            " ON CONFLICT (id) DO UPDATE SET definition = excluded.definition",
            (definition["id"], Jsonb(definition)),
        )

    def send(self, *points: tuple[float, float], lane: str = "w", quality: int = 1) -> None:
        """(minutes ago, level) in one committed batch."""
        rows = [
            (micros(self.now - timedelta(minutes=ago)), level, 1, self.device, self.metric, 0, quality)
            for ago, level in points
        ]
        with self.database.transaction(), psycopg.Cursor(self.database) as cursor:
            readings = np.array(rows, READING_DTYPE)
            copy_readings(cursor, readings)
            commit_batch(cursor, lane, readings)

    def replace(self, ago: float, level: float | None, quality: int = 1) -> None:
        """The reading of that many minutes ago is now another one, or none."""
        at = self.now - timedelta(minutes=ago)
        told = (micros(at), 0.0 if level is None else level, 1, self.device, self.metric, 0, quality)
        with self.database.transaction(), psycopg.Cursor(self.database) as cursor:
            cursor.execute("DELETE FROM reading WHERE time = %s", (at,))
            readings = np.array([told], READING_DTYPE)
            if level is not None:
                copy_readings(cursor, readings)
            commit_batch(cursor, "again", readings, replaced=1)

    def standing(self) -> list[tuple[int, str, int]]:
        """Changes of level that were not withdrawn: (minutes ago, kind, level), oldest first."""
        rows = self.database.execute(
            "SELECT at, kind, to_level FROM transition t WHERE machine IS NOT NULL AND NOT EXISTS"
            " (SELECT FROM transition w WHERE w.alert_id = t.alert_id AND w.withdraws = t.seq)"
            " ORDER BY at, seq"
        ).fetchall()
        return [(round((self.now - r["at"]).total_seconds() / 60), r["kind"], r["to_level"]) for r in rows]

    def alerts(self) -> list[tuple[str, int, int, str]]:
        rows = self.database.execute("SELECT * FROM alert ORDER BY opened_at, state").fetchall()
        return [(r["state"], r["level"], r["peak_level"], r["label"]) for r in rows]

    def sent(self) -> list[str]:
        rows = self.database.execute("SELECT type FROM message ORDER BY created_at, alert_seq").fetchall()
        return [r["type"].removeprefix("alert.") for r in rows]


async def drain(engine: Engine) -> None:
    while await engine.step():
        pass
