"""Keyset paging: a cursor holds the key of the last row seen, so rows that arrive meanwhile move nothing."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from .problems import Problem

T = TypeVar("T")
Row = dict[str, Any]

_BIGINT = 2**63
_LIST = "list"


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: str | None = Field(default=None, description="The `cursor` of the next page; null on the last.")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What the caller asked for."""

    limit: int
    cursor: str | None

    @property
    def fetch(self) -> int:
        """Rows to fetch: one more than shown tells whether a next page exists."""
        return self.limit + 1


def paging(most: int, usual: int = 100) -> Callable[..., PageRequest]:
    """A dependency for lists whose answers may have `most` items, `usual` when the caller does not say."""
    limits = Query(default=usual, ge=1, le=most, description="Most items in one answer.")

    def page_request(
        limit: int = limits,
        cursor: Annotated[
            str | None, Query(max_length=1000, description="`next` of the page before; opaque.")
        ] = None,
    ) -> PageRequest:
        return PageRequest(limit, cursor)

    return page_request


Paging = Annotated[PageRequest, Depends(paging(1000))]


def whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -_BIGINT <= value < _BIGINT:
        raise ValueError
    return value


def number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError
    return float(value)


def text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def moment(value: object) -> datetime:
    parsed = datetime.fromisoformat(text(value))
    if parsed.tzinfo is None:
        raise ValueError
    return parsed


def uuid(value: object) -> UUID:
    return UUID(text(value))


class Keyset:
    """The order of one list: the columns that make it, and how each is read back from a cursor."""

    def __init__(self, name: str, **columns: Callable[[object], Any]) -> None:
        self._name = name
        self._columns = columns

    def after(self, cursor: str | None) -> Row | None:
        """The key the next page begins after, by column; None at the start.

        Raises:
            Problem: 400, the cursor is not one this list gave.
        """
        if cursor is None:
            return None
        try:
            columns = {_LIST: self._own_name, **self._columns}
            values = json.loads(
                base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            )
            key = {column: read(value) for (column, read), value in zip(columns.items(), values, strict=True)}
        except (ValueError, TypeError, binascii.Error, RecursionError):
            raise Problem(
                400, "bad-cursor", "This cursor is not one this list gave; start again without it."
            ) from None
        del key[_LIST]
        return key

    def cut(self, rows: Sequence[Row], page: PageRequest) -> tuple[list[Row], str | None]:
        """The rows to show and the cursor of the page after them."""
        shown = list(rows[: page.limit])
        return shown, self.cursor(shown[-1]) if len(rows) > page.limit else None

    def _own_name(self, value: object) -> str:
        if value != self._name:
            raise ValueError
        return self._name

    def cursor(self, row: Row) -> str:
        """The cursor of the page that begins after this row."""
        values = [_plain(row[column]) for column in self._columns]
        data = json.dumps([self._name, *values], separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
