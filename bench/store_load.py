"""A province's year into a database, through the writer that ingest uses."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from quantrac.seed import seed
from telemetry.clock import SECOND
from telemetry.store import binary, latest
from telemetry.store.binary import UplinkRow
from telemetry.store.lanes import READING_DTYPE
from telemetry.store.migrate import migrate
from telemetry.store.writer import Rows, UplinkIds, new_ids, registry_version, write

from .messages import dev_eui
from .province import DEVICES, METRICS, SITES, STATIONS, Frames, Plan, frames

BATCH = 2000  # frames a commit, as ingest under load
_TENTHS = 10
_IDS_AHEAD = 3
_FOLLOW_EVERY = 50  # commits
_SEEN = """
    INSERT INTO follower_cursor (follower, lane, seq)
    SELECT f.name, l.id, greatest(0, l.seq - %s) FROM follower f CROSS JOIN lane l
    ON CONFLICT (follower, lane) DO UPDATE SET seq = excluded.seq
"""
_KEPT_BATCHES = 12  # more than an hour of the province: `latest` is made of them
_GATEWAYS = (
    b'[{"gateway_id":"a84041ffff1f0c80","rssi":-97.0,"snr":7.2,"time":null,"latitude":null,"longitude":null}]'
)


class Loaded(NamedTuple):
    """All readings; of those that count, how many a second, and the writer's seconds for each tenth."""

    readings: int
    rows_per_s: float
    tenths: list[float]

    @property
    def rates(self) -> list[float]:
        """Readings/s of each tenth."""
        mean = sum(self.tenths) / len(self.tenths)
        return [self.rows_per_s * mean / seconds for seconds in self.tenths]

    @property
    def last_to_first(self) -> float:
        """The rate in the last tenth as a part of the rate in the first."""
        return self.tenths[0] / self.tenths[-1]


def prepare(url: str) -> None:
    """Schema, stations and devices."""
    migrate(url)
    seed(url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
            " VALUES ('bench', 'v', 'm', 'cayenne-lpp', 600, %s)",
            (Jsonb([{"field": "temperature_0", "metric": "air.temperature"}]),),
        )
        connection.execute(
            "INSERT INTO station (code, name, kind, latitude, longitude)"
            " SELECT 'tram-' || n, 'Trạm ' || n, 'river', 10.5 + (n %% 40) * 0.03, 106.7 + n / 40 * 0.03"
            " FROM generate_series(1, %s) AS n",
            (SITES,),
        )
        # A station of the first ones has one device, the others share what is left.
        sites = [n + 1 if n < STATIONS else STATIONS + 1 + n % (SITES - STATIONS) for n in range(DEVICES)]
        connection.execute(
            "INSERT INTO device (dev_eui, name, status, device_type, station_id)"
            " SELECT eui, 'Cảm biến ' || eui, 'active', 'bench', s.id"
            " FROM unnest(%s::text[], %s::int[]) WITH ORDINALITY AS d (eui, site, n)"
            " JOIN station s ON s.code = 'tram-' || site ORDER BY n",
            ([dev_eui(n) for n in range(DEVICES)], sites),
        )


