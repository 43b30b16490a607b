"""Which codecs are left alone for a while because they cost too much time; pure, the time is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STRIKES = 2  # time-outs and slow failures; taking the process along counts as many
FIRST_SECONDS = 10.0
LAST_SECONDS = 600.0
FORGET_SECONDS = 60.0


@dataclass
class _Record:
    strikes: int = 0
    last: float = 0.0
    until: float = 0.0
    seconds: float = 0.0


class Quarantine:
    """`clock` gives seconds that never go back. Not for use by several threads at once.

    After `STRIKES` a codec is out for `FIRST_SECONDS`, then tried again with one strike left, and out for
    twice as long each time it fails again. All is forgotten after `FORGET_SECONDS` in use without a strike.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def seconds_left(self, codec: str) -> float:
        """0 when the codec may be called."""
        record = self._records.get(codec)
        return max(0.0, record.until - self._clock()) if record else 0.0

    def strikes(self, codec: str) -> int:
        """What it is charged with now: fewer than `STRIKES`."""
        record = self._current(codec)
        return record.strikes if record else 0

    def strike(self, codec: str, weight: int = 1) -> None:
        """It timed out or failed slowly, or (`weight` `STRIKES`) took its process with it."""
        record = self._current(codec) or self._records.setdefault(codec, _Record())
        record.last = self._clock()
        record.strikes += weight
        if record.strikes >= STRIKES:
            record.seconds = min(record.seconds * 2 or FIRST_SECONDS, LAST_SECONDS)
            record.until = record.last + record.seconds
            record.strikes = STRIKES - 1

    def out(self) -> list[str]:
        """The codecs left alone at this moment."""
        # A copy first: whoever shows it may be another thread than who strikes.
        return [codec for codec, record in list(self._records.items()) if record.until > self._clock()]

    def _current(self, codec: str) -> _Record | None:
        record = self._records.get(codec)
        if record and self._clock() > max(record.last, record.until) + FORGET_SECONDS:
            del self._records[codec]
            return None
        return record
