"""When one member of ingest did not listen, worked out from what happened to its connection. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

Why = Literal["service", "broker", "session"]
MOST_KEPT = 500


@dataclass(slots=True)
class Gap:
    """A span without a subscription; `id` is its row once it has one, `over` that it will not grow."""

    began_at: datetime
    ended_at: datetime
    why: Why
    over: bool = False
    id: int | None = None


class GapLog:
    """What has to be written of gaps; bounded, since the two oldest merge when too many wait.

    Messages that the broker kept meanwhile arrive after the gap. Only after `session` it had forgotten us.
    """

    def __init__(self) -> None:
        self._gaps: list[Gap] = []
        self._open: Gap | None = None
        self._subscribed: tuple[datetime, bool] | None = None
        self._had_session = False

    def snapshot(self, now: datetime) -> list[tuple[Gap, Gap]]:
        """Each gap with a copy of it to write; one that goes on lasts at least until `now`.

        So a process that is killed leaves it written as far as it knew.
        """
        if self._open is not None:
            self._open.ended_at = max(self._open.ended_at, now)
        return [(gap, replace(gap)) for gap in self._gaps]

    def written(self, snapshot: list[tuple[Gap, Gap]], ids: list[int]) -> bool:
        """The copies are committed under these ids; forgets what was over, and says whether anything was."""
        for (gap, _), id_ in zip(snapshot, ids, strict=True):
            gap.id = id_
        over = [gap for gap, copy in snapshot if copy.over]
        self._gaps = [gap for gap in self._gaps if not any(gap is one for one in over)]
        return bool(over)

    def resume(self, since: datetime, *, had_session: bool) -> None:
        """An earlier process of this name last lived at `since`; it may be told after `subscribed`."""
        gap = self._add(since, "service")
        if self._subscribed is None:
            self._open = gap
            self._had_session |= had_session
        else:
            at, session_present = self._subscribed
            _end(gap, at, forgotten=had_session and not session_present)

    def subscribed(self, at: datetime, *, session_present: bool) -> None:
        if self._subscribed is None:
            self._subscribed = at, session_present
        if self._open is not None:
            _end(self._open, at, forgotten=self._had_session and not session_present)
            self._open = None
        self._had_session = True

    def lost(self, at: datetime) -> None:
        if self._open is None and self._subscribed is not None:
            self._open = self._add(at, "broker")

    def _add(self, began_at: datetime, why: Why) -> Gap:
        if len(self._gaps) >= MOST_KEPT:
            first, second, *rest = self._gaps
            forgotten = "session" in (first.why, second.why)
            merged = Gap(
                min(first.began_at, second.began_at),
                max(first.ended_at, second.ended_at),
                "session" if forgotten else first.why,
                over=True,
                id=first.id,
            )
            self._gaps = [merged, *rest]
        gap = Gap(began_at, began_at, why)
        self._gaps.append(gap)
        return gap


def _end(gap: Gap, at: datetime, *, forgotten: bool) -> None:
    gap.ended_at = max(gap.ended_at, at)
    gap.over = True
    if forgotten:
        gap.why = "session"
