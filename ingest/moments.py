"""The time of every message of a batch, where the messages alone do not tell it: what was decided before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from telemetry.model import Event, RawMessage, Uplink, UplinkFlag
from telemetry.store.writer import assign_times, assigned_times, stored_under

from .horizon import Horizon
from .layout import Moment, Sorted
from .times import own_time, settle

Timed = Sequence[tuple[RawMessage, Uplink | Event]]


def told(items: Timed) -> list[Moment] | None:
    """The times as the messages tell them; None when a clock among them cannot be believed."""
    moments: list[Moment] = []
    for message, outcome in items:
        time, flag = settle(outcome.time, _ns_time(outcome), message.received_at)
        if time is None:
            return None
        moments.append((time, flag))
    return moments


def decided(cursor: psycopg.Cursor[Any], items: Timed) -> list[Moment]:
    """The times as if each message came alone and in this order.

    The one under which a message was first stored stays: what was assigned once, or its own, should our
    clock have been wrong then or now. Otherwise its own counts while plausible, else its first arrival.
    """
    settled, own = [], []
    for message, outcome in items:
        ns_time = _ns_time(outcome)
        settled.append(settle(outcome.time, ns_time, message.received_at))
        own.append(own_time(outcome.time, ns_time) if settled[-1][0] is None else settled[-1])
    keys = [outcome.dedup_key for _, outcome in items]
    assigned = assigned_times(cursor, keys)
    doubtful = [n for n, (time, _) in enumerate(settled) if time is None and keys[n] not in assigned]
    stored = stored_under(cursor, [(keys[n], time) for n in doubtful if (time := own[n][0]) is not None])
    for n in doubtful:
        if (keys[n], own[n][0]) in stored:
            settled[n] = own[n]
    arrivals = assign_times(
        cursor, [(keys[n], items[n][0].received_at) for n in doubtful if settled[n][0] is None]
    )
    moments: list[Moment] = []
    for key, (time, flag) in zip(keys, settled, strict=True):
        if time is None and key not in assigned:
            assigned[key] = arrivals[key]
        kept = assigned.get(key, time)
        assert kept is not None
        moments.append((kept, int(UplinkFlag.ASSIGNED_TIME) if key in assigned else flag))
    return moments


def within(
    cursor: psycopg.Cursor[Any], batch: Sorted, times: list[Moment], horizon: Horizon
) -> tuple[Sorted, list[Moment]]:
    """The batch, and the `times` of what is timed in it, with rejects in place of what is too old.

    What is stored still, as a copy that comes again, is no reject but a duplicate.
    """
    timed = batch.timed
    passed = horizon.passed(times)
    stored = stored_under(cursor, [(timed[n][1].dedup_key, times[n][0]) for n in passed])
    old = {n for n in passed if (timed[n][1].dedup_key, times[n][0]) not in stored}
    first = len(batch.uplinks)  # of the events
    kept = Sorted(
        [pair for n, pair in enumerate(batch.uplinks) if n not in old],
        [pair for n, pair in enumerate(batch.events, first) if n not in old],
        [*batch.rejects, *((timed[n][0], horizon.reject(*timed[n], times[n][0])) for n in sorted(old))],
    )
    return kept, [time for n, time in enumerate(times) if n not in old]


def _ns_time(outcome: Uplink | Event) -> Any:
    return outcome.ns_time if isinstance(outcome, Uplink) else None
