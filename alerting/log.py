"""Alerts and their append-only log of transitions, as the engine reads and writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import psycopg

from telemetry.clock import from_micros, micros
from telemetry.store.writer import jsonb

from .reconcile import Logged, Plan
from .rules import Rule
from .timeline import Change, Ladder, Machine


class Series(NamedTuple):
    """What a rule is evaluated on."""

    rule_id: str
    device_id: int
    metric_id: int
    channel: int


class Place(NamedTuple):
    """Where a series' device stands."""

    station_id: int | None
    simulated: bool


class History(NamedTuple):
    """The log of one series from some change on, withdrawn ones left out, oldest first."""

    changes: list[Logged]
    machines: list[Machine]
    """The state right after each of `changes`."""
    end: int | None
    """Position of the newest of `changes` at which the rule let go: evaluation starts anew after it."""


_HISTORY = """
    SELECT t.alert_id, t.seq, t.at, t.machine, t.kind
    FROM alert a JOIN transition t ON t.alert_id = a.id
    WHERE a.rule_id = %s AND a.device_id = %s AND a.metric_id = %s AND a.channel = %s
      AND t.machine IS NOT NULL AND t.at >= %s
      AND NOT EXISTS (SELECT FROM transition w WHERE w.alert_id = t.alert_id AND w.withdraws = t.seq)
    ORDER BY t.at, t.written
"""
_SINCE = """
    SELECT max(t.at) AS at FROM alert a JOIN transition t ON t.alert_id = a.id
    WHERE a.rule_id = %s AND a.device_id = %s AND a.metric_id = %s AND a.channel = %s
      AND t.machine IS NOT NULL AND t.at < %s
      AND NOT EXISTS (SELECT FROM transition w WHERE w.alert_id = t.alert_id AND w.withdraws = t.seq)
"""


async def read_history(connection: psycopg.AsyncConnection[Any], series: Series, before: int) -> History:
    """The changes from the last one before event time `before` (µs) on."""
    row = await (await connection.execute(_SINCE, (*series, from_micros(before)))).fetchone()
    since = row["at"] if row and row["at"] else from_micros(before)
    rows = await (await connection.execute(_HISTORY, (*series, since))).fetchall()
    changes, machines = [], []
    for row in rows:
        stored = msgspec.convert(row["machine"], _StoredMachine)
        changes.append(Logged(row["alert_id"], row["seq"], micros(row["at"]), stored.from_step, stored.step))
        machines.append(Machine(stored.step, stored.since))
    ends = [i for i, row in enumerate(rows) if row["kind"] == "closed"]
    return History(changes, machines, ends[-1] if ends else None)


class _StoredMachine(msgspec.Struct):
    from_step: int
    step: int
    since: tuple[int | None, ...]


_READINGS = """
    SELECT time, value FROM reading
    WHERE device_id = %s AND metric_id = %s AND channel = %s AND quality = ANY(%s) AND time > %s
    ORDER BY time, value
"""


_BEFORE = """
    SELECT time FROM reading
    WHERE device_id = %s AND metric_id = %s AND channel = %s AND quality = ANY(%s) AND time < %s
    ORDER BY time DESC LIMIT 1
"""


async def read_points(
    connection: psycopg.AsyncConnection[Any], series: Series, rule: Rule, after: int
) -> list[tuple[int, float]]:
    """The series' readings after event time `after` (µs), by time and value."""
    cursor = await connection.execute(_READINGS, (*series[1:], sorted(rule.quality), from_micros(after)))
    return [(micros(row["time"]), row["value"]) for row in await cursor.fetchall()]


async def newest_before(
    connection: psycopg.AsyncConnection[Any], series: Series, rule: Rule, at: int
) -> int | None:
    """Event time (µs) of the series' newest reading before `at`."""
    cursor = await connection.execute(_BEFORE, (*series[1:], sorted(rule.quality), from_micros(at)))
    row = await cursor.fetchone()
    return micros(row["time"]) if row else None


_OPEN = """
    INSERT INTO alert (id, rule_id, device_id, metric_id, channel, station_id, state, level, peak_level,
                       label, value, opened_at, updated_at, late, simulated, seq)
    VALUES (%s, %s, %s, %s, %s, %s, %s, 0, 0, '', 0, %s, %s, false, %s, 0)
"""
_ADD = """
    INSERT INTO transition (alert_id, seq, at, known_at, kind, from_level, to_level, label, value, late,
                            withdraws, machine, actor, note)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_STANDING = """
    SELECT at, to_level, label, value, late FROM transition t
    WHERE alert_id = %s AND machine IS NOT NULL AND kind <> 'closed'
      AND NOT EXISTS (SELECT FROM transition w WHERE w.alert_id = t.alert_id AND w.withdraws = t.seq)
    ORDER BY at, seq
"""
_UPDATE = """
    UPDATE alert SET state = %s, level = %s, peak_level = %s, label = %s, value = %s, opened_at = %s,
                     ended_at = %s, updated_at = %s, late = %s, seq = %s
    WHERE id = %s