def load(url: str, readings: int, end: int) -> Loaded:
    """Write about so many readings, the newest at `end` (µs since 1970).

    What it takes to make them up does not count, neither do new devices, who come only once. Nor does the
    first eleventh: before its first checkpoints and vacuums a server writes faster than it ever will again.
    """
    plan = Plan.of(readings)
    edges = [plan.frames * n // (_TENTHS + 1) for n in range(1, _TENTHS + 1)]
    parts, written, timed = [0.0] * (_TENTHS + 1), 0, 0
    with psycopg.connect(url) as connection:
        loader = _Loader(connection)
        for number, batch in enumerate(_batches(frames(plan, end))):
            seconds = loader.write(batch)
            written += len(batch.time)
            if written <= plan.frames:
                part = bisect_left(edges, written)
                parts[part] += seconds
                timed += len(batch.time) if part else 0
            if number % _FOLLOW_EVERY == 0:
                _follow(connection)
        _follow(connection)
    asyncio.run(_keep_latest(url))
    return Loaded(written * len(METRICS), timed * len(METRICS) / sum(parts[1:]), parts[1:])


class _Loader:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._ids = UplinkIds()
        self._rng = np.random.default_rng(2)
        devices = connection.execute("SELECT dev_eui, id FROM device").fetchall()
        by_eui = dict(devices)
        self._devices = np.array([by_eui[dev_eui(n)] for n in range(DEVICES)], np.int32)
        metrics = dict(connection.execute("SELECT key, id FROM metric").fetchall())
        self._metrics = np.array([metrics[key] for key in METRICS], np.int16)
        self._counters = np.zeros(DEVICES, np.int64)
        connection.commit()

    def write(self, batch: Frames) -> float:
        """One transaction; the seconds from its first statement to its end, with laying out its rows."""
        made = self._made_up(batch)
        started = time.perf_counter()
        with self._connection.transaction(), self._connection.cursor(binary=True) as cursor:
            registry_version(cursor)
            ids = self._ids.take(len(batch.time))
            spare: list[int] = []
            if ids is None:
                fetched = new_ids(cursor, _IDS_AHEAD * BATCH)
                ids, spare = fetched[: len(batch.time)], fetched[len(batch.time) :]
            rows = self._rows(batch, made, ids)
            write(cursor, "bench", rows, careful=False)
        self._ids.hold(spare)
        return time.perf_counter() - started

    def _made_up(self, batch: Frames) -> list[tuple[bytes, bytes, bytes]]:
        """Key, payload and fields of each frame: what ingest has from elsewhere."""
        keys = self._rng.bytes(16 * len(batch.time))
        payloads = np.round(batch.value * 100).astype(">i4")
        return [
            (
                keys[16 * n : 16 * n + 16],
                payload.tobytes(),
                b'{"level":%.2f,"water":%.1f,"air":%.1f,"humidity":%.1f,"pressure":%.1f,"battery":%.2f}'
                % values,
            )
            for n, (payload, values) in enumerate(
                zip(payloads, map(tuple, batch.value.tolist()), strict=True)
            )
        ]

    def _rows(self, batch: Frames, made: Sequence[tuple[bytes, bytes, bytes]], ids: Sequence[int]) -> Rows:
        devices = self._devices[batch.device]
        counters = self._counters[batch.device]
        self._counters[batch.device] += 1
        uplinks = [
            UplinkRow(
                moment, moment + 80_000, moment + 120_000, number, key, device, 4, f_cnt, 2, 7, 921_400_000,
                -97.0, 7.2, None, "chirpstack-v4", "cayenne-lpp@1/00000000", None, payload, "01a2b3c4",
                "application/1/device/x/event/up", fields, _GATEWAYS, None,
            )
            for moment, number, device, f_cnt, (key, payload, fields) in zip(
                batch.time.tolist(), ids, devices.tolist(), counters.tolist(), made, strict=True
            )
        ]  # fmt: skip
        width = len(METRICS)
        readings = np.zeros(len(uplinks) * width, READING_DTYPE)
        readings["time"] = np.repeat(batch.time - batch.time % SECOND, width)
        readings["value"] = batch.value.ravel()
        readings["uplink_id"] = np.repeat(ids, width)
        readings["device_id"] = np.repeat(devices, width)
        readings["metric_id"] = np.tile(self._metrics, len(uplinks))
        readings["quality"] = 1
        return Rows(uplinks, [binary.uplinks(uplinks)], readings, [], [])


def _batches(steps: Iterator[Frames]) -> Iterator[Frames]:
    held = Frames(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, len(METRICS))))
    for step in steps:
        held = Frames(
            np.concatenate((held.time, step.time)),
            np.concatenate((held.device, step.device)),
            np.concatenate((held.value, step.value)),
        )
        while len(held.time) >= BATCH:
            yield _cut(held, slice(0, BATCH))
            held = _cut(held, slice(BATCH, None))
    if len(held.time):
        yield held


async def _keep_latest(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        url, autocommit=True, row_factory=dict_row
    ) as connection:
        while await latest.step(connection):
            pass


def _cut(some: Frames, rows: slice) -> Frames:
    return Frames(some.time[rows], some.device[rows], some.value[rows])


def _follow(connection: psycopg.Connection[Any]) -> None:
    """Followers have seen all but the newest commits, so that lanes stay as short as in a running system."""
    with connection.transaction():
        connection.execute(_SEEN, (_KEPT_BATCHES,))
        connection.execute(
            "DELETE FROM lane_batch b USING follower_cursor c"
            " WHERE c.follower = 'latest' AND c.lane = b.lane AND b.seq <= c.seq"
        )
