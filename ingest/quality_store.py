"""What quality tests look at, and where their findings go: SQL, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.rows import class_row, tuple_row

from telemetry.clock import from_micros
from telemetry.store.edition import UNPACK_ALL
from telemetry.store.flags import Flags, Tests
from telemetry.store.lanes import READING_DTYPE, Readings
from telemetry.store.overrides import READ_OVERRIDES, Override
from telemetry.store.registry import EVER

Connection = psycopg.AsyncConnection[Any]
Stored = npt.NDArray[np.void]
"""A structured array of `STORED_DTYPE`, shape (n,)."""

# As _READ packs a row: big-endian, times from PostgreSQL's epoch.
_PACKED = np.dtype(
    [
        *(("time", ">i8"), ("value", ">f8"), ("uplink_id", ">i8")),
        *(("channel", ">i2"), ("quality", ">i2"), ("tests", ">i4")),
    ]
)
STORED_DTYPE = np.dtype(
    [
        *(("span", "<i8"), ("time", "<i8"), ("value", "<f8"), ("uplink_id", "<i8")),
        *(("channel", "<i2"), ("quality", "<i2"), ("tests", "<i4")),
    ]
)
_EPOCH = 946_684_800_000_000  # µs since 1970
_DAY = 86_400_000_000  # µs


class Span(NamedTuple):
    """Readings of a device and metric, all channels, from `first` to `last` (µs since 1970), both in it."""

    device_id: int
    metric_id: int
    first: int
    last: int


class Site(NamedTuple):
    """Where a device stood from `first` to before `end` (µs since 1970), how often it reports (s), and the
    station's checks, as JSON."""

    station_id: int | None
    interval: float | None
    checks: str
    first: int = -EVER
    end: int = EVER


# Each look-up is an index scan of its own: joined, the planner may prefer to read the whole table. Packed by
# the server, since a row by itself costs us more than all that is worked out of it.
_READ = """
    SELECT n - 1, r.packed
    FROM (SELECT n, device_id, metric_id, timestamptz 'epoch' + first * interval '1 microsecond' AS first,
                 timestamptz 'epoch' + last * interval '1 microsecond' AS last
          FROM unnest(%(device_id)s::int4[], %(metric_id)s::int2[], %(first)s::int8[], %(last)s::int8[])
              WITH ORDINALITY AS t (device_id, metric_id, first, last, n)) s
    CROSS JOIN LATERAL (
        SELECT string_agg(timestamptz_send(time) || float8send(value) || int8send(uplink_id)
                          || int2send(channel) || int2send(quality) || int4send(coalesce(tests, -1)),
                          '') AS packed
        FROM reading r
        WHERE r.device_id = s.device_id AND r.metric_id = s.metric_id AND r.time BETWEEN s.first AND s.last) r
    WHERE r.packed IS NOT NULL ORDER BY n
"""
_SITES = """
    SELECT d.id, t.expected_interval, p.station_id, coalesce(s.quality, '{}')::text,
           (extract(epoch FROM p.valid_from) * 1000000)::int8,
           (extract(epoch FROM p.valid_to) * 1000000)::int8
    FROM device d LEFT JOIN device_type t ON t.id = d.device_type
    LEFT JOIN device_station_period p ON p.device_id = d.id LEFT JOIN station s ON s.id = p.station_id
    WHERE d.id = ANY(%s) ORDER BY d.id, p.valid_from NULLS FIRST
"""
_GROUPS = """
    SELECT DISTINCT s.quality ->> 'group', p.device_id
    FROM station s JOIN device_station_period p ON p.station_id = s.id
    WHERE s.quality ->> 'group' = ANY(%s) AND s.quality ? 'group' ORDER BY p.device_id
"""
# Each row is found by an index scan: a reading that was replaced meanwhile is left to its own news. Devices,
# metrics and times are said twice, as the columnstore unpacks whatever constants do not exclude.
_WRITE = """
    UPDATE reading r SET quality = n.quality, tests = nullif(n.tests, -1)
    FROM unnest(%(time)s::int8[], %(device_id)s::int4[], %(metric_id)s::int2[], %(channel)s::int2[],
                %(uplink_id)s::int8[], %(value)s::float8[], %(quality)s::int2[], %(tests)s::int4[])
        AS n (us, device_id, metric_id, channel, uplink_id, value, quality, tests)
    WHERE r.device_id = ANY(%(devices)s::int4[]) AND r.metric_id = ANY(%(metrics)s::int2[])
      AND r.time BETWEEN %(first)s AND %(last)s
      AND r.device_id = n.device_id AND r.metric_id = n.metric_id AND r.channel = n.channel
      AND r.time = timestamptz 'epoch' + n.us * interval '1 microsecond'
      AND r.uplink_id = n.uplink_id AND r.value = n.value
"""


