"""XLSX, row by row: a workbook cannot be continued, and Excel's sheets end at 1,048,576 rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from xlsxwriter import Workbook

from telemetry.errors import UsageError

from .selection import Selection
from .table import Block, Coded, Column, Field
from .text import OFFSETS, State, folder_of

SHEET_ROWS = 1_048_575  # without the head
MOST_ROWS = 3_000_000
_WIDTHS = {"time": 22, "text": 20, "number": 12}


class XlsxSink:
    """Sheets of up to 1,048,575 rows under a head; texts stay texts, so that none becomes a formula."""

    def __init__(self, file: Path, selection: Selection, fields: Sequence[Field]) -> None:
        folder = folder_of(file)
        folder.mkdir(exist_ok=True)
        options = {
            "constant_memory": True, "tmpdir": str(folder), "strings_to_formulas": False,
            "strings_to_urls": False, "strings_to_numbers": False, "nan_inf_to_errors": True,
        }  # fmt: skip
        self._path = file
        self._book = Workbook(str(file), options)
        self._head = self._book.add_format({"bold": True})
        self._time = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._shift = OFFSETS[selection.zone]
        self._zone = "UTC" if selection.zone == "Z" else f"UTC{selection.zone}"
        self._fields = fields
        self._rows = 0
        self._sheet: Any = None
        self._row = 0
        self._next_sheet()

    def write(self, block: Block) -> None:
        self._rows += block.rows
        if self._rows > MOST_ROWS:
            raise UsageError(
                f"An XLSX holds at most {MOST_ROWS:,} rows here; choose Parquet or CSV, or a shorter span."
            )
        columns = [self._cells(field, block.columns[field.name]) for field in self._fields]
        for cells in zip(*columns, strict=True):
            if self._row == SHEET_ROWS:
                self._next_sheet()
            self._row += 1
            for place, (field, cell) in enumerate(zip(self._fields, cells, strict=True)):
                if cell is None or cell != cell:
                    continue
                if field.kind == "time":
                    self._sheet.write_datetime(self._row, place, cell, self._time)
                elif isinstance(cell, str):
                    self._sheet.write_string(self._row, place, cell)
                else:
                    self._sheet.write_number(self._row, place, cell)

    def checkpoint(self) -> State | None:
        """Nothing to go on from."""
        return None

    def finish(self) -> None:
        self._book.close()
        with self._path.open("rb") as opened:
            os.fsync(opened.fileno())

    def close(self) -> None:
        for sheet in self._book.worksheets():
            sheet.row_data_fh.close()
        self._book.fileclosed = True  # what there is of it is no workbook

    def _next_sheet(self) -> None:
        self._sheet = self._book.add_worksheet()
        self._sheet.freeze_panes(1, 0)
        for place, field in enumerate(self._fields):
            self._sheet.set_column(place, place, _WIDTHS.get(field.kind, 9))
            name = f"{field.name} ({self._zone})" if field.kind == "time" else field.name
            self._sheet.write_string(0, place, name, self._head)
        self._row = 0

    def _cells(self, field: Field, column: Column) -> list[Any]:
        if isinstance(column, Coded):
            return list(np.array(column.names, object)[column.codes])
        cells = column if isinstance(column, list) else column.tolist()
        if field.kind == "time":
            return [None if time is None else self._local(time) for time in cells]
        return [str(cell) for cell in cells] if field.kind == "id" else cells

    def _local(self, micros: int) -> datetime:
        return (np.datetime64(micros + self._shift, "us")).astype(datetime)  # type: ignore[no-any-return]
