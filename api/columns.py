"""Columns as PostgreSQL sends them in arrays, straight into numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.rows import TupleRow, tuple_row
from psycopg.sql import Composed

_HEADER = 20  # dimensions, flags, type, length, lower bound: four bytes each
_POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01, µs after 1970


class _Loader(Loader):
    """An array of one dimension without NULL, in PostgreSQL's binary form."""

    format = Format.BINARY
    kind = ">i8"

    def load(self, data: Buffer) -> npt.NDArray[Any]:
        cells = np.frombuffer(data, [("length", ">i4"), ("value", self.kind)], offset=_HEADER)
        return cells["value"].astype(self.kind.replace(">", "="))


class _Int8(_Loader):
    pass


class _Int4(_Loader):
    kind = ">i4"


class _Int2(_Loader):
    kind = ">i2"


class _Float8(_Loader):
    kind = ">f8"


class _Time(_Loader):
    """µs since 1970 UTC."""

    def load(self, data: Buffer) -> npt.NDArray[Any]:
        return super().load(data) + _POSTGRES_EPOCH


def array_cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[TupleRow]:
    """A cursor whose arrays arrive as numpy's."""
    cursor = connection.cursor(binary=True, row_factory=tuple_row)
    _load_arrays(cursor)
    return cursor


async def read_arrays(
    connection: psycopg.AsyncConnection[Any], query: LiteralString | Composed, values: Mapping[str, Any]
) -> Sequence[npt.NDArray[Any]] | None:
    """The one row of a query of `array_agg`s; None when nothing was there to aggregate."""
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        _load_arrays(cursor)
        row = await (await cursor.execute(query, values)).fetchone()
    return row if row is not None and row[0] is not None else None


def _load_arrays(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> None:
    types = {"int8": _Int8, "int4": _Int4, "int2": _Int2, "float8": _Float8, "timestamptz": _Time}
    for name, loader in types.items():
        cursor.adapters.register_loader(cursor.adapters.types[name].array_oid, loader)
