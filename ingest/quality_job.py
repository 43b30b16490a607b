"""Quality tests that need order, neighbours or hindsight: follows the lanes, a few seconds behind.

Whatever came, changed or went is judged again together with all that it may bear on, from the table and in
event time; what differs from the flags that are stored is written. So doing it twice, late or in another
order makes no difference. What this job wrote changes no value, so its own lane is passed over. One process
at a time does it, in the transaction that moves the follower on. What settings and people's words ask to be
judged anew comes behind, in transactions of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import psycopg
import structlog

from telemetry.clock import micros
from telemetry.store import lanes
from telemetry.store.lanes import Readings
from telemetry.store.pool import Pool
from telemetry.store.writer import FENCE

from . import quality_orders as orders
from . import quality_store as store
from .faults import blames_content, is_away
from .halves import by_halves
from .quality_scope import find_scope
from .quality_store import Connection, Span

_log = structlog.get_logger()
FOLLOWER = WRITER = "quality"
BATCHES = 1000  # a lane and step; at a moderate rate commits are many and small
BYTES = 2 * 2**20  # of readings, likewise
SPANS = 300  # judged at once
WINDOW = timedelta(days=7)  # of an order, a transaction
ORDERS_SECONDS = 1.0  # a step; what comes meanwhile waits
SHARE = 0.2
IDLE_SECONDS = 1.0
# The next try may do better, however many there were.
_PASSING = (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory, psycopg.errors.TooManyConnections)
_APART = 3_600_000_000  # µs; what lies further apart is not judged together


class QualityJob:
    """Any number of processes may have one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._metrics: dict[int, str] = {}

    async def step(self) -> bool:
        """What came since the last step, then some of what is to be judged anew; False without any.

        What came is done even where judging anew fails, and an order that fails costs only itself.

        Raises:
            psycopg.Error: the database is away or held up; what was not committed may be tried again.
        """
        came = await self._follow()
        until = time.perf_counter() + ORDERS_SECONDS
        ordered = worked = await self._work_off_one()
        while worked and time.perf_counter() < until:
            worked = await self._work_off_one()
        return came or ordered

    async def _follow(self) -> bool:
        async with self._pool.connection() as connection, connection.transaction():
            if not await _alone(connection):
                return False
            batches = await lanes.pending(connection, FOLLOWER, BATCHES, BYTES)
            own = await _own_lane(connection)
            news = [batch for batch in batches if batch.lane != own]
            spans = _spans([batch.readings for batch in news])
            for first in range(0, len(spans), SPANS):
                await by_halves(
                    connection,
                    spans[first : first + SPANS],
                    partial(self._renew, connection),
                    "quality_skipped",
                )
            if batches:
                await lanes.advance(connection, FOLLOWER, batches)
        return bool(news)

    async def _work_off_one(self) -> bool:
        """A window of the order that comes next; False when none waits, or this one goes wrong."""
        async with self._pool.connection() as connection, connection.transaction():
            if not await _alone(connection):
                return False
            # Settings and overrides are read after the order that their change left.
            order = await orders.next_order(connection)
            if order is None:
                return False
            try:
                async with connection.transaction():
                    await self._work_off(connection, order)
            except Exception as error:
                if is_away(error) or isinstance(error, _PASSING):
                    raise
                tries = orders.TRIES if blames_content(error) else order.tries + 1
                told = {"job": order.id, "device_id": order.device_id, "tries": tries}
                _log.error("quality_job_stumbled", **told, exc_info=error)
                await orders.stumbled(connection, order, tries, error)
                return False
        return True

    async def _work_off(self, connection: Connection, order: orders.Order) -> None:
        after = order.reached or order.valid_from - timedelta(microseconds=1)
        stretches = await orders.find_stretches(connection, order, after)
        if not stretches:
            await orders.reached(connection, order, None, 0)
            return
        start = min(begin for _, begin in stretches)
        end = start + WINDOW
        if order.valid_to is not None:
            end = min(end, order.valid_to)
        last = end - timedelta(microseconds=1)
        spans = [
            Span(order.device_id, metric_id, micros(begin), micros(last))
            for metric_id, begin in stretches
            if begin <= last
        ]
        await orders.reached(connection, order, last, await self._renew(connection, spans))

    async def _renew(self, connection: Connection, spans: Sequence[Span]) -> int:
        """Make the flags of all that these spans bear on what they ought to be; returns how many changed."""
        scope = await find_scope(connection, await self._keys(connection, spans), spans)
        stored = await store.read_stored(connection, scope.spans)
        overrides = await store.read_overrides(connection, scope.device_ids)
        findings = scope.judge(stored, overrides)
        if not len(findings.stored):
            return 0
        readings = store.as_readings(scope.spans, findings.stored, findings.quality)
        await store.write(connection, readings, findings.tests)
        told = readings[findings.quality != findings.stored["quality"]]
        if len(told):
            await lanes.commit_derived(connection, WRITER, told, replaced=len(told))
        return len(readings)

    async def _keys(self, connection: Connection, spans: Sequence[Span]) -> dict[int, str]:
        """The metrics' keys by id."""
        if not {span.metric_id for span in spans} <= self._metrics.keys():
            cursor = await connection.execute("SELECT id, key FROM metric")
            self._metrics = {row["id"]: row["key"] for row in await cursor.fetchall()}
        return self._metrics


async def _alone(connection: Connection) -> bool:
    """Become the one process that judges, until the transaction ends; False: another is."""
    if not await lanes.lock_follower(connection, FOLLOWER):
        return False
    # As every writer does: who decodes history again waits for us.
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
    return True


async def _own_lane(connection: Connection) -> int | None:
    cursor = await connection.execute("SELECT id FROM lane WHERE writer = %s", (WRITER,))
    row: dict[str, Any] | None = await cursor.fetchone()
    return None if row is None else int(row["id"])


def _spans(parts: Sequence[Readings]) -> list[Span]:
    """Where readings came, changed or went."""
    if not sum(map(len, parts)):
        return []
    found = np.concatenate(parts)
    found = found[np.lexsort([found[name] for name in ("time", "metric_id", "device_id")])]
    cuts = np.logical_or.reduce([found[name][1:] != found[name][:-1] for name in ("device_id", "metric_id")])
    cuts |= np.diff(found["time"]) > _APART
    first, last = np.append(0, np.flatnonzero(cuts) + 1), np.append(np.flatnonzero(cuts), len(found) - 1)
    columns = [found[name][first].tolist() for name in ("device_id", "metric_id", "time")]
    return [Span(*span) for span in zip(*columns, found["time"][last].tolist(), strict=True)]