async def read_stored(connection: Connection, spans: Sequence[Span]) -> Stored:
    """The readings of these spans; `span` is the index of theirs, `tests` `NOTHING` where it is NULL."""
    columns = {
        name: list(column) for name, column in zip(Span._fields, zip(*spans, strict=True), strict=True)
    }
    async with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        await cursor.execute(_READ, columns)
        parts = await cursor.fetchall()
    packed = np.frombuffer(b"".join([part for _, part in parts]), _PACKED)
    found = np.empty(len(packed), STORED_DTYPE)
    for name in _PACKED.names or ():
        found[name] = packed[name]
    found["time"] += _EPOCH
    found["span"] = np.repeat([n for n, _ in parts], [len(part) // _PACKED.itemsize for _, part in parts])
    return found


async def read_sites(connection: Connection, device_ids: Collection[int]) -> dict[int, Sequence[Site]]:
    """Where these devices stood, one site behind the other, without a hole."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SITES, (list(device_ids),))
        rows = await cursor.fetchall()
    found: dict[int, list[Site]] = {}
    for device_id, interval, station_id, checks, first, end in rows:
        sites = found.setdefault(device_id, [])
        begin = -EVER if first is None else first
        if begin > (reached := sites[-1].end if sites else -EVER):
            sites.append(Site(None, interval, "{}", reached, begin))
        sites.append(Site(station_id, interval, checks, begin, EVER if end is None else end))
    for sites in found.values():
        if sites[-1].end < EVER:
            sites.append(Site(None, sites[-1].interval, "{}", sites[-1].end))
    return dict(found)


async def read_groups(connection: Connection, names: Iterable[str]) -> dict[str, list[int]]:
    """The devices that are or were at the stations of these groups."""
    found: dict[str, list[int]] = {}
    if asked := list(names):
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(_GROUPS, (asked,))
            for name, device_id in await cursor.fetchall():
                found.setdefault(name, []).append(device_id)
    return found


async def read_overrides(connection: Connection, device_ids: Collection[int]) -> list[Override]:
    """Those that were not withdrawn, oldest first."""
    async with connection.cursor(row_factory=class_row(Override)) as cursor:
        await cursor.execute(READ_OVERRIDES + "AND device_id = ANY(%s) ORDER BY id", (list(device_ids),))
        return await cursor.fetchall()


async def write(connection: Connection, readings: Readings, tests: Tests) -> None:
    """Set `quality` and `tests` of stored readings; a day a statement, so that it touches few chunks."""
    order = np.argsort(readings["time"], kind="stable")  # as other jobs lock them: neither waits crosswise
    readings, tests = readings[order], tests[order]
    days = np.flatnonzero(np.diff(readings["time"] // _DAY)) + 1
    await connection.execute(UNPACK_ALL)
    for some, found in zip(np.split(readings, days), np.split(tests, days), strict=True):
        names = ("time", "device_id", "metric_id", "channel", "uplink_id", "value", "quality")
        columns: Mapping[str, Any] = {name: some[name].tolist() for name in names}
        bounds = {
            "devices": np.unique(some["device_id"]).tolist(),
            "metrics": np.unique(some["metric_id"]).tolist(),
            "first": from_micros(int(some["time"][0])),
            "last": from_micros(int(some["time"][-1])),
        }
        await connection.execute(_WRITE, {**columns, **bounds, "tests": found.tolist()})


def as_readings(spans: Sequence[Span], stored: Stored, quality: Flags) -> Readings:
    """Stored readings with these flags, of `READING_DTYPE`."""
    found = np.empty(len(stored), READING_DTYPE)
    for name in ("time", "value", "uplink_id", "channel"):
        found[name] = stored[name]
    of = np.array([span[:2] for span in spans], np.int32).reshape(-1, 2)[stored["span"]]
    found["device_id"], found["metric_id"], found["quality"] = of[:, 0], of[:, 1], quality
    return found
