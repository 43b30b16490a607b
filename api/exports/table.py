"""Rows on their way into a file: columns, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy.typing as npt

Key = Sequence[Any]
"""Of a row within its export, as JSON holds it; the next rows come after it."""
Kind = Literal["time", "text", "number", "whole", "id", "flag"]


class Field(NamedTuple):
    """A column. Times are µs since 1970 UTC; an `id` is a whole number that JavaScript could not hold."""

    name: str
    kind: Kind
    about: str


class Coded(NamedTuple):
    """Texts that repeat: `names[codes[n]]` is that of row n."""

    codes: npt.NDArray[Any]
    names: Sequence[str | None]


Column = Coded | npt.NDArray[Any] | list[Any]


class Block(NamedTuple):
    """Some rows, by field name. In an array of numbers NaN stands for none, in a list None.

    `key` is that of the last row, `share` how much of the export is done with it, from 0 to 1.
    """

    columns: Mapping[str, Column]
    rows: int
    key: Key
    share: float


class Source(Protocol):
    """Where the rows of an export come from, in the order of their keys."""

    @property
    def fields(self) -> Sequence[Field]: ...

    def blocks(self, after: Key | None) -> Iterator[Block]:
        """The rows after this key, each once. Rows that are stored meanwhile may come or not."""
        ...
