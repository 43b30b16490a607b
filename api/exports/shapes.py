"""What readings and rollups are as tables: their columns, and the keys of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from psycopg.sql import SQL, Composable, Identifier

from ..buckets import WIDTHS, Resolution
from .table import Field

_NAMES = (
    Field("time", "time", "when it was measured; of rollups the beginning of the bucket"),
    Field("station", "text", "code of the station where the device was at that time"),
    Field("station_name", "text", "its name"),
    Field("dev_eui", "text", "DevEUI of the device"),
    Field("metric", "text", "quantity"),
    Field("channel", "whole", "which of several sensors of one kind"),
    Field("unit", "text", "unit of the values, UCUM"),
)
_SIMULATED = Field("simulated", "flag", "whether the device is a simulated one")
_READING_FIELDS = (
    *_NAMES,
    Field("value", "number", "in the unit"),
    Field("raw", "number", "before calibration, where one holds"),
    Field("quality", "whole", "QARTOD flag: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing"),
    Field("uplink", "id", "frame it came with"),
    _SIMULATED,
)
_ROLLUP_FIELDS = (
    *_NAMES,
    Field("count", "whole", "readings"),
    Field("good", "whole", "readings of quality 1"),
    Field("mean", "number", "of readings whose quality is neither 4 nor 9, as what follows"),
    Field("min", "number", "lowest"),
    Field("max", "number", "highest"),
    Field("last", "number", "newest"),
    Field("sum", "number", "of metrics that tell an amount per interval"),
    Field("coverage", "number", "share of the readings that the interval promises, at most 1"),
    _SIMULATED,
)
_BETWEEN = SQL("{between}(ARRAY[p.device_id], ARRAY[p.metric_id], p.since, p.until)")


class Shape(NamedTuple):
    """A relation, its fields, the key of a row within its series, and what to read of it by name.

    `rows` are those of `p`, a device and a metric from `since` until before `until`, and maybe more. A row
    stands for readings from its time on, as long as `width`.
    """

    relation: str
    rows: Composable
    width: timedelta
    fields: Sequence[Field]
    key: tuple[str, ...]
    columns: dict[str, Composable]


def _shape(
    relation: str, rows: Composable, width: timedelta,
    fields: Sequence[Field], key: tuple[str, ...], *plain: str,
) -> Shape:  # fmt: skip
    """`plain` columns are never NULL; of numbers that may be, NaN stands for it."""
    columns: dict[str, Composable] = {name: Identifier(name) for name in ("device_id", "metric_id", *plain)}
    for field in fields:
        if field.kind == "number":  # arrays of the domain that some are of would come as text
            number = SQL("{}::float8") if field.name in plain else SQL("coalesce({}::float8, 'NaN')")
            columns[field.name] = number.format(Identifier(field.name))
    return Shape(relation, rows, width, fields, key, columns)


READINGS = _shape(
    "reading", Identifier("reading"), timedelta(), _READING_FIELDS, ("time", "channel", "uplink_id", "value"),
    "time", "channel", "value", "quality", "uplink_id",
)  # fmt: skip


def rollups(resolution: Resolution) -> Shape:
    """Of `reading_1h` or `reading_1d`."""
    relation = f"reading_{resolution}"
    rows = _BETWEEN.format(between=Identifier(f"{relation}_between"))
    return _shape(
        relation, rows, WIDTHS[resolution], _ROLLUP_FIELDS, ("time", "channel"),
        "time", "channel", "count", "good",
    )  # fmt: skip
