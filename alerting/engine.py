"""Follows the writers' lanes and keeps alerts true to the readings, in event time.

The state of every evaluation is derived: from the log of transitions, which holds the machine after each,
and the readings since. What is kept in memory only saves reading them again. A reading newer than all of its
series moves the machine on; any other, and any that replaces or takes back another, makes the timeline be
worked out anew from the last change before it, and the difference is logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psycopg
import structlog

from telemetry.clock import from_micros, micros
from telemetry.store import lanes
from telemetry.store.pool import Pool

from . import outbox
from .held_up import REFUSALS, Held, HeldUp
from .log import (
    Recorded,
    Series,
    let_go,
    newest_before,
    read_firing,
    read_history,
    read_points,
    record,
)
from .reconcile import Logged, reconcile
from .timeline import Change, Ladder, Machine, advance, one_a_moment
from .watch import Watch, Watched, read_watch

_log = structlog.get_logger()
FOLLOWER = "alerting"
_FOREVER = micros(datetime(9999, 1, 1, tzinfo=UTC))
Points = list[tuple[int, float]]


class _State(NamedTuple):
    """How far one series is evaluated: machine, newest event time seen (µs), and the alert of its episode."""

    ladder: Ladder
    machine: Machine
    as_of: int
    alert_id: UUID | None


class _News(NamedTuple):
    """Readings that one rule looks at: `points` of one series, oldest first, one a moment.

    From `since` (µs) on, where it is set, stored readings were replaced, or are gone: the points are then not
    all that is new.
    """

    series: Series
    watched: Watched
    points: Points
    since: int | None

    @property
    def first(self) -> int:
        """The time (µs) of the earliest news."""
        times = [self.since, *(time for time, _ in self.points[:1])]
        return min(time for time in times if time is not None)

    def follows(self, state: _State) -> bool:
        """Whether nothing but the points came since this state, and they came behind it."""
        return self.since is None and self.points[0][0] > state.as_of


class Engine:
    """One evaluator. Several may run; one at a time works, the others stand by."""

    def __init__(self, pool: Pool, *, batches: int = 50, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._batches = batches
        self._held = HeldUp(clock)
        self._forget()

    def _forget(self) -> None:
        """Everything below can be read again from the store."""
        self._watch = Watch()
        self._states: dict[Series, _State] = {}
        self._cursor: dict[int, int] = {}

    async def step(self) -> int:
        """Evaluate what was committed since the last step; returns how many batches that was.

        Results and cursor are committed together, so a crash repeats the step or finds it done. A series
        that cannot be evaluated is said and skipped; its next reading finds everything in the store. One that
        the database refuses is left out of the steps to come, and tried by itself until it is evaluated.

        Raises:
            psycopg.Error: the step is undone and may be tried again.
        """
        try:
            async with self._pool.connection() as connection, connection.transaction():
                if not await lanes.lock_follower(connection, FOLLOWER):
                    return 0
                batches = await self._locked_step(connection)
            if due := self._held.due():
                await self._try_again(*due)
        except BaseException:
            self._forget()  # what of it was committed, nobody knows
            raise
        return batches

    async def _locked_step(self, connection: psycopg.AsyncConnection[Any]) -> int:
        cursor = await lanes.cursor_of(connection, FOLLOWER)
        if cursor != self._cursor:
            self._states.clear()  # another evaluator moved on; what we knew is old
        batches = await lanes.pending(connection, FOLLOWER, self._batches)
        await self._refresh_watch(connection)
        if batches:
            known_at = max(batch.committed_at for batch in batches)
            readings = np.concatenate([batch.readings for batch in batches])
            rewritten = np.repeat([batch.rewritten for batch in batches], [len(b.readings) for b in batches])
            for news in self._news(readings, rewritten):
                await self._advance(connection, news, known_at)
            await lanes.advance(connection, FOLLOWER, batches)
        self._cursor = {**cursor, **{batch.lane: batch.seq for batch in batches}}
        return len(batches)

    async def _try_again(self, series: Series, held: Held) -> None:
        """Evaluate one that was refused, in a transaction of its own."""
        watched = (one for one in self._watch.of(*series[1:]) if one.rule.id == series.rule_id)
        try:
            async with self._pool.connection() as connection, connection.transaction():
                if not await lanes.lock_follower(connection, FOLLOWER):
                    return
                for one in watched:  # none, if the rule went meanwhile
                    await self._evaluate(connection, _News(series, one, [], held.since), None, held.known_at)
        except REFUSALS:
            rest = self._held.refused(series)
            _log.warning("series_held_up", rule=series.rule_id, device_id=series.device_id, retry_in=rest)
        else:
            self._held.over(series)

    async def _refresh_watch(self, connection: psycopg.AsyncConnection[Any]) -> None:
        cursor = await connection.execute("SELECT version, now() AS now FROM registry_version")
        row = await cursor.fetchone()
        assert row is not None
        if row["version"] == self._watch.version:
            return
        self._watch = await read_watch(connection, row["version"])
        for alert_id, series in await read_firing(connection):
            if not self._watch.looks_at(*series):
                self._states.pop(series, None)
                item = await let_go(connection, alert_id, row["now"])
                if item is not None:
                    await outbox.publish(connection, alert_id=item.alert_id, seq=item.seq)

    def _news(self, readings: lanes.Readings, rewritten: npt.NDArray[np.bool_]) -> Iterator[_News]:
        """What these readings say of every (rule, series) that they concern."""
        chosen = np.flatnonzero(np.isin(readings["metric_id"], self._watch.metric_ids))
        if not len(chosen):
            return
        order = [readings[k][chosen] for k in ("value", "time", "channel", "metric_id", "device_id")]
        chosen = chosen[np.lexsort(order)]
        wanted, rewritten = readings[chosen], rewritten[chosen]
        keys = wanted[["device_id", "metric_id", "channel"]]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        for group, anew in zip(np.split(wanted, starts[1:]), np.split(rewritten, starts[1:]), strict=True):
            since = int(group["time"][anew].min()) if anew.any() else None
            device_id, metric_id, channel = (int(v) for v in group[0][["device_id", "metric_id", "channel"]])
            for watched in self._watch.of(device_id, metric_id, channel):
                usable = group[np.isin(group["quality"], list(watched.rule.quality))]
                if len(usable) or since is not None:
                    points = zip(usable["time"].tolist(), usable["value"].tolist(), strict=True)
                    series = Series(watched.rule.id, device_id, metric_id, channel)
                    yield _News(series, watched, one_a_moment(watched.ladder, points), since)

    async def _advance(
        self,
        connection: psycopg.AsyncConnection[Any],
        news: _News,
        known_at: datetime,
    ) -> None:
        """Move one series on: in memory when nothing comes of it, else in a savepoint of its own."""
        series, ladder, points = news.series, news.watched.ladder, news.points
        if series in self._held:
            self._held.add(series, news.first, known_at)
            return
        state = self._states.get(series)
        if state is not None and state.ladder != ladder:  # a level was moved: go on from here
            state = state._replace(ladder=ladder, machine=ladder.resume(state.machine))
        if state is not None and news.follows(state):
            machine, changes = advance(ladder, state.machine, points)
            if not changes:
                self._states[series] = _State(ladder, machine, points[-1][0], state.alert_id)
                return
        await self._evaluate(connection, news, state, known_at)

    async def _evaluate(
        self,
        connection: psycopg.AsyncConnection[Any],
        news: _News,
        state: _State | None,
        known_at: datetime,
    ) -> None:
        series = news.series
        try:
            async with connection.transaction():
                self._states[series] = await self._log_changes(connection, news, state, known_at)
        except REFUSALS:
            self._held.add(series, news.first, known_at)
            raise
        except psycopg.OperationalError:
            raise
        except Exception:
            self._states.pop(series, None)
            _log.exception("series_not_evaluated", rule=series.rule_id, device_id=series.device_id)

    async def _log_changes(
        self,
        connection: psycopg.AsyncConnection[Any],
        news: _News,
        state: _State | None,
        known_at: datetime,
    ) -> _State:
        series, (rule, ladder), points = news.series, news.watched, news.points
        if state is not None and news.follows(state):
            found = _Timeline(*advance(ladder, state.machine, points), state.alert_id, [], points[-1][0])
        else:
            found = await _work_out_anew(connection, news)
        written: list[Recorded] = []
        for plan in reconcile(found.alert_id, found.logged, found.changes):
            written += await record(
                connection, series, self._watch.place(series.device_id), ladder, plan,
                known_at=known_at, as_of=state.as_of if state else None, max_age=rule.max_age,
            )  # fmt: skip
        alert_id = found.alert_id
        if written or found.logged:
            alert_id = await _episode(connection, series) if found.machine.step else None
        if written:
            paged = _worth_telling(written, found, alert_id, rule.max_age, known_at)
            for item in paged:
                await outbox.publish(connection, alert_id=item.alert_id, seq=item.seq)
            _log.info("alert_changed", rule=rule.id, device_id=series.device_id, transitions=len(written),
                      paged=len(paged))  # fmt: skip
        return _State(ladder, found.machine, found.as_of, alert_id)


class _Timeline(NamedTuple):
    """A series worked out from a state on: `alert_id` was of that state, `logged` stands in the log since."""

    machine: Machine
    changes: list[Change]
    alert_id: UUID | None
    logged: list[Logged]
    as_of: int


async def _work_out_anew(connection: psycopg.AsyncConnection[Any], news: _News) -> _Timeline:
    """The timeline from the last change before what is new on, from readings and log alone."""
    series, (rule, ladder), first = news.series, news.watched, news.first
    history = await read_history(connection, series, first)
    before = [i for i, change in enumerate(history.changes) if change.at < first]
    base = max([*before, *([history.end] if history.end is not None else [])], default=None)
    if base is not None:
        start, after = ladder.resume(history.machines[base]), history.changes[base].at
        alert_id = history.changes[base].alert_id if start.step else None
    else:
        # What held before the newest earlier reading for `hold` would have been proven by that reading.
        earlier = await newest_before(connection, series, rule, first)
        after = (first if earlier is None else earlier - ladder.hold) - 1
        start, alert_id = ladder.start(), None
    known = one_a_moment(ladder, await read_points(connection, series, rule, after))
    machine, changes = advance(ladder, start, known)
    logged = history.changes[0 if base is None else base + 1 :]
    as_of = max(time for time, _ in [*known[-1:], *news.points[-1:], (after, 0.0)])
    return _Timeline(machine, changes, alert_id, logged, as_of)


def _worth_telling(
    written: list[Recorded], found: _Timeline, alert_id: UUID | None, max_age: float, known_at: datetime
) -> list[Recorded]:
    """Transitions young enough to page, and the one that a present danger began with, however old.

    A flood that rose while we were away makes no newer transition: its last one is told as long as the
    readings that prove it are young.
    """
    told = [item for item in written if (known_at - item.at).total_seconds() <= max_age]
    still = (known_at - from_micros(found.as_of)).total_seconds() <= max_age
    if not any(item.alert_id == alert_id for item in told) and found.changes and still:
        told += [item for item in written if item.alert_id == alert_id][-1:]
    return told


async def _episode(connection: psycopg.AsyncConnection[Any], series: Series) -> UUID | None:
    """The alert that the newest change of this series belongs to."""
    history = await read_history(connection, series, _FOREVER)
    return history.changes[-1].alert_id if history.changes else None
