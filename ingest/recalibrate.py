"""Works off `calibration_job`: corrects the stored readings of a span anew, beside live ingest.

One window of readings a transaction, in order of time, with how far it got; so a crash costs one window, and
what is right already is not written again. Counters are the increments' job: of them the growth is corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
from psycopg.rows import class_row, tuple_row

from telemetry.checks import stored_station_checks
from telemetry.clock import from_micros
from telemetry.store.calibrations import READ_CALIBRATIONS, CalibrationRow
from telemetry.store.lanes import CORRECTED_DTYPE, Readings, commit_derived, uncorrected, with_raw
from telemetry.store.pool import Pool
from telemetry.store.registry import Stay
from telemetry.store.writer import FENCE

from .calibration_jobs import Connection, Job, fail, next_job, reached
from .corrections import of_values
from .decode_jobs import DEVICE_LOCK
from .faults import blames_content
from .overrides import Overrides
from .quality import SingleReading
from .quality_store import read_overrides, read_sites
from .redecode import FENCE_SECONDS

_log = structlog.get_logger()
READINGS_A_STEP = 2000
SHARE = 0.2
IDLE_SECONDS = 2.0

_WINDOW = """
    SELECT (extract(epoch FROM time) * 1000000)::int8, value, uplink_id, device_id, metric_id, channel,
           base_flag(quality, tests), coalesce(raw, 'NaN')
    FROM reading
    WHERE device_id = %(device_id)s AND metric_id = %(metric_id)s AND channel = %(channel)s
      AND time >= %(valid_from)s AND time < coalesce(%(valid_to)s::timestamptz, 'infinity')
      AND time > coalesce(%(reached)s::timestamptz, '-infinity')
    ORDER BY time FETCH FIRST %(most)s ROWS WITH TIES
"""
_REWRITE = """
    UPDATE reading r SET value = n.value, raw = nullif(n.raw, 'NaN'), quality = n.quality, tests = NULL
    FROM unnest(%(time)s::int8[], %(uplink_id)s::int8[], %(was)s::float8[], %(value)s::float8[],
                %(raw)s::float8[], %(quality)s::int2[])
        WITH ORDINALITY AS n (us, uplink_id, was, value, raw, quality, number)
    WHERE r.device_id = %(device_id)s AND r.metric_id = %(metric_id)s AND r.channel = %(channel)s
      AND r.time BETWEEN %(first)s AND %(last)s
      AND r.time = timestamptz 'epoch' + n.us * interval '1 microsecond'
      AND r.uplink_id = n.uplink_id AND r.value = n.was
    RETURNING n.number
"""


async def fence(pool: Pool) -> None:
    """Wait for every writer that still lays out readings by the old registry; later ones read the new.

    Raises:
        psycopg.OperationalError: one of them hangs; whoever comes meanwhile waits behind us, so not for long.
    """
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{FENCE_SECONDS}s'")
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (FENCE,))


class Recalibrator:
    """Works at one job at a time; any number of processes may have one."""

    def __init__(self, pool: Pool, *, writer: str) -> None:
        self._pool = pool
        self._writer = writer

    async def step(self) -> bool:
        """One window of one job; False when no job waits. A job that its readings spoil is marked failed.

        Raises:
            psycopg.Error: the window is undone and may be tried again.
        """
        async with self._pool.connection() as connection, connection.transaction():
            job = await next_job(connection, counters=False)
            if job is None:
                return False
            if job.reached is None:
                await fence(self._pool)
            try:
                async with connection.transaction():
                    await self._renew(connection, job)
            except Exception as error:
                if not blames_content(error):
                    raise
                _log.exception("calibration_job_failed", job=job.id, device_id=job.device_id)
                await fail(connection, job, error)
        return True

    async def _renew(self, connection: Connection, job: Job) -> None:
        # The columnstore locks no rows: redecoding is kept off, and what a writer takes away is not told.
        await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (DEVICE_LOCK, job.device_id))
        stored = await _read_window(connection, job)
        fresh = await _corrected(connection, job, stored)
        said = Overrides(await read_overrides(connection, [job.device_id]))(fresh)
        told = np.where(said != 0, said, fresh["quality"])
        # What came while somebody's word held came with that flag.
        same = (stored["quality"] == fresh["quality"]) | (stored["quality"] == told)
        same &= fresh["value"] == stored["value"]
        same &= (fresh["raw"] == stored["raw"]) | (np.isnan(fresh["raw"]) & np.isnan(stored["raw"]))
        fresh["quality"] = told
        changed = fresh[~same]
        if len(changed):
            changed = await _rewrite(connection, job, stored["value"][~same], changed)
        if len(changed):
            await commit_derived(connection, self._writer, changed, replaced=len(changed))
        done = len(stored) < READINGS_A_STEP
        until = from_micros(int(stored["time"][-1])) if len(stored) else None
        await reached(connection, job, until, changed=len(changed), done=done)
        if done:
            _log.info("readings_corrected_anew", job=job.id, device_id=job.device_id)


async def _read_window(connection: Connection, job: Job) -> Readings:
    async with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        await cursor.execute(_WINDOW, {**job._asdict(), "most": READINGS_A_STEP})
        return np.array(await cursor.fetchall(), CORRECTED_DTYPE)


async def _corrected(connection: Connection, job: Job, stored: Readings) -> Readings:
    """These readings under the calibrations that hold now."""
    async with connection.cursor(row_factory=class_row(CalibrationRow)) as cursor:
        await cursor.execute(
            READ_CALIBRATIONS + "WHERE device_id = %s AND metric_id = %s AND channel = %s",
            (job.device_id, job.metric_id, job.channel),
        )
        corrections = of_values(await cursor.fetchall())
    decoded = uncorrected(stored)
    decoded["value"] = np.where(np.isnan(stored["raw"]), stored["value"], stored["raw"])
    fresh = with_raw(corrections(decoded))
    fresh["quality"] = await _flags(connection, job, fresh)
    return fresh


async def _flags(connection: Connection, job: Job, readings: Readings) -> npt.NDArray[np.int16]:
    """By the checks of the station at which the device stood at each time."""
    cursor = await connection.execute("SELECT key FROM metric WHERE id = %s", (job.metric_id,))
    row = await cursor.fetchone()
    assert row is not None
    sites = (await read_sites(connection, [job.device_id]))[job.device_id]
    stays = [Stay(job.device_id, stored_station_checks(at.checks), at.first, at.end) for at in sites]
    return SingleReading({row["key"]: job.metric_id}, stays)(readings)


async def _rewrite(
    connection: Connection, job: Job, was: npt.NDArray[np.float64], changed: Readings
) -> Readings:
    """Those of them that were still there."""
    columns: dict[str, Sequence[Any]] = {
        name: changed[name].tolist() for name in ("time", "uplink_id", "value", "raw", "quality")
    }
    first, last = (from_micros(int(changed["time"][at])) for at in (0, -1))
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            _REWRITE, {**job._asdict(), **columns, "was": was.tolist(), "first": first, "last": last}
        )
        return changed[sorted({number - 1 for (number,) in await cursor.fetchall()})]
