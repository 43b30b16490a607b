"""Which series there are: (device, metric, channel) of the devices that a request names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg.sql import SQL

from telemetry.clock import micros

from .database import Connection
from .names import MetricName, metric_ids, metric_names
from .problems import Problem
from .where import Where

_DEVICES = SQL("""
    WITH d AS (
        SELECT d.id, d.dev_eui, t.expected_interval
        FROM device d LEFT JOIN device_type t ON t.id = d.device_type
        WHERE {where} ORDER BY d.id LIMIT %(most)s
    )
    SELECT d.*, s.code AS station, p.valid_from, p.valid_to
    FROM d LEFT JOIN device_station_period p ON p.device_id = d.id LEFT JOIN station s ON s.id = p.station_id
    WHERE {stays} ORDER BY d.id, p.valid_from NULLS FIRST
""")
# Whoever was there within the span: a device that moved leaves its old readings with its old station.
_OF_STATION = """
    d.id IN (SELECT p.device_id FROM device_station_period p JOIN station s ON s.id = p.station_id
             WHERE s.code = %(station)s AND tstzrange(p.valid_from, p.valid_to)
                   && tstzrange(%(start)s::timestamptz, %(end)s::timestamptz))
"""
# Who follows the writers keeps every series in `latest`; of a device it has not met yet the table is asked.
_MET = """
    SELECT l.device_id, split_part(key, ':', 1)::int AS metric_id, split_part(key, ':', 2)::int AS channel
    FROM latest l LEFT JOIN LATERAL jsonb_object_keys(l.readings) AS key ON true
    WHERE l.device_id = ANY(%(devices)s)
"""
_NOT_MET = """
    SELECT DISTINCT device_id, metric_id, channel
    FROM reading_1d_between(%(devices)s::int[], %(metrics)s::smallint[],
                            %(start)s::timestamptz - interval '1 day', %(end)s)
"""


class Stay(NamedTuple):
    """When a device was at a station: `since` is in, `until` is out, None has no end."""

    since: datetime | None
    until: datetime | None
    station: str | None

    def holds(self, time: datetime) -> bool:
        return (self.since is None or self.since <= time) and (self.until is None or time < self.until)


class Device(NamedTuple):
    """A device as its readings name it; `interval` is how often its type reports, in seconds.

    Where a station was asked for, `stays` are those there, and its readings of other times are not meant:
    it is not `whole`.
    """

    id: int
    dev_eui: str
    interval: int | None
    whole: bool
    stays: tuple[Stay, ...]

    @property
    def station(self) -> str | None:
        """The station that was asked for, else the present one."""
        there = [stay for stay in self.stays if stay.until is None or not self.whole]
        return there[-1].station if there else None

    def station_at(self, time: datetime) -> str | None:
        return next((stay.station for stay in self.stays if stay.holds(time)), None)

    def meant_at(self, time: datetime) -> bool:
        """Whether readings of this moment were asked for."""
        return self.whole or any(stay.holds(time) for stay in self.stays)

    def meant(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of moments in µs since 1970 those that were asked for."""
        chosen = np.full(len(times), self.whole)
        for since, until, _ in () if self.whole else self.stays:
            begun = times >= micros(since) if since else True
            chosen |= begun & (times < micros(until) if until else True)
        return chosen


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


async def devices_of(
    db: Connection,
    euis: Sequence[str],
    station: str | None,
    start: datetime | None,
    end: datetime | None,
    most: int,
) -> list[Device]:
    """The devices of these DevEUIs that were at this station within the span.

    Raises a 422 problem when there are more than `most`.
    """
    where = Where(most=most + 1, start=start, end=end)
    where.add("d.dev_eui = ANY(%(euis)s)", euis=list(euis) or None)
    where.add(_OF_STATION, station=station)
    stays = SQL("true" if station is None else "s.code = %(station)s")
    cursor = await db.execute(_DEVICES.format(where=where.sql, stays=stays), where.values)
    found: dict[int, Device] = {}
    for row in await cursor.fetchall():
        stay = Stay(row["valid_from"], row["valid_to"], row["station"])
        known = found.get(row["id"])
        before = known.stays if known else ()
        found[row["id"]] = Device(
            row["id"], row["dev_eui"], row["expected_interval"], station is None, (*before, stay)
        )
    if len(found) > most:
        raise too_many_series(most)
    return list(found.values())


async def series_of(db: Connection, asked: Asked, start: datetime, end: datetime, most: int) -> list[Series]:
    """The series that are known of what was asked for, in the order of their keys.

    Raises:
        Problem: 422, a metric is unknown, or there are more than `most` series.
    """
    names: Mapping[int, MetricName] = await metric_names(db)
    metrics = set(metric_ids(names, asked.metrics))
    found_devices = await devices_of(db, asked.devices, asked.station, start, end, most)
    devices = {device.id: device for device in found_devices}
    rows = await (await db.execute(_MET, {"devices": list(devices)})).fetchall()
    if strangers := devices.keys() - {row["device_id"] for row in rows}:
        values: dict[str, Any] = {
            "devices": list(strangers), "metrics": list(metrics), "start": start, "end": end,
        }  # fmt: skip
        rows += await (await db.execute(_NOT_MET, values)).fetchall()
    found = [
        Series(devices[row["device_id"]], row["metric_id"], names[row["metric_id"]], row["channel"])
        for row in rows
        if row["metric_id"] in metrics and asked.channel in (None, row["channel"])
    ]
    found.sort(key=lambda one: one.key)
    if len(found) > most:
        raise too_many_series(most)
    return found


def too_many_series(most: int) -> Problem:
    return Problem(
        422, "too-many-series", f"That is more than {most} series at once; name device, station or metric."
    )
