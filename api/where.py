"""Conditions that are put together from what a request filters by."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg.sql import SQL, Composed

from .paging import Row


class Where:
    """Terms that must all hold, each with its parameters; a term whose filter is None is left out.

    A condition that is absent lets the planner choose the index; ``(%s IS NULL OR …)`` would hide it.
    """

    def __init__(self, **values: Any) -> None:
        self._terms: list[SQL] = []
        self.values: dict[str, Any] = values

    def add(self, term: LiteralString, **values: Any) -> None:
        if all(value is not None for value in values.values()):
            self._terms.append(SQL(term))
            self.values.update(values)

    def after(self, term: LiteralString, key: Row | None) -> None:
        """Continue after the key of a cursor, whose columns the term names as ``%(after_…)s``."""
        if key is not None:
            self.add(term, **{f"after_{column}": value for column, value in key.items()})

    @property
    def sql(self) -> Composed:
        return SQL(" AND ").join(self._terms or [SQL("true")])


def like(words: str | None) -> str | None:
    """An ILIKE pattern that finds these words anywhere, taken literally."""
    if not words:
        return None
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
