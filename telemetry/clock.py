"""Time as something that is handed in, so that logic can be run again and tested."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time, always in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by

    def set(self, to: datetime) -> None:
        self._now = to


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000
"""A reading's time is a multiple of so many µs: a frame alone may be two seconds on the air, and what a clock
adds below a second would be half of a reading's bytes (docs/decisions/0009-store-editions.md)."""


def micros(time: datetime) -> int:
    """µs since 1970-01-01 UTC, exactly."""
    return (time - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """The time in UTC, of µs since 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=value)


def whole_second(value: int) -> int:
    """The time a reading of this time, in µs since 1970, is stored under: its second's begin."""
    return value - value % SECOND
