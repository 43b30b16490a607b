"""Parquet: typed columns, compressed with Zstandard, in row groups.

A Parquet file ends with its table of contents and cannot be appended to. So what is written goes into parts,
each a whole file, which an interrupted export keeps; at the end they become one, row group by row group.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .selection import Selection
from .table import Block, Coded, Column, Field
from .text import State, folder_of

ROW_GROUP = 131_072
_TYPES = {
    "time": pa.timestamp("us", tz="UTC"),
    "text": pa.dictionary(pa.int32(), pa.string()),
    "number": pa.float64(),
    "whole": pa.int64(),
    "id": pa.int64(),
    "flag": pa.bool_(),
}


class ParquetSink:
    """`about` becomes the file's metadata, a field's `about` that of its column."""

    def __init__(
        self, file: Path, fields: Sequence[Field], about: dict[str, str], state: State | None
    ) -> None:
        pa.set_memory_pool(pa.system_memory_pool())  # what is freed goes back to the system
        self._file = file
        self._parts = folder_of(file)
        self._count = state["parts"] if state else 0
        self._writer: pq.ParquetWriter | None = None
        self._fields = fields
        self._schema = pa.schema(
            [pa.field(f.name, _TYPES[f.kind], metadata={"description": f.about}) for f in fields], about
        )
        self._parts.mkdir(exist_ok=True)

    def write(self, block: Block) -> None:
        if self._writer is None:
            self._writer = self._open(self._part(self._count))
        arrays = [_array(field, block.columns[field.name]) for field in self._fields]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def checkpoint(self) -> State:
        """What is written is on the disk as whole parts; with the answer another sink goes on from here."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            _sync(self._part(self._count))
            self._count += 1
        return {"parts": self._count}

    def finish(self) -> None:
        self.checkpoint()
        with self._open(self._file) as writer:
            for table in self._row_groups():
                writer.write_table(table.unify_dictionaries(), row_group_size=ROW_GROUP)
        _sync(self._file)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _row_groups(self) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for number in range(self._count):
            with pq.ParquetFile(self._part(number)) as part:
                for group in range(part.num_row_groups):
                    waiting.append(part.read_row_group(group, use_threads=False))
                    if sum(map(len, waiting)) >= ROW_GROUP:
                        yield pa.concat_tables(waiting)
                        waiting = []
        if waiting:
            yield pa.concat_tables(waiting)

    def _open(self, file: Path) -> pq.ParquetWriter:
        return pq.ParquetWriter(file, self._schema, compression="zstd")

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:06}.parquet"


def _array(field: Field, column: Column) -> pa.Array:
    kind = _TYPES[field.kind]
    if isinstance(column, Coded):
        none = np.array([name is None for name in column.names])[column.codes]
        codes = pa.array(column.codes, pa.int32(), mask=none)  # a dictionary must not hold a null
        return pa.DictionaryArray.from_arrays(codes, pa.array([name or "" for name in column.names]))
    if field.kind == "text":
        return pa.array(column, pa.string()).dictionary_encode()
    # NaN stands for none; of readings there is no other.
    return pa.array(column, kind, from_pandas=True)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def about(selection: Selection, version: str) -> dict[str, str]:
    """The metadata of a file: who made it, and of what."""
    chosen: dict[str, Any] = selection.model_dump(
        mode="json", by_alias=True, exclude={"format", "bom", "zone"}
    )
    return {
        "quantrac.version": version,
        "quantrac.selection": repr(chosen),
        "source": "Quantrac, LoRaWAN sensors",
        "units": "UCUM, in the column unit (https://ucum.org)",
        "quality": "QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing",
    }
