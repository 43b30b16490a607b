"""Series that the database refused to have evaluated: they wait, so that the others go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import psycopg

from .log import Series

REFUSALS = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
"""A statement took too long, or waited for a lock in vain: that is no fault of the database as a whole."""
LEAST_REST, MOST_REST = 3.0, 60.0  # seconds


class Held(NamedTuple):
    """What is new of a series: from event time `since` (µs) on, known since `known_at`."""

    since: int
    known_at: datetime


class HeldUp:
    """In memory alone: after a restart, the next reading of such a series finds everything in the store."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only ever grow."""
        self._clock = clock
        self._series: dict[Series, Held] = {}
        self._rest = LEAST_REST
        self._again = 0.0

    def __contains__(self, series: Series) -> bool:
        return series in self._series

    def add(self, series: Series, since: int, known_at: datetime) -> None:
        """Also more of one that waits already."""
        if not self._series:
            self._again = self._clock() + self._rest
        held = self._series.get(series, Held(since, known_at))
        self._series[series] = Held(min(held.since, since), min(held.known_at, known_at))

    def due(self) -> tuple[Series, Held] | None:
        """The one to try now, if any."""
        if not self._series or self._clock() < self._again:
            return None
        return next(iter(self._series.items()))

    def refused(self, series: Series) -> float:
        """It was again: another is next, after the seconds that this returns; more each time."""
        self._series[series] = self._series.pop(series)
        self._rest = min(2 * self._rest, MOST_REST)
        self._again = self._clock() + self._rest
        return self._rest

    def over(self, series: Series) -> None:
        del self._series[series]
        self._rest = LEAST_REST
