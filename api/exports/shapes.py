"""What readings and rollups are as tables: their columns, and the keys of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.sql import SQL, Composable, Identifier

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
_READING_FIELDS = (
    *_NAMES,
    Field("value", "number", "in the unit"),
    Field("raw", "number", "before calibration, where one holds"),
    Field("quality", "whole", "QARTOD flag: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing"),
    Field("uplink", "id", "frame it came with"),
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
)


class Shape(NamedTuple):
    """A relation, its fields, the key of a row within its series, and what to read of it by name."""

    relation: str
    fields: Sequence[Field]
    key: tuple[str, ...]
    columns: dict[str, Composable]


def _shape(relation: str, fields: Sequence[Field], key: tuple[str, ...], *plain: str) -> Shape:
    """`plain` columns are never NULL; of numbers that may be, NaN stands for it."""
    columns: dict[str, Composable] = {name: Identifier(name) for name in ("device_id", "metric_id", *plain)}
    for field in fields:
        if field.kind == "number":  # arrays of the domain that some are of would come as text
            number = SQL("{}::float8") if field.name in plain else SQL("coalesce({}::float8, 'NaN')")
            columns[field.name] = number.format(Identifier(field.name))
    return Shape(relation, fields, key, columns)


READINGS = _shape(
    "reading", _READING_FIELDS, ("time", "channel", "uplink_id", "value"),
    "time", "channel", "value", "quality", "uplink_id",
)  # fmt: skip


def rollups(resolution: str) -> Shape:
    """Of `reading_1h` or `reading_1d`."""
    return _shape(
        f"reading_{resolution}", _ROLLUP_FIELDS, ("time", "channel"), "time", "channel", "count", "good"
    )