"""


class Recorded(NamedTuple):
    """A transition that was written; `at` its event time."""

    alert_id: UUID
    seq: int
    at: datetime


async def record(
    connection: psycopg.AsyncConnection[Any],
    series: Series,
    place: Place,
    ladder: Ladder,
    plan: Plan,
    *,
    known_at: datetime,
    as_of: int | None,
    max_age: float,
) -> list[Recorded]:
    """Write one plan: withdrawals first, then the changes, then the alert as its log now has it.

    Changes up to `as_of`, the event time (µs) that was evaluated before, are marked late, and so are those
    older than `max_age` seconds at `known_at`.
    """
    alert_id = plan.alert_id
    if alert_id is None:
        alert_id, state, seq = uuid4(), "firing" if plan.firing else "resolved", 0
        opened = from_micros(plan.add[0].at)
        await connection.execute(
            _OPEN, (alert_id, *series, place.station_id, state, opened, known_at, place.simulated)
        )
    else:
        cursor = await connection.execute(
            "SELECT state, seq FROM alert WHERE id = %s FOR UPDATE", (alert_id,)
        )
        row = await cursor.fetchone()
        assert row is not None
        state, seq = row["state"], row["seq"]
        if state == "closed" and await _got_worse(connection, alert_id, ladder, plan):
            state = "firing"
    recorded = []

    async def append(at: datetime, kind: str, *values: Any) -> None:
        nonlocal seq
        seq += 1
        await connection.execute(_ADD, (alert_id, seq, at, known_at, kind, *values))
        recorded.append(Recorded(alert_id, seq, at))

    for withdrawn in plan.withdraw:
        cursor = await connection.execute(
            "SELECT at, from_level, to_level FROM transition WHERE alert_id = %s AND seq = %s",
            (alert_id, withdrawn),
        )
        taken = await cursor.fetchone()
        assert taken is not None
        await append(taken["at"], "withdrawn", taken["to_level"], taken["from_level"], None, None, True,
                     withdrawn, None, None, None)  # fmt: skip
    first = plan.alert_id is None
    for change in plan.add:
        at = from_micros(change.at)
        old = (as_of is not None and change.at <= as_of) or (known_at - at).total_seconds() > max_age
        machine = {"from_step": change.from_step, **msgspec.to_builtins(change.machine)}
        await append(at, "opened" if first else _kind(change), _level(ladder, change.from_step),
                     _level(ladder, change.to_step), _label(ladder, change), change.value, old, None,
                     jsonb(machine), None, None)  # fmt: skip
        first = False
    await _refresh(connection, alert_id, state, seq, known_at)
    return recorded


async def _got_worse(
    connection: psycopg.AsyncConnection[Any], alert_id: UUID, ladder: Ladder, plan: Plan
) -> bool:
    """Whether an alert that somebody closed now rises above every level it ever had."""
    cursor = await connection.execute(
        "SELECT max(to_level) AS peak FROM transition WHERE alert_id = %s AND machine IS NOT NULL",
        (alert_id,),
    )
    row = await cursor.fetchone()
    peak = row["peak"] or 0 if row else 0
    return any(_level(ladder, change.to_step) > peak for change in plan.add)


async def _refresh(
    connection: psycopg.AsyncConnection[Any], alert_id: UUID, state: str, seq: int, known_at: datetime
) -> None:
    """Bring the alert's row in line with its log; an alert somebody closed stays closed."""
    standing = await (await connection.execute(_STANDING, (alert_id,))).fetchall()
    if not standing:
        await connection.execute(
            "UPDATE alert SET state = 'withdrawn', level = 0, ended_at = opened_at, updated_at = %s, seq = %s"
            " WHERE id = %s",
            (known_at, seq, alert_id),
        )
        return
    last = standing[-1]
    peak = max(standing, key=lambda row: row["to_level"])
    closed = state == "closed"
    if not closed:
        state = "firing" if last["to_level"] else "resolved"
    await connection.execute(
        _UPDATE,
        (
            state,
            0 if closed else last["to_level"],
            peak["to_level"],
            (last if last["to_level"] else peak)["label"],
            last["value"],
            standing[0]["at"],
            None if state == "firing" else last["at"],
            known_at,
            all(row["late"] for row in standing),
            seq,
            alert_id,
        ),
    )


class Firing(NamedTuple):
    """An alert that fires, and what it was raised on."""

    alert_id: UUID
    series: Series


async def read_firing(connection: psycopg.AsyncConnection[Any]) -> list[Firing]:
    """Every alert that fires now."""
    cursor = await connection.execute(
        "SELECT id, rule_id, device_id, metric_id, channel FROM alert WHERE state = 'firing'"
    )
    return [
        Firing(row["id"], Series(row["rule_id"], row["device_id"], row["metric_id"], row["channel"]))
        for row in await cursor.fetchall()
    ]


async def let_go(
    connection: psycopg.AsyncConnection[Any], alert_id: UUID, known_at: datetime
) -> Recorded | None:
    """Close an alert whose rule no longer looks at its series; looking again, it starts from nothing."""
    cursor = await connection.execute(
        "SELECT seq, level FROM alert WHERE id = %s AND state = 'firing' FOR UPDATE", (alert_id,)
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    seq = row["seq"] + 1
    machine = jsonb({"from_step": row["level"], "step": 0, "since": []})
    note = "the rule was removed or switched off, or no longer looks at this series"
    await connection.execute(
        _ADD,
        (alert_id, seq, known_at, known_at, "closed", row["level"], 0, None, None, False, None, machine,
         "quantrac", note),
    )  # fmt: skip
    await connection.execute(
        "UPDATE alert SET state = 'closed', level = 0, ended_at = %s, updated_at = %s, seq = %s"
        " WHERE id = %s",
        (known_at, known_at, seq, alert_id),
    )
    return Recorded(alert_id, seq, known_at)


def _kind(change: Change) -> str:
    if change.from_step == 0:
        return "opened"
    if change.to_step == 0:
        return "resolved"
    return "escalated" if change.to_step > change.from_step else "deescalated"


def _level(ladder: Ladder, step: int) -> int:
    return ladder.levels[step - 1].level if step else 0


def _label(ladder: Ladder, change: Change) -> str:
    return ladder.levels[
        max(change.from_step, change.to_step) - 1 if not change.to_step else change.to_step - 1
    ].label
