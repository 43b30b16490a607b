"""Which series there are: (device, metric, channel) of the devices that a request names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.sql import SQL

from .database import Connection
from .names import MetricName, metric_ids, metric_names
from .problems import Problem
from .where import Where

_DEVICES = SQL("""
    SELECT d.id, d.dev_eui, s.code AS station, t.expected_interval
    FROM device d LEFT JOIN station s ON s.id = d.station_id LEFT JOIN device_type t ON t.id = d.device_type
    WHERE {where} ORDER BY d.id LIMIT %(most)s
""")
# Who follows the writers keeps every series in `latest`; of a device it has not met yet the table is asked.
_SERIES = """
    SELECT l.device_id, split_part(key, ':', 1)::int AS metric_id, split_part(key, ':', 2)::int AS channel
    FROM latest l CROSS JOIN LATERAL jsonb_object_keys(l.readings) AS key
    WHERE l.device_id = ANY(%(devices)s)
    UNION
    SELECT r.device_id, r.metric_id, r.channel FROM reading_1d r
    WHERE r.device_id = ANY(%(devices)s) AND r.metric_id = ANY(%(metrics)s)
      AND r.device_id NOT IN (SELECT device_id FROM latest WHERE device_id = ANY(%(devices)s))
      AND r.time >= %(start)s::timestamptz - interval '1 day' AND r.time < %(end)s
    ORDER BY 1, 2, 3
"""


class Device(NamedTuple):
    """A device as its readings name it; `interval` is how often its type reports, in seconds."""

    id: int
    dev_eui: str
    station: str | None
    interval: int | None


class Series(NamedTuple):
    """One series, and the names that its rows carry in place of numbers."""

    device: Device
    metric_id: int
    metric: MetricName
    channel: int

    @property
    def key(self) -> tuple[int, int, int]:
        """(device id, metric id, channel): what the store calls it."""
        return self.device.id, self.metric_id, self.channel


class Asked(NamedTuple):
    """What a request asks for; empty lists and None stand for all."""

    devices: Sequence[str]
    station: str | None
    metrics: Sequence[str]
    channel: int | None


async def devices_of(db: Connection, euis: Sequence[str], station: str | None, most: int) -> list[Device]:
    """The devices of these DevEUIs and this station. Raises a 422 problem when there are more than `most`."""
    where = Where(most=most + 1)
    where.add("d.dev_eui = ANY(%(euis)s)", euis=list(euis) or None)
    where.add("s.code = %(station)s", station=station)
    rows = await (await db.execute(_DEVICES.format(where=where.sql), where.values)).fetchall()
    if len(rows) > most:
        raise too_many_series(most)
    return [Device(*row.values()) for row in rows]


async def series_of(db: Connection, asked: Asked, start: datetime, end: datetime, most: int) -> list[Series]:
    """The series that are known of what was asked for, in the order of their keys.

    Raises:
        Problem: 422, a metric is unknown, or there are more than `most` series.
    """
    names: Mapping[int, MetricName] = await metric_names(db)
    metrics = set(metric_ids(names, asked.metrics))
    devices = {device.id: device for device in await devices_of(db, asked.devices, asked.station, most)}
    values: dict[str, Any] = {
        "devices": list(devices), "metrics": list(metrics), "start": start, "end": end,
    }  # fmt: skip
    found = [
        Series(devices[row["device_id"]], row["metric_id"], names[row["metric_id"]], row["channel"])
        for row in await (await db.execute(_SERIES, values)).fetchall()
        if row["metric_id"] in metrics and asked.channel in (None, row["channel"])
    ]
    if len(found) > most:
        raise too_many_series(most)
    return found


def too_many_series(most: int) -> Problem:
    return Problem(
        422, "too-many-series", f"That is more than {most} series at once; name device, station or metric."
    )
