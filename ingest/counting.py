"""What is known of counters beside their counts: when they wrap, how fast they grow, what corrects them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import psycopg

from decoders.device_types import parse_device_type
from decoders.mapping import DeviceType
from telemetry.catalogue import CATALOGUE, Change
from telemetry.clock import micros
from telemetry.errors import UsageError
from telemetry.store.calibrations import CalibrationRow

from .corrections import Held, parse_rows
from .quality import SingleReading

Connection = psycopg.AsyncConnection[Any]
Series = tuple[int, int, int]
"""Device, metric and channel."""

_DEVICES = """
    SELECT d.id AS device_id, t.id, t.vendor, t.model, t.codec, t.expected_interval, t.mapping AS map
    FROM device d JOIN device_type t ON t.id = d.device_type WHERE d.id = ANY(%s)
"""


_REPORTED = """
    SELECT DISTINCT entry ->> 'metric' AS metric FROM device_type t, jsonb_array_elements(
        CASE jsonb_typeof(mapping) WHEN 'array' THEN mapping ELSE '[]' END) AS entry
    WHERE EXISTS (SELECT FROM device WHERE device_type = t.id)
    UNION SELECT key FROM metric WHERE normalized
"""


class Counter(NamedTuple):
    """`modulus` is in the metric's unit; `increment_id` the metric of the growth."""

    increment_id: int
    modulus: float | None
    limit: Change | None


class Gains(NamedTuple):
    """What corrects increments, and for each counter the times (µs) from which on another meter counts."""

    held: list[Held]
    boundaries: Mapping[Series, list[int]]


class Counting:
    """As of one version of the registry."""

    def __init__(
        self,
        version: int = -1,
        metric_ids: Mapping[str, int] | None = None,
        reported: Collection[str] = (),
    ) -> None:
        """`reported` are the metrics that devices report."""
        self.version = version
        self.metric_ids = metric_ids or {}
        self.flags = SingleReading(self.metric_ids)
        """The catalogue's; stations' own checks are the quality job's, else an edit would hide a restart."""
        self.counters = [id_ for key, id_ in self.metric_ids.items() if key in reported and _counts(key)]
        """The metrics that have increments, by id."""
        self._keys = {id_: key for key, id_ in self.metric_ids.items() if key in CATALOGUE}
        self._growth = {
            self.metric_ids[key]: self.metric_ids[metric.increment]
            for key, metric in CATALOGUE.items()
            if metric.increment is not None and {key, metric.increment} <= self.metric_ids.keys()
        }
        self._types: dict[str, DeviceType | None] = {}

    async def of(self, connection: Connection, series: Iterable[Series]) -> dict[Series, Counter]:
        """The counters among these series that increments are worked out of.

        Not where the device itself reports the increments.
        """
        asked = set(series)
        types = await self._read_types(connection, {device for device, _, _ in asked})
        found = {one: self._counter(types, *one) for one in asked}
        return {one: counter for one, counter in found.items() if counter is not None}

    def gains(self, rows: Iterable[CalibrationRow]) -> Gains:
        """What these calibrations mean for increments."""
        held, boundaries = [], dict[Series, list[int]]()
        for one in parse_rows(rows):
            growth = self._growth.get(one.metric_id)
            if growth is None:
                continue
            gain = msgspec.structs.replace(one.calibration, offset=0.0, points=())
            held.append(one._replace(metric_id=growth, calibration=gain))
            ends = boundaries.setdefault(one[:3], [])
            ends += [micros(time) for time in (gain.start, gain.end) if time is not None]
        return Gains(held, boundaries)

    def _counter(
        self, types: Mapping[int, DeviceType | None], device: int, metric: int, channel: int
    ) -> Counter | None:
        key, growth = self._keys[metric], self._growth[metric]
        modulus = None
        device_type = types.get(device)
        for entry in device_type.mapping if device_type else ():
            if (entry.metric, entry.channel) == (CATALOGUE[key].increment, channel):
                return None
            if (entry.metric, entry.channel) == (key, channel) and modulus is None:
                modulus = entry.modulus()
        return Counter(growth, modulus, CATALOGUE[key].max_change)

    async def _read_types(
        self, connection: Connection, device_ids: Iterable[int]
    ) -> dict[int, DeviceType | None]:
        cursor = await connection.execute(_DEVICES, (list(device_ids),))
        types = {}
        for row in await cursor.fetchall():
            device_id, id_ = row.pop("device_id"), row["id"]
            if id_ not in self._types:
                self._types[id_] = _parse(row)
            types[device_id] = self._types[id_]
        return types


async def read_counting(connection: Connection, known: Counting) -> Counting:
    """What holds now; `known` itself while nothing changed."""
    cursor = await connection.execute("SELECT version FROM registry_version")
    row = await cursor.fetchone()
    version = row["version"] if row else 0
    if version == known.version:
        return known
    cursor = await connection.execute("SELECT key, id FROM metric")
    metric_ids = {row["key"]: row["id"] for row in await cursor.fetchall()}
    cursor = await connection.execute(_REPORTED)
    return Counting(version, metric_ids, [row["metric"] for row in await cursor.fetchall()])


def _counts(metric: str) -> bool:
    return metric in CATALOGUE and CATALOGUE[metric].increment is not None


def _parse(data: Mapping[str, Any]) -> DeviceType | None:
    """None for one that cannot be read: its frames give no counts either."""
    try:
        return parse_device_type(data, CATALOGUE)
    except UsageError:
        return None
