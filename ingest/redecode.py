"""Frames that are stored already, decoded again: what adopting a device asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import structlog

from decoders.registry import Registry
from telemetry.store.writer import FENCE, registry_version

from .again import FRAME_COLUMNS, Frame, decode_again
from .directory import Directory, read_directory
from .faults import blames_content
from .javascript import Answers, JavaScript, Unasked
from .text import storable

_log = structlog.get_logger()
FRAMES_A_STEP = 500
FENCE_SECONDS = 5

_NEXT_JOB = """
    SELECT job.id, device.dev_eui FROM decode_job job JOIN device ON device.id = job.device_id
    WHERE job.state = 'waiting'
    ORDER BY job.id LIMIT 1
    FOR NO KEY UPDATE OF job SKIP LOCKED
"""
# Frames without a codec's stamp were never decoded; those with one have their readings.
_FRAMES = f"""
    SELECT {FRAME_COLUMNS} FROM uplink
    WHERE device_id = %s AND decoded_by IS NULL AND (time, id) > (%s, %s)
    ORDER BY time, id LIMIT %s
    FOR UPDATE  -- of two jobs for one device the second waits, then sees the stamp and skips
"""  # noqa: S608
_DONE = "UPDATE decode_job SET state = 'done', finished_at = now(), frames = %s, readings = %s WHERE id = %s"
_FAILED = "UPDATE decode_job SET state = 'failed', finished_at = now(), error = %s WHERE id = %s"


class Redecoder:
    """Works off `decode_job`, one job and a few hundred frames a transaction, on a lane of its own.

    Many processes may run one: a job is locked while it is worked on.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        writer: str,
        codecs: Registry,
        javascript: JavaScript | None = None,
    ) -> None:
        self._connect = connect
        self._writer = writer
        self._codecs = codecs
        self._javascript = javascript
        self._answers = Answers(javascript)
        self._directory = Directory()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run_waiting` return after the step it is at; the job goes on with the next process."""
        self._stopping.set()

    def run_waiting(self) -> int:
        """Work off all jobs that wait; returns how many. One that its frames or codec spoil is marked failed.

        Raises:
            psycopg.Error: the database is away, busy or not migrated; finished steps stay done, the job
                goes on later.
        """
        with self._connect() as connection:
            connection.autocommit = True
            done = 0
            while not self._stopping.is_set() and self._one_job(connection):
                done += 1
            return done

    def _one_job(self, connection: psycopg.Connection[Any]) -> bool:
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            job = cursor.execute(_NEXT_JOB).fetchone()
            if job is None:
                return False
            job_id, dev_eui = job
            try:
                frames, readings = self._decode_all(dev_eui)
            except Exception as error:
                if not blames_content(error):
                    raise
                _log.exception("decode_job_failed", job=job_id, dev_eui=dev_eui)
                cursor.execute(_FAILED, (storable(f"{type(error).__name__}: {error}"), job_id))
                return True
            if self._stopping.is_set():
                return False
            cursor.execute(_DONE, (frames, readings, job_id))
        _log.info("frames_decoded_again", dev_eui=dev_eui, frames=frames, readings=readings)
        return True

    def _decode_all(self, dev_eui: str) -> tuple[int, int]:
        # Waits for every writer that still decodes by the old registry; later ones read the new. Not for
        # long: whoever comes meanwhile waits behind us, and one writer may hang.
        with self._connect() as fence:
            fence.execute(f"SET LOCAL lock_timeout = '{FENCE_SECONDS}s'")
            fence.execute("SELECT pg_advisory_xact_lock(%s)", (FENCE,))
        frames = readings = 0
        after = (datetime.fromisoformat("0001-01-01T00:00:00+00:00"), 0)
        while not self._stopping.is_set() and (step := self._step(dev_eui, after)):
            after, stepped, read = step
            frames, readings = frames + stepped, readings + read
        return frames, readings

    def _step(
        self, dev_eui: str, after: tuple[datetime, int]
    ) -> tuple[tuple[datetime, int], int, int] | None:
        """One transaction beside the job's own, so that progress outlives a crash."""
        try:
            while True:
                try:
                    return self._attempt(dev_eui, after)
                except Unasked as unasked:
                    self._answers.fetch(unasked)
        finally:
            self._answers.forget()

    def _attempt(
        self, dev_eui: str, after: tuple[datetime, int]
    ) -> tuple[tuple[datetime, int], int, int] | None:
        with self._connect() as connection, connection.cursor(binary=True) as cursor:
            # As every writer does: a calibration that changes meanwhile finds these readings, or they it.
            version = registry_version(cursor)
            if version != self._directory.version:
                self._directory = read_directory(cursor, self._codecs, version, self._javascript)
            device = self._directory.devices[dev_eui]
            cursor.execute(_FRAMES, (device.id, *after, FRAMES_A_STEP))
            frames = [Frame(*row) for row in cursor.fetchall()]
            if not frames:
                return None
            known = [(frame, device) for frame in frames]
            again = decode_again(cursor, self._writer, known, self._directory, self._answers)
        return (frames[-1].time, frames[-1].id), len(frames), again.readings
