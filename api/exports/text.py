"""CSV and NDJSON: a line a row, so that an interrupted file goes on where its last whole block ended."""

from __future__ import annotations

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .selection import Selection
from .table import Block, Coded, Column, Field

_SECOND = 1_000_000
OFFSETS = {"Z": 0, "+07:00": 7 * 3600 * _SECOND}
# A spreadsheet takes a cell that begins so for a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BOM = b"\xef\xbb\xbf"

State = dict[str, Any]
_Write = Callable[[Any], str]


def folder_of(part: Path) -> Path:
    """Where a format keeps what it needs beside the file that grows."""
    return part.with_name(f"{part.name}.d")


class TextSink(ABC):
    """Lines into a file; `line` joins the cells of a row, `cell` writes a text, `none` stands for nothing."""

    def __init__(
        self, file: Path, selection: Selection, fields: Sequence[Field], state: State | None
    ) -> None:
        self._zone = selection.zone
        self._fields = fields
        self._file = file.open("r+b" if state else "wb")
        if state:
            self._file.truncate(state["bytes"])
            self._file.seek(state["bytes"])
        else:
            self._file.write(self.head(selection))

    none = ""

    @abstractmethod
    def head(self, selection: Selection) -> bytes: ...

    @abstractmethod
    def cell(self, text: str) -> str: ...

    @abstractmethod
    def lines(self, columns: list[list[str]]) -> str: ...

    def write(self, block: Block) -> None:
        columns = [self._texts(field, block.columns[field.name]) for field in self._fields]
        self._file.write(self.lines(columns).encode())

    def checkpoint(self) -> State:
        """What is written is on the disk; with the answer another sink goes on from here."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"bytes": self._file.tell()}

    def finish(self) -> None:
        self.checkpoint()
        self.close()

    def close(self) -> None:
        self._file.close()

    def _texts(self, field: Field, column: Column) -> list[str]:
        if isinstance(column, Coded):
            names = np.array([self._text(name) for name in column.names], object)
            return list(names[column.codes])
        if field.kind == "time":
            return [self._time(time) for time in column] if isinstance(column, list) else self._times(column)
        if not isinstance(column, list) and field.kind == "whole":
            return list(map(str, column.tolist()))
        if not isinstance(column, list) and field.kind == "flag":
            return list(np.where(column, "true", "false"))
        others: dict[str, _Write] = {"text": self._text, "number": self._number, "id": self._id}
        write = others.get(field.kind, self._other)
        return [write(value) for value in (column if isinstance(column, list) else column.tolist())]

    def _text(self, text: str | None) -> str:
        return self.none if text is None else self.cell(text)

    def _number(self, value: float | None) -> str:
        return self.none if value is None or value != value else repr(value)

    def _id(self, value: int) -> str:
        return str(value)

    def _other(self, value: int | bool | None) -> str:
        return self.none if value is None else str(value).lower()

    def _time(self, time: int | None) -> str:
        return self.none if time is None else self._times(np.array([time]))[0]

    def _times(self, micros: npt.NDArray[np.int64]) -> list[str]:
        local = micros + OFFSETS[self._zone]
        whole = not (local % _SECOND).any()
        texts = np.datetime_as_string((local // _SECOND).view("M8[s]") if whole else local.view("M8[us]"))
        return [self.time_cell(text + self._zone) for text in texts.tolist()]

    def time_cell(self, text: str) -> str:
        return text


class CsvSink(TextSink):
    """RFC 4180 with a header; what a spreadsheet would take for a formula begins with an apostrophe."""

    def head(self, selection: Selection) -> bytes:
        line = ",".join(field.name for field in self._fields) + "\r\n"
        return (_BOM if selection.bom else b"") + line.encode()

    def cell(self, text: str) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow([f"'{text}" if text.startswith(_FORMULA) else text])
        return out.getvalue() if text else ""

    def lines(self, columns: list[list[str]]) -> str:
        return "\r\n".join(map(",".join, zip(*columns, strict=True))) + "\r\n"


class NdjsonSink(TextSink):
    """A JSON object a line; an id is a text, as in the interface."""

    none = "null"

    def head(self, selection: Selection) -> bytes:
        return b""

    def cell(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    def time_cell(self, text: str) -> str:
        return f'"{text}"'

    def _id(self, value: int) -> str:
        return f'"{value}"'

    def lines(self, columns: list[list[str]]) -> str:
        names = [f'"{field.name}":' for field in self._fields]
        form = "{" + ",".join(f"{name}%s" for name in names) + "}\n"
        return "".join([form % row for row in zip(*columns, strict=True)])
