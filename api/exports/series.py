"""Readings and rollups as sources: series after series, each in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Identifier

from telemetry.clock import from_micros
from telemetry.errors import QuantracError, UsageError
from telemetry.store.edition import Edition, detect

from ..columns import array_cursor
from .selection import EARLIEST, Selection
from .shapes import READINGS, rollups
from .table import Block, Coded, Key

WINDOW = 50_000  # rows of a block
DEVICES = 100  # whose series are looked up at once

_DEVICES = """
    SELECT d.id, d.dev_eui, s.code, s.name FROM device d LEFT JOIN station s ON s.id = d.station_id
    WHERE (%(euis)s::text[] IS NULL OR d.dev_eui = ANY(%(euis)s))
      AND (%(stations)s::text[] IS NULL OR s.code = ANY(%(stations)s)) AND d.id >= %(first)s
    ORDER BY d.id
"""
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
# Readings may be gone while their rollups are kept.
_SERIES_OF_ROLLUPS = SQL("""
    SELECT DISTINCT device_id, metric_id FROM {relation} WHERE device_id = ANY(%(devices)s) {span}
    ORDER BY 1, 2
""")
_WINDOW = SQL("""
    SELECT {arrays} FROM (
        SELECT r.* FROM unnest(%(devices)s::int[], %(metrics)s::smallint[], %(since)s::timestamptz[])
            WITH ORDINALITY AS p (device_id, metric_id, since, number)
        CROSS JOIN LATERAL (
            SELECT {columns} FROM {relation} WHERE device_id = p.device_id AND metric_id = p.metric_id
              AND time >= p.since AND time >= %(start)s AND time < %(end)s AND {quality}
              AND (p.number > 1 OR ({key}) > ({after}))
            ORDER BY {key}
        ) r LIMIT %(window)s
    ) w
""")


class _Device(NamedTuple):
    id: int
    dev_eui: str
    station: str | None
    station_name: str | None


_Pair = tuple[int, int]  # device id, metric id


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
        self._values = {"start": selection.since, "end": selection.end}
        self.fields = self._shape.fields

    def blocks(self, after: Key | None) -> Iterator[Block]:
        """See `Source`. A key is device, metric, time in µs since 1970, channel, of readings also
        uplink and value: a map may give one series two values at a time."""
        devices = self._devices(after[0] if after else 0)
        names = {device.id: device for device in devices}
        for first in range(0, len(devices), DEVICES):
            some = [device.id for device in devices[first : first + DEVICES]]
            pairs = [
                p
                for p in self._pairs(some)
                if p[1] in self._metrics and (after is None or p >= tuple(after[:2]))
            ]
            total = len(pairs)
            while pairs:
                arrays = self._window(pairs, after)
                rows = len(arrays["time"]) if arrays else 0
                if arrays:
                    after = [arrays[name][-1].item() for name in ("device_id", "metric_id", *self._shape.key)]
                pairs = [p for p in pairs if after and p >= tuple(after[:2])] if rows == WINDOW else []
                share = (first + len(some) * (1 - len(pairs) / total)) / len(devices)
                if arrays and after:
                    yield Block(self._named(arrays, names), rows, after, share)

    def _devices(self, first: int) -> list[_Device]:
        wanted = {
            "euis": list(self._wanted.devices) or None, "stations": list(self._wanted.stations) or None,
            "first": first,
        }  # fmt: skip
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            return [_Device(*row) for row in cursor.execute(_DEVICES, wanted)]

    def _pairs(self, devices: list[int]) -> list[_Pair]:
        if self._shape is READINGS:
            # An index of ours leads from metric to metric, but of a hypertable every chunk has its own.
            plain = detect(self._connection) is Edition.PLAIN
            query = _SERIES_OF_READINGS.format(span=SQL("") if plain else _SPAN)
        else:
            query = _SERIES_OF_ROLLUPS.format(relation=Identifier(self._shape.relation), span=_SPAN)
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            return list(cursor.execute(query, {**self._values, "devices": devices}))

    def _window(self, pairs: list[_Pair], after: Key | None) -> dict[str, Any] | None:
        """The next rows of these series, as arrays; None when there are no more."""
        begun = after is not None and pairs[0] == tuple(after[:2])
        reached = after[2:] if begun and after else [0] * len(self._shape.key)
        time = from_micros(reached[0]) if begun else EARLIEST
        since = [time, *[EARLIEST] * (len(pairs) - 1)]
        key = SQL(", ").join(map(Identifier, self._shape.key))
        quality = SQL(
            "quality = ANY(%(quality)s)" if self._wanted.quality and self._shape is READINGS else "true"
        )
        names = list(self._shape.columns)
        columns: list[Composable] = [
            SQL("{} AS {}").format(c, Identifier(n)) for n, c in self._shape.columns.items()
        ]
        query = _WINDOW.format(
            arrays=SQL(", ").join(SQL("array_agg({})").format(Identifier(name)) for name in names),
            columns=SQL(", ").join(columns),
            relation=Identifier(self._shape.relation),
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
            **self._values, "since": since, "window": WINDOW,
            "quality": [int(flag) for flag in self._wanted.quality],
            "devices": [device for device, _ in pairs], "metrics": [metric for _, metric in pairs],
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

    def _named(self, arrays: dict[str, Any], devices: dict[int, _Device]) -> dict[str, Any]:
        ids, own = np.unique(arrays.pop("device_id"), return_inverse=True)
        known = [devices[id_] for id_ in ids.tolist()]
        metrics, of = np.unique(arrays.pop("metric_id"), return_inverse=True)
        named = [self._metrics[id_] for id_ in metrics.tolist()]
        arrays["uplink"] = arrays.pop("uplink_id", None)
        return arrays | {
            "station": Coded(own, [device.station for device in known]),
            "station_name": Coded(own, [device.station_name for device in known]),
            "dev_eui": Coded(own, [device.dev_eui for device in known]),
            "metric": Coded(of, [metric for metric, _ in named]),
            "unit": Coded(of, [unit for _, unit in named]),
        }


def _metrics(connection: psycopg.Connection[Any], keys: Sequence[str]) -> dict[int, tuple[str, str]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute("SELECT id, key, unit FROM metric").fetchall()
    unknown = set(keys) - {key for _, key, _ in rows}
    if unknown:
        raise UsageError(
            f"metrics: unknown metric {min(unknown)[:60]!r}; GET /api/v1/metrics-catalogue lists them"
        )
    return {id_: (key, unit) for id_, key, unit in rows if not keys or key in keys}
