"""A small province in the test's database: a river station with a device, and a device nobody knows yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from telemetry.clock import micros
from telemetry.store.lanes import READING_DTYPE, commit_batch

Database = psycopg.Connection[dict[str, Any]]

EUI = "a840410000000001"
NEW_EUI = "a840410000000002"
T0 = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


LEVEL_ENTRY = {
    "field": "distance_mm",
    "metric": "water.level",
    "scale": -0.001,
    "offset": {"variable": "sensor_elevation_m"},
}


class World:
    """Rows as the writers would leave them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.metrics = {
            row["key"]: row["id"] for row in database.execute("SELECT id, key FROM metric").fetchall()
        }
        self.level = self.metrics["water.level"]
        self._uplinks = 1000

    def one(self, query: str, *values: Any) -> Any:
        row = self.database.execute(query, values).fetchone()
        assert row is not None
        return next(iter(row.values()))

    def build(self) -> None:
        self.station = self.one(
            "INSERT INTO station (code, name, name_en, kind, river, latitude, longitude, thresholds)"
            " VALUES ('phu-hiep', 'Trạm Phú Hiệp', 'Phu Hiep', 'river', 'La Ngà', 11.1, 107.4, %s)"
            " RETURNING id",
            Jsonb({"water.level": [{"level": 1, "label": "BĐ1", "value": 104.5, "source": "QĐ 05/2020"}]}),
        )
        self.database.execute(
            "INSERT INTO device_type"
            " VALUES ('ldds75', 'Dragino', 'LDDS75', 'dragino-ldds75', 1200, %s, true)",
            (Jsonb([LEVEL_ENTRY]),),
        )
        self.device = self.one(
            "INSERT INTO device (dev_eui, name, status, device_type, station_id, variables)"
            " VALUES (%s, 'Đo mực nước', 'active', 'ldds75', %s, '{\"sensor_elevation_m\": 110}')"
            " RETURNING id",
            EUI,
            self.station,
        )
        self.newcomer = self.one(
            "INSERT INTO device (dev_eui, name) VALUES (%s, 'chưa đăng ký') RETURNING id", NEW_EUI
        )
        self.database.execute(
            "INSERT INTO rule (id, definition) VALUES ('river-level', %s)",
            (
                Jsonb(
                    {
                        "id": "river-level",
                        "name": {"vi": "Mực nước sông", "en": "River level"},
                        "metric": "water.level",
                        "levels": "station",
                    }
                ),
            ),
        )

    def uplink(self, time: datetime, *, device: int | None = None, flags: int = 0, **columns: Any) -> int:
        """One stored frame; returns its id."""
        self._uplinks += 1
        values = {
            "time": time,
            "ingest_time": time,
            "id": self._uplinks,
            "dedup_key": uuid4(),
            "device_id": device or self.device,
            "flags": flags,
            "network": "chirpstack-v4",
            "payload": b"\x0c\xe4\x01\xc2",
            "topic": "application/1/device/x/event/up",
            **columns,
        }
        names = ", ".join(values)
        marks = ", ".join(f"%({name})s" for name in values)
        self.database.execute(f"INSERT INTO uplink ({names}) VALUES ({marks})", values)
        return self._uplinks

    def reading(
        self,
        time: datetime,
        value: float,
        *,
        device: int | None = None,
        metric: str = "water.level",
        channel: int = 0,
        quality: int = 1,
        uplink: int = 1,
    ) -> None:
        self.database.execute(
            "INSERT INTO reading VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (time, value, uplink, device or self.device, self.metrics[metric], channel, quality),
        )

    def move(self, station: str, since: datetime) -> None:
        """The device belongs to a new station of this code from then on."""
        self.one(
            "INSERT INTO station (code, name, latitude, longitude) VALUES (%s, %s, 11, 107)"
            " RETURNING set_belonging('device_station', %s, id, %s, NULL)",
            station,
            station,
            self.device,
            since,
        )

    def latest(
        self, seen_at: datetime, readings: dict[str, Sequence[float]], device: int | None = None
    ) -> None:
        """`readings` by ``metric:channel``: (epoch µs, value, quality)."""
        document = {
            f"{self.metrics[key.split(':')[0]]}:{key.split(':')[1]}": list(value)
            for key, value in readings.items()
        }
        self.database.execute(
            "INSERT INTO latest VALUES (%(device)s, %(seen)s, %(seen)s, %(readings)s)"
            " ON CONFLICT (device_id) DO UPDATE SET seen_at = %(seen)s, readings = %(readings)s",
            {"device": device or self.device, "seen": seen_at, "readings": Jsonb(document)},
        )

    def alert(
        self, *, opened_at: datetime = T0, level: int = 1, rule: str = "river-level", **columns: Any
    ) -> UUID:
        """A firing alert with its first transition."""
        id_ = uuid4()
        values = {
            "id": id_,
            "rule_id": rule,
            "device_id": self.device,
            "metric_id": self.level,
            "channel": 0,
            "station_id": self.station,
            "state": "firing",
            "level": level,
            "peak_level": level,
            "label": f"BĐ{level}",
            "value": 104.6,
            "opened_at": opened_at,
            "updated_at": datetime.now(UTC),
            "seq": 1,
            **columns,
        }
        names = ", ".join(values)
        marks = ", ".join(f"%({name})s" for name in values)
        self.database.execute(f"INSERT INTO alert ({names}) VALUES ({marks})", values)
        self.database.execute(
            "INSERT INTO transition (alert_id, seq, at, known_at, kind, from_level, to_level, label, value)"
            " VALUES (%s, 1, %s, now(), 'opened', 0, %s, %s, 104.6)",
            (id_, opened_at, level, f"BĐ{level}"),
        )
        return id_

    def commit(
        self, *readings: tuple[datetime, float], writer: str = "ingest-1", device: int | None = None
    ) -> None:
        """A batch on a writer's lane, as ingest commits it."""
        rows = [(micros(time), value, 1, device or self.device, self.level, 0, 1) for time, value in readings]
        with psycopg.connect(self.database.info.dsn, password=self.database.info.password) as connection:
            commit_batch(connection.cursor(), writer, np.array(rows, READING_DTYPE))
