"""What the store brought since last asked: new readings from the writers' lanes, and changed alerts.

The place is kept in memory and begins at "now", so following never holds back the clean-up of lanes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
import numpy as np

from telemetry.store.lanes import Readings, unpack

from .alerts import SELECT_ALERT, AlertView, alert_view
from .database import Connection
from .names import MetricName, metric_names

# One look reads at most so much of each lane; what lies beyond is skipped, and said so.
MOST_BYTES = 4 << 20
MOST_BATCHES = 1000
# Of more readings than this at once only the newest of each series is shown live.
MOST_READINGS = 2000

# An alert's updated_at is its writer's clock and shows with its COMMIT: looking back two minutes every time
# and telling what is known by (seq, updated_at) misses neither a slow transaction nor a clock some way off.
_CHANGED = "SELECT id, seq, updated_at FROM alert WHERE updated_at > now() - interval '2 minutes'"

_NEW_BATCHES = """
    SELECT b.lane, b.seq, CASE WHEN b.running <= %(bytes)s THEN b.readings END AS readings
    FROM lane
    LEFT JOIN unnest(%(lanes)s::int[], %(seqs)s::bigint[]) AS known (lane, seq) ON known.lane = lane.id
    CROSS JOIN LATERAL (
        SELECT lane, seq, readings, sum(octet_length(readings)) OVER (ORDER BY seq) AS running
        FROM lane_batch WHERE lane_batch.lane = lane.id AND seq > coalesce(known.seq, 0)
        ORDER BY seq LIMIT %(limit)s
    ) b
    WHERE lane.seq > coalesce(known.seq, 0)
    ORDER BY b.lane, b.seq
"""
_DEVICES = """
    SELECT d.id, d.dev_eui, s.code FROM device d LEFT JOIN station s ON s.id = d.station_id
    WHERE d.id = ANY(%s)
"""


class LiveReading(msgspec.Struct, frozen=True):
    """One reading as the stream shows it."""

    dev_eui: str
    station: str | None
    metric: str
    channel: int
    time: str
    value: float
    quality: int


class Changes(NamedTuple):
    """What one look found; `skipped` tells that there was more than is worth reading live."""

    readings: list[LiveReading]
    alerts: list[AlertView]
    skipped: bool


class Follower:
    """One follower's place in the store; `begin` sets it to now."""

    def __init__(self) -> None:
        self._seqs: dict[int, int] = {}
        self._alerts: dict[UUID, tuple[int, datetime]] = {}
        self._registry = 0
        self._devices: dict[int, tuple[str, str | None]] = {}
        self._metrics: dict[int, MetricName] = {}

    async def begin(self, db: Connection) -> None:
        cursor = await db.execute("SELECT id, seq FROM lane")
        self._seqs = {row["id"]: row["seq"] for row in await cursor.fetchall()}
        self._alerts = await self._recent_alerts(db)

    async def look(self, db: Connection) -> Changes:
        """What was committed since the last look."""
        cursor = await db.execute(
            _NEW_BATCHES,
            {
                "lanes": list(self._seqs),
                "seqs": list(self._seqs.values()),
                "bytes": MOST_BYTES,
                "limit": MOST_BATCHES,
            },
        )
        rows = await cursor.fetchall()
        packed = [row["readings"] for row in rows if row["readings"] is not None]
        readings = await self._named(db, np.concatenate([unpack(data) for data in packed])) if packed else []
        alerts = await self._changed_alerts(db)
        self._seqs.update({row["lane"]: row["seq"] for row in rows})
        return Changes(readings, alerts, skipped=len(packed) < len(rows))

    async def _named(self, db: Connection, readings: Readings) -> list[LiveReading]:
        if len(readings) > MOST_READINGS:
            readings = newest_of_each(readings)
        await self._learn_names(db, {int(id_) for id_ in np.unique(readings["device_id"])})
        times = np.datetime_as_string(readings["time"].astype("datetime64[us]"), unit="ms", timezone="UTC")
        found = []
        for row, time in zip(readings.tolist(), times.tolist(), strict=True):
            _, value, _, device_id, metric_id, channel, quality = row
            device, metric = self._devices.get(device_id), self._metrics.get(metric_id)
            if device and metric:
                found.append(LiveReading(*device, metric.key, channel, time, value, quality))
        return found

    async def _learn_names(self, db: Connection, ids: Iterable[int]) -> None:
        row = await (await db.execute("SELECT version FROM registry_version")).fetchone()
        if row is not None and row["version"] != self._registry:
            self._registry = row["version"]
            self._devices.clear()
            self._metrics = dict(await metric_names(db))
        unknown = [id_ for id_ in ids if id_ not in self._devices]
        if unknown:
            cursor = await db.execute(_DEVICES, (unknown,))
            self._devices.update({r["id"]: (r["dev_eui"], r["code"]) for r in await cursor.fetchall()})

    async def _changed_alerts(self, db: Connection) -> list[AlertView]:
        recent = await self._recent_alerts(db)
        changed = [id_ for id_, version in recent.items() if self._alerts.get(id_) != version]
        if not changed:
            self._alerts = recent
            return []
        cursor = await db.execute(
            SELECT_ALERT + " WHERE a.id = ANY(%s) ORDER BY a.updated_at, a.id", (changed,)
        )
        views = [alert_view(row) for row in await cursor.fetchall()]
        # What was just read may be newer than what was seen to have changed.
        self._alerts = recent | {view.id: (view.seq, view.updated_at) for view in views}
        return views

    async def _recent_alerts(self, db: Connection) -> dict[UUID, tuple[int, datetime]]:
        rows = await (await db.execute(_CHANGED)).fetchall()
        return {row["id"]: (row["seq"], row["updated_at"]) for row in rows}


def newest_of_each(readings: Readings) -> Readings:
    """The newest reading of each (device, metric, channel)."""
    series = ("device_id", "metric_id", "channel")
    ordered = readings[np.lexsort((readings["time"], *(readings[name] for name in reversed(series))))]
    last = np.ones(len(ordered), dtype=bool)
    last[:-1] = np.logical_or.reduce([ordered[name][1:] != ordered[name][:-1] for name in series])
    return ordered[last]
