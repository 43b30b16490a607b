"""Quality tests that need order, neighbours or hindsight: follows the lanes, a few seconds behind.

Whatever came, changed or went is judged again together with all that it may bear on, from the table and in
event time; what differs from the flags that are stored is written. So doing it twice, late or in another
order makes no difference. What this job wrote changes no value, so its own lane is passed over. One process
at a time does it, in the transaction that moves the follower on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import structlog

from telemetry.clock import micros
from telemetry.store import lanes
from telemetry.store.lanes import Batch, Readings
from telemetry.store.pool import Pool
from telemetry.store.writer import FENCE

from . import quality_orders as orders
from . import quality_store as store
from .faults import blames_content
from .quality_scope import find_scope
from .quality_store import Connection, Span

_log = structlog.get_logger()
FOLLOWER = WRITER = "quality"
BATCHES = 1000  # a lane and step; at a moderate rate commits are many and small
BYTES = 2 * 2**20  # of readings, likewise
SPANS = 300  # judged at once
WINDOW = timedelta(days=7)  # of an order, a step
SHARE = 0.2
IDLE_SECONDS = 1.0
_APART = 3_600_000_000  # µs; what lies further apart is not judged together


class QualityJob:
    """Any number of processes may have one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._metrics: dict[int, str] = {}

    async def step(self) -> bool:
        """What came since the last step, and a window of what is to be judged anew; False without any.

        Raises:
            psycopg.Error: the step is undone and may be tried again.
        """
        async with self._pool.connection() as connection, connection.transaction():
            if not await lanes.lock_follower(connection, FOLLOWER):
                return False
            # As every writer does: who decodes history again waits for us.
            await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
            batches = await lanes.pending(connection, FOLLOWER, BATCHES, BYTES)
            own = await _own_lane(connection)
            spans = _spans([batch.readings for batch in batches if batch.lane != own])
            for first in range(0, len(spans), SPANS):
                await self._renew_some(connection, spans[first : first + SPANS])
            if batches:
                await lanes.advance(connection, FOLLOWER, batches)
            # Settings and overrides are read after the order that their change left.
            order = await orders.next_order(connection)
            if order is not None:
                await self._work_off(connection, order)
        return bool(_told_by_others(batches, own)) or order is not None

    async def _renew_some(self, connection: Connection, spans: Sequence[Span]) -> None:
        """One whose readings cannot be judged costs only itself."""
        try:
            async with connection.transaction():
                await self._renew(connection, spans)
        except Exception as error:
            if not blames_content(error):
                raise
            if len(spans) == 1:
                _log.exception("quality_skipped", device_id=spans[0].device_id)
                return
            for half in (spans[: len(spans) // 2], spans[len(spans) // 2 :]):
                await self._renew_some(connection, half)

    async def _work_off(self, connection: Connection, order: orders.Order) -> None:
        after = order.reached or order.valid_from - timedelta(microseconds=1)
        stretches = await orders.find_stretches(connection, order, after)
        if not stretches:
            await orders.reached(connection, order, None, 0)
            return
        start = min(time for _, time in stretches)
        end = start + WINDOW
        if order.valid_to is not None:
            end = min(end, order.valid_to)
        last = end - timedelta(microseconds=1)
        spans = [
            Span(order.device_id, metric_id, micros(time), micros(last))
            for metric_id, time in stretches
            if time <= last
        ]
        try:
            async with connection.transaction():
                changed = await self._renew(connection, spans)
        except Exception as error:
            if not blames_content(error):
                raise
            _log.exception("quality_job_failed", job=order.id, device_id=order.device_id)
            await orders.fail(connection, order, error)
        else:
            await orders.reached(connection, order, last, changed)

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


async def _own_lane(connection: Connection) -> int | None:
    cursor = await connection.execute("SELECT id FROM lane WHERE writer = %s", (WRITER,))
    row: dict[str, Any] | None = await cursor.fetchone()
    return None if row is None else int(row["id"])


def _told_by_others(batches: Sequence[Batch], own: int | None) -> list[Batch]:
    return [batch for batch in batches if batch.lane != own]


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
