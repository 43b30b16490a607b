"""Readings and rollups as sources: series after series, each in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Identifier

from telemetry.clock import from_micros, micros
from telemetry.errors import QuantracError, UsageError
from telemetry.store.edition import Edition, detect

from ..columns import array_cursor
from .selection import EARLIEST, Selection
from .shapes import READINGS, rollups
from .stays import Named, Stays, devices_of, stations_at, stays_of
from .table import Block, Coded, Key

WINDOW = 50_000  # rows of a block
DEVICES = 100  # whose series are looked up at once

# From metric to metric by the index: a DISTINCT would read every reading.
_SERIES_OF_READINGS = SQL("""
    WITH RECURSIVE series AS (
        SELECT d.id AS device_id,
               (SELECT min(metric_id) FROM reading WHERE device_id = d.id {span}) AS metric_id
        FROM unnest(%(devices)s::int[]) AS d (id)
        UNION ALL
        SELECT s.device_id, (SELECT min(r.metric_id) FROM reading r
                             WHERE r.device_id = s.device_id AND r.metric_id > s.metric_id {span})
        FROM series s WHERE s.metric_id IS NOT NULL
    ) SELECT device_id, metric_id FROM series WHERE metric_id IS NOT NULL ORDER BY 1, 2
""")
_SPAN = SQL("AND time >= %(start)s AND time < %(end)s")
# On TimescaleDB Community readings may be gone while their rollups are kept.
_SERIES_OF_ROLLUPS = SQL("""
    SELECT DISTINCT device_id, metric_id FROM {relation} WHERE device_id = ANY(%(devices)s) {span}
    ORDER BY 1, 2
""")
_WINDOW = SQL("""
    SELECT {arrays} FROM (
        SELECT r.* FROM unnest(
                %(devices)s::int[], %(metrics)s::smallint[],
                %(since)s::timestamptz[], %(until)s::timestamptz[]
            ) WITH ORDINALITY AS p (device_id, metric_id, since, until, number)
        CROSS JOIN LATERAL (
            SELECT {columns} FROM {rows} WHERE device_id = p.device_id AND metric_id = p.metric_id
              AND time >= p.since AND time < p.until AND time >= %(start)s AND time < %(end)s AND {quality}
              AND (p.number > 1 OR ({key}) > ({after}))
            ORDER BY {key}
        ) r LIMIT %(window)s
    ) w
