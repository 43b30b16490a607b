"""Counters become increments: follows the lanes, a few seconds behind, at a bounded cost.

The span between two neighbouring counts is worked out again from the table whenever one of them came, changed
or went; so doing it twice, late or in another order makes no difference. An increment is a reading at the
time of the count that closes its span, of that count's frame. One process at a time does it, in the
transaction that moves the follower on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import structlog

from decoders.counters import Kind, increments
from telemetry.clock import from_micros, micros
from telemetry.model import Quality
from telemetry.store import lanes
from telemetry.store.flags import noted
from telemetry.store.lanes import READING_DTYPE, Batch, Readings, TouchedBatch, with_raw
from telemetry.store.pool import Pool
from telemetry.store.writer import FENCE

from . import increment_store as store
from .calibration_jobs import Job, fail, next_job, reached
from .corrections import Corrections
from .counting import Counter, Counting, Series, read_counting
from .faults import blames_content
from .halves import by_halves
from .increment_store import Connection, Counts, Span
from .overrides import Overrides
from .quality_store import read_overrides, write

_log = structlog.get_logger()
FOLLOWER = "increments"
BATCHES = 1000  # a lane and step; at a moderate rate commits are many and small
BYTES = 8 * 2**20  # of readings, likewise
SPANS = 200  # worked out at once
COUNTS = 2000  # of a calibration job a step
SHARE = 0.1
IDLE_SECONDS = 1.0
_GAP = 3_600_000_000  # µs; what lies further apart is not worked out together
_FOREVER = micros(datetime(2200, 1, 1, tzinfo=UTC))
_SERIES = ("device_id", "metric_id", "channel")


class IncrementJob:
    """Any number of processes may have one."""

    def __init__(self, pool: Pool, *, writer: str) -> None:
        self._pool = pool
        self._writer = writer
        self._counting = Counting()

    async def step(self) -> bool:
        """What came since the last step, and a window of a changed calibration; False when there was nothing.

        Raises:
            psycopg.Error: the step is undone and may be tried again.
        """
        async with self._pool.connection() as connection, connection.transaction():
            if not await lanes.lock_follower(connection, FOLLOWER):
                return False
            # As every writer does: who decodes history again after a map's change waits for us.
            await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
            batches = await self._pending(connection)
            readings = [batch.readings for batch in batches if isinstance(batch, Batch)]
            spans = _spans(readings, self._counting.counters)
            for first in range(0, len(spans), SPANS):
                await by_halves(
                    connection,
                    spans[first : first + SPANS],
                    partial(self._renew, connection),
                    "increments_skipped",
                )
            if batches:
                await lanes.advance(connection, FOLLOWER, batches)
            job = await next_job(connection, counters=True)
            if job is not None:
                await self._recalibrate(connection, job)
        return bool(batches) or job is not None

    async def _pending(self, connection: Connection) -> Sequence[Batch | TouchedBatch]:
        """What this follower has not seen; without the readings where no device has a counter."""
        while True:
            counting = self._counting
            batches: Sequence[Batch | TouchedBatch]
            if counting.counters:
                batches = await lanes.pending(connection, FOLLOWER, BATCHES, BYTES)
            else:
                batches = await lanes.touched(connection, FOLLOWER, BATCHES)
            # A registry that changed before these were committed may have brought the first counter.
            self._counting = await read_counting(connection, counting)
            if self._counting is counting:
                return batches

    async def _recalibrate(self, connection: Connection, job: Job) -> None:
        series = job.device_id, job.metric_id, job.channel
        after = job.reached or job.valid_from
        end = await store.window_end(connection, series, after, COUNTS)
        until = None if job.valid_to is None else micros(job.valid_to)
        done = end is None or (until is not None and end >= until)
        last = end if end is not None and not done else until or _FOREVER
        try:
            async with connection.transaction():
                changed = await self._renew(connection, [Span(*series, micros(after), last)])
        except Exception as error:
            if not blames_content(error):
                raise
            _log.exception("calibration_job_failed", job=job.id, device_id=job.device_id)
            await fail(connection, job, error)
        else:
            until_now = None if done else from_micros(last)
            await reached(connection, job, until_now, changed=changed, done=done)

    async def _renew(self, connection: Connection, spans: Sequence[Span]) -> int:
        """Make the increments of these spans what their counts say; returns how many changed."""
        counters = await self._counting.of(connection, (span[:3] for span in spans))
        spans = await store.with_neighbours(connection, [span for span in spans if span[:3] in counters])
        if not spans:
            return 0
        counts = await store.read_counts(connection, spans)
        growths = [span._replace(metric_id=counters[span[:3]].increment_id) for span in spans]
        held = await store.read_held(connection, growths)
        rows = await store.read_device_calibrations(connection, [span.device_id for span in spans])
        gains = self._counting.gains(rows)
        fresh = with_raw(Corrections(gains.held)(_work_out(spans, counts, counters, gains.boundaries)))
        fresh["quality"] = np.maximum(fresh["quality"], self._counting.flags(fresh))
        return await self._replace(connection, held, fresh)

    async def _replace(self, connection: Connection, held: Readings, fresh: Readings) -> int:
        gone, new = _without(held, fresh), _without(fresh, held)
        await store.replace(connection, gone, new)
        await self._note(connection, new)
        told, vanished = new, _without(gone, new, *_SERIES, "time")
        if len(vanished):
            # Who follows single readings learns by their neighbours that one is gone.
            vanished["value"], vanished["quality"] = 0.0, int(Quality.MISSING)
            beside, others = (np.isin(some["device_id"], vanished["device_id"]) for some in (fresh, new))
            told = np.concatenate([fresh[beside], new[~others], vanished])
        if len(told):
            added = len(new) - len(gone)
            await lanes.commit_derived(connection, self._writer, told, replaced=len(told) - added)
        return len(new) + len(vanished)

    async def _note(self, connection: Connection, new: Readings) -> None:
        """Beside increments just stored: that their counter began anew, and what people said of them, so that
        nobody is paged before the quality job has it. The flag they came with stays in the table."""
        if not len(new):
            return
        said = Overrides(await read_overrides(connection, np.unique(new["device_id"]).tolist()))(new)
        restarted = new["quality"] == Quality.SUSPECT  # the catalogue only fails increments
        rows = np.flatnonzero((said != 0) | restarted)
        if len(rows):
            tests = noted(new["quality"][rows], restarted[rows], said[rows] != 0)
            new["quality"][rows] = np.where(said[rows] != 0, said[rows], new["quality"][rows])
            await write(connection, new[rows], tests)


def _spans(parts: Sequence[Readings], counters: Sequence[int]) -> list[Span]:
    """Where counts of these metrics came, changed or went."""
    some = [part[np.isin(part["metric_id"], counters)] for part in parts]
    if not sum(map(len, some)):
        return []
    counts = np.concatenate(some)
    counts = counts[np.lexsort([counts[name] for name in ("time", *reversed(_SERIES))])]
    cuts = np.logical_or.reduce([counts[name][1:] != counts[name][:-1] for name in _SERIES])
    cuts |= np.diff(counts["time"]) > _GAP
    first, last = np.append(0, np.flatnonzero(cuts) + 1), np.append(np.flatnonzero(cuts), len(counts) - 1)
    columns = [counts[name][first].tolist() for name in (*_SERIES, "time")]
    return [Span(*span) for span in zip(*columns, counts["time"][last].tolist(), strict=True)]


def _work_out(
    spans: Sequence[Span],
    counts: Counts,
    counters: Mapping[Series, Counter],
    boundaries: Mapping[Series, Sequence[int]],
) -> Readings:
    """The increments of these spans, of `READING_DTYPE`; what follows a restart is flagged suspect."""
    made = [np.empty(0, READING_DTYPE)]
    edges = np.searchsorted(counts["span"], np.arange(len(spans) + 1))
    for span, begin, end in zip(spans, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        of_span, counter = counts[begin:end], counters[span[:3]]
        found = increments(
            of_span["time"],
            of_span["value"],
            modulus=counter.modulus,
            limit=counter.limit,
            boundaries=np.array(boundaries.get(span[:3], ()), np.int64),
        )
        known = ~np.isnan(found.value)
        rows = np.empty(int(known.sum()), READING_DTYPE)
        rows["time"], rows["value"] = found.time[known], found.value[known]
        rows["device_id"], rows["channel"] = span.device_id, span.channel
        rows["metric_id"] = counter.increment_id
        closing = np.searchsorted(of_span["time"], rows["time"], "right") - 1
        rows["uplink_id"] = of_span["uplink_id"][closing]
        restarted = found.kind[known] == Kind.RESET
        rows["quality"] = np.where(restarted, int(Quality.SUSPECT), int(Quality.GOOD))
        made.append(rows)
    return np.concatenate(made)


def _without(some: Readings, others: Readings, *names: str) -> Readings:
    """Those rows that are not among the others, by the columns of these names or by all."""
    known = set(_rows(others, names))
    chosen: Readings = some[np.array([row not in known for row in _rows(some, names)], bool)]
    return chosen


def _rows(readings: Readings, names: Sequence[str]) -> list[tuple[Any, ...]]:
    columns = {name: readings[name].tolist() for name in names or readings.dtype.names or ()}
    if "raw" in columns:
        columns["raw"] = [None if raw != raw else raw for raw in columns["raw"]]  # NaN equals nothing
    return list(zip(*columns.values(), strict=True))
