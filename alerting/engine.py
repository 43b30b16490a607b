"""Follows the writers' lanes and keeps alerts true to the readings, in event time.

The state of every evaluation is derived: from the log of transitions, which holds the machine after each,
and the readings since. What is kept in memory only saves reading them again. A reading newer than all of its
series moves the machine on; any other makes the timeline be worked out anew from the last change before
it, and the difference is logged.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg
import structlog

from telemetry.store import lanes
from telemetry.store.pool import Pool
from telemetry.store.writer import micros

from . import outbox
from .log import Recorded, Series, close_orphans, read_history, read_points, record
from .reconcile import reconcile
from .timeline import Machine, advance
from .watch import Watch, Watched, read_watch

_log = structlog.get_logger()
FOLLOWER = "alerting"
_FOREVER = micros(datetime(9999, 1, 1, tzinfo=UTC))
Points = list[tuple[int, float]]


class _State(NamedTuple):
    """How far one series is evaluated: machine, newest event time seen (µs), and the alert of its episode."""

    machine: Machine
    as_of: int
    alert_id: UUID | None


class Engine:
    """One evaluator. Several may run; one at a time works, the others stand by."""

    def __init__(self, pool: Pool, *, batches: int = 50) -> None:
        self._pool = pool
        self._batches = batches
        self._watch = Watch()
        self._states: dict[Series, _State] = {}

    async def step(self) -> int:
        """Evaluate what was committed since the last step; returns how many batches that was.

        Results and cursor are committed together, so a crash repeats the step or finds it done.
        """
        changed: dict[Series, _State] = {}
        async with self._pool.connection() as connection, connection.transaction():
            if not await lanes.lock_follower(connection, FOLLOWER):
                self._states.clear()  # another evaluator moves on; what we knew gets old
                return 0
            batches = await lanes.pending(connection, FOLLOWER, self._batches)
            recorded = await self._refresh_watch(connection)
            if batches:
                known_at = max(batch.committed_at for batch in batches)
                readings = np.concatenate([batch.readings for batch in batches])
                for series, watched, points in self._groups(readings):
                    state, written = await self._evaluate(connection, series, watched, points, known_at)
                    changed[series] = state
                    recorded += written
                await lanes.advance(connection, FOLLOWER, batches)
            for item in recorded:
                await outbox.publish(connection, alert_id=item.alert_id, seq=item.seq)
        self._states.update(changed)
        return len(batches)

    async def _refresh_watch(self, connection: psycopg.AsyncConnection[Any]) -> list[Recorded]:
        row = await (
            await connection.execute("SELECT version, now() AS now FROM registry_version")
        ).fetchone()
        assert row is not None
        if row["version"] == self._watch.version:
            return []
        self._watch = await read_watch(connection, row["version"])
        self._states.clear()
        return await close_orphans(connection, [rule.id for rule in self._watch.rules], row["now"])

    def _groups(self, readings: lanes.Readings) -> Iterator[tuple[Series, Watched, Points]]:
        """Every (rule, series) that these readings concern, with its points in order of time and value."""
        wanted = readings[np.isin(readings["metric_id"], self._watch.metric_ids)]
        if not len(wanted):
            return
        wanted = wanted[
            np.lexsort([wanted[k] for k in ("value", "time", "channel", "metric_id", "device_id")])
        ]
        keys = wanted[["device_id", "metric_id", "channel"]]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        for group in np.split(wanted, starts[1:]):
            device_id, metric_id, channel = (int(v) for v in group[0][["device_id", "metric_id", "channel"]])
            for watched in self._watch.of(device_id, metric_id, channel):
                usable = group[np.isin(group["quality"], list(watched.rule.quality))]
                if len(usable):
                    points = list(zip(usable["time"].tolist(), usable["value"].tolist(), strict=True))
                    yield Series(watched.rule.id, device_id, metric_id, channel), watched, points

    async def _evaluate(
        self,
        connection: psycopg.AsyncConnection[Any],
        series: Series,
        watched: Watched,
        points: Points,
        known_at: datetime,
    ) -> tuple[_State, list[Recorded]]:
        rule, ladder = watched
        state = self._states.get(series)
        in_order = state is not None and points[0][0] > state.as_of
        if state is not None and in_order:
            machine, changes = advance(ladder, state.machine, points)
            base_alert, logged, as_of = state.alert_id, [], points[-1][0]
        else:
            history = await read_history(connection, series, points[0][0])
            base = [i for i, change in enumerate(history.changes) if change.at < points[0][0]]
            if base:
                start, after = ladder.resume(history.machines[base[-1]]), history.changes[base[-1]].at
                base_alert = history.changes[base[-1]].alert_id if start.step else None
            else:
                # A rise that began earlier and still counts would have been proven by now.
                start, after, base_alert = ladder.start(), points[0][0] - 2 * ladder.hold - 1, None
            known = await read_points(connection, series, rule, after)
            machine, changes = advance(ladder, start, known)
            logged = [c for i, c in enumerate(history.changes) if i >= len(base) and i not in history.ends]
            as_of = known[-1][0] if known else points[-1][0]
        late = state is not None and not in_order
        written: list[Recorded] = []
        alert_id = base_alert
        if changes or logged:
            for plan in reconcile(base_alert, logged, changes):
                written += await record(
                    connection, series, self._watch.place(series.device_id), ladder, plan,
                    known_at=known_at, late=late, max_age=rule.max_age,
                )  # fmt: skip
            alert_id = await _episode(connection, series) if machine.step else None
        recent = [item for item in written if (known_at - item.at).total_seconds() <= rule.max_age]
        if written:
            _log.info("alert_changed", rule=rule.id, device_id=series.device_id, transitions=len(written),
                      paged=len(recent), late=late)  # fmt: skip
        return _State(machine, as_of, alert_id), recent


async def _episode(connection: psycopg.AsyncConnection[Any], series: Series) -> UUID | None:
    """The alert that the newest change of this series belongs to."""
    history = await read_history(connection, series, _FOREVER)
    return history.changes[-1].alert_id if history.changes else None