""")


class _Stretch(NamedTuple):
    """A series from `since` until before `until`, in µs since 1970."""

    device: int
    metric: int
    since: int
    until: int


class SeriesSource:
    """The series of a selection's devices, by device and metric.

    Every block is a query of its own that begins after the last key: no transaction lasts longer than one,
    none is needed from one to the next, and an export can go on in another process. What is stored behind
    the place that was reached does not come any more; nothing comes twice.
    """

    def __init__(self, connection: psycopg.Connection[Any], selection: Selection) -> None:
        """`selection` has an end. Raises `UsageError` for a metric that nobody knows."""
        self._connection = connection
        self._shape = READINGS if selection.what == "readings" else rollups(selection.resolution)
        self._wanted = selection
        self._metrics = _metrics(connection, selection.metrics)
        assert selection.end is not None
        self._values = {"start": selection.since, "end": selection.end}
        self.fields = self._shape.fields
        self._keys = ("device_id", "metric_id", *self._shape.key)

    def blocks(self, after: Key | None) -> Iterator[Block]:
        """See `Source`. A key is device, metric, time in µs since 1970, channel, of readings also
        uplink and value: a map may give one series two values at a time. Rows of one key come in one
        block."""
        devices = devices_of(self._connection, self._wanted, after[0] if after else 0)
        ids = list(devices)
        for first in range(0, len(ids), DEVICES):
            some = ids[first : first + DEVICES]
            stays = stays_of(self._connection, self._wanted, some)
            stretches = _after(self._stretches(some, stays), after)
            total, most = len(stretches), WINDOW
            while stretches:
                arrays = self._window(stretches, after, most + 1)
                found = len(arrays["time"]) if arrays else 0
                rows = found if arrays is None or found <= most else self._whole(arrays)
                if found and not rows:
                    most *= 2
                    continue
                if arrays:
                    arrays, most = {name: column[:rows] for name, column in arrays.items()}, WINDOW
                    after = [arrays[name][-1].item() for name in self._keys]
                stretches = _after(stretches, after) if found > rows else []
                share = (first + len(some) * (1 - len(stretches) / total)) / len(ids)
                if arrays and after:
                    yield Block(self._named(arrays, devices, stays), rows, after, share)

    def _whole(self, arrays: Mapping[str, Any]) -> int:
        """How many come before the last key: more rows of that may follow, as readings may be equal."""
        last = np.all([arrays[name] == arrays[name][-1] for name in self._keys], axis=0)
        return len(last) - int(last.sum())

    def _stretches(self, devices: list[int], stays: Stays) -> list[_Stretch]:
        whole = [(micros(self._values["start"]), micros(self._values["end"]))]
        found = []
        for device, metric in self._pairs(devices):
            if metric in self._metrics:
                asked = [stay[:2] for stay in stays.get(device, ())] if self._wanted.stations else whole
                found += [_Stretch(device, metric, since, until) for since, until in asked]
        return found

    def _pairs(self, devices: list[int]) -> list[tuple[int, int]]:
        edition, width = detect(self._connection), self._shape.width
        last = min(self._values["end"], datetime.max.replace(tzinfo=UTC) - width) + width
        if self._shape is not READINGS and edition is Edition.COMMUNITY:
            query = _SERIES_OF_ROLLUPS.format(relation=Identifier(self._shape.relation), span=_SPAN)
        else:
            # An index of ours leads from metric to metric, but of a hypertable every chunk has its own.
            query = _SERIES_OF_READINGS.format(span=SQL("") if edition is Edition.PLAIN else _SPAN)
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            return list(cursor.execute(query, {**self._values, "end": last, "devices": devices}))

    def _window(self, stretches: list[_Stretch], after: Key | None, most: int) -> dict[str, Any] | None:
        """The next rows of these, as arrays; None when there are no more."""
        begun = after is not None and stretches[0][:2] == tuple(after[:2])
        reached = after[2:] if begun and after else [0] * len(self._shape.key)
        time = from_micros(reached[0]) if begun else EARLIEST
        key = SQL(", ").join(map(Identifier, self._shape.key))
        quality = SQL(
            "quality = ANY(%(quality)s)" if self._wanted.quality and self._shape is READINGS else "true"
        )
        since = [from_micros(stretch.since) for stretch in stretches]
        since[0] = max(time, since[0])
        names = list(self._shape.columns)
        columns: list[Composable] = [
            SQL("{} AS {}").format(c, Identifier(n)) for n, c in self._shape.columns.items()
        ]
        query = _WINDOW.format(
            arrays=SQL(", ").join(SQL("array_agg({})").format(Identifier(name)) for name in names),
            columns=SQL(", ").join(columns),
            rows=self._shape.rows,
            quality=quality,
            key=key,
            after=SQL(", ").join(
                [
                    SQL("%(time)s::timestamptz"),
                    SQL("%(channel)s"),
                    SQL("%(uplink)s"),
                    SQL("%(value)s::float8"),
                ][: len(self._shape.key)]
            ),
        )
        values = {
            **self._values, "window": most,
            "since": since, "until": [from_micros(stretch.until) for stretch in stretches],
            "quality": [int(flag) for flag in self._wanted.quality],
            "devices": [stretch.device for stretch in stretches],
            "metrics": [stretch.metric for stretch in stretches],
            "time": time, **dict(zip(("channel", "uplink", "value"), reached[1:], strict=False)),
        }  # fmt: skip
        with array_cursor(self._connection) as cursor:
            row = cursor.execute(query, values).fetchone()
        if row is None or row[0] is None:
            return None
        arrays = dict(zip(names, row, strict=True))
        # SQL promises no order here, only the plan does; going on from a key depends on it.
        if (np.diff(arrays["device_id"].astype(np.int64) << 16 | arrays["metric_id"]) < 0).any():
            raise QuantracError("The database gave the series of an export out of order.")
        return arrays

    def _named(self, arrays: dict[str, Any], devices: Mapping[int, Named], stays: Stays) -> dict[str, Any]:
        station, station_name = stations_at(stays, arrays["device_id"], arrays["time"])
        ids, own = np.unique(arrays.pop("device_id"), return_inverse=True)
        metrics, of = np.unique(arrays.pop("metric_id"), return_inverse=True)
        named = [self._metrics[id_] for id_ in metrics.tolist()]
        tellers = [devices[id_] for id_ in ids.tolist()]
        arrays["uplink"] = arrays.pop("uplink_id", None)
        return arrays | {
            "station": station,
            "station_name": station_name,
            "dev_eui": Coded(own, [device.dev_eui for device in tellers]),
            "simulated": np.array([device.simulated for device in tellers])[own],
            "metric": Coded(of, [metric for metric, _ in named]),
            "unit": Coded(of, [unit for _, unit in named]),
        }


def _after(stretches: list[_Stretch], key: Key | None) -> list[_Stretch]:
    """Those that may hold rows after this key."""
    if key is None:
        return stretches
    return [one for one in stretches if (one.device, one.metric, one.until) > tuple(key[:3])]


def _metrics(connection: psycopg.Connection[Any], keys: Sequence[str]) -> dict[int, tuple[str, str]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute("SELECT id, key, unit FROM metric").fetchall()
    unknown = set(keys) - {key for _, key, _ in rows}
    if unknown:
        raise UsageError(
            f"metrics: unknown metric {min(unknown)[:60]!r}; GET /api/v1/metrics-catalogue lists them"
        )
    return {id_: (key, unit) for id_, key, unit in rows if not keys or key in keys}
