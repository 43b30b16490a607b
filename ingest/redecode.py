"""Frames that are stored already, decoded again: what adopting a device asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import structlog

from decoders.registry import Registry
from telemetry.model import Uplink
from telemetry.store.lanes import commit_batch
from telemetry.store.registry import DeviceRow
from telemetry.store.writer import FENCE, copy_readings, micros

from .columns import Columns
from .directory import Directory, read_directory
from .faults import blames_content
from .pipeline import decode
from .text import storable

_log = structlog.get_logger()
FRAMES_A_STEP = 500
FENCE_SECONDS = 5

_NEXT_JOB = """
    SELECT job.id, device.id, device.dev_eui, device.status, device.device_type, device.variables,
           device.simulated
    FROM decode_job job JOIN device ON device.id = job.device_id
    WHERE job.state = 'waiting'
    ORDER BY job.id LIMIT 1
    FOR NO KEY UPDATE OF job SKIP LOCKED
"""
# Frames without a codec's stamp were never decoded; those with one have their readings.
_FRAMES = """
    SELECT time, id, dedup_key, f_port, payload, flags, network FROM uplink
    WHERE device_id = %s AND decoded_by IS NULL AND (time, id) > (%s, %s)
    ORDER BY time, id LIMIT %s
    FOR UPDATE  -- of two jobs for one device the second waits, then sees the stamp and skips
"""
_STAMP = "UPDATE uplink SET decoded_by = %s, problem = %s, fields = %s WHERE time = %s AND dedup_key = %s"


_DONE = "UPDATE decode_job SET state = 'done', finished_at = now(), frames = %s, readings = %s WHERE id = %s"
_FAILED = "UPDATE decode_job SET state = 'failed', finished_at = now(), error = %s WHERE id = %s"


class _Frame(NamedTuple):
    time: datetime
    id: int
    dedup_key: UUID
    f_port: int | None
    payload: bytes
    flags: int
    network: str


class Redecoder:
    """Works off `decode_job`, one job and a few hundred frames a transaction, on a lane of its own.

    Many processes may run one: a job is locked while it is worked on.
    """

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], *, writer: str, codecs: Registry
    ) -> None:
        self._connect = connect
        self._writer = writer
        self._codecs = codecs
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
            job_id, device = job[0], DeviceRow(*job[1:])
            try:
                frames, readings = self._decode_all(cursor, device)
            except Exception as error:
                if not blames_content(error):
                    raise
                _log.exception("decode_job_failed", job=job_id, dev_eui=device.dev_eui)
                cursor.execute(_FAILED, (storable(f"{type(error).__name__}: {error}"), job_id))
                return True
            if self._stopping.is_set():
                return False
            cursor.execute(_DONE, (frames, readings, job_id))
        _log.info("frames_decoded_again", dev_eui=device.dev_eui, frames=frames, readings=readings)
        return True

    def _decode_all(self, cursor: psycopg.Cursor[Any], device: DeviceRow) -> tuple[int, int]:
        # Waits for every writer that still decodes by the old registry; later ones read the new. Not for
        # long: whoever comes meanwhile waits behind us, and one writer may hang.
        with self._connect() as fence:
            fence.execute(f"SET LOCAL lock_timeout = '{FENCE_SECONDS}s'")
            fence.execute("SELECT pg_advisory_xact_lock(%s)", (FENCE,))
        version = cursor.execute("SELECT version FROM registry_version").fetchone()
        directory = read_directory(cursor, self._codecs, version[0] if version else 0)
        frames = readings = 0
        after = (datetime.fromisoformat("0001-01-01T00:00:00+00:00"), 0)
        while not self._stopping.is_set() and (step := self._step(device, directory, after)):
            after, stepped, read = step
            frames, readings = frames + stepped, readings + read
        return frames, readings

    def _step(
        self, device: DeviceRow, directory: Directory, after: tuple[datetime, int]
    ) -> tuple[tuple[datetime, int], int, int] | None:
        """One transaction beside the job's own, so that progress outlives a crash."""
        with self._connect() as connection, connection.cursor(binary=True) as cursor:
            cursor.execute(_FRAMES, (device.id, *after, FRAMES_A_STEP))
            frames = [_Frame(*row) for row in cursor.fetchall()]
            if not frames:
                return None
            columns = Columns(directory)
            for frame in frames:
                decoded = decode(_uplink(frame, device), device, directory)
                fields = decoded.fields.decode() if decoded.fields is not None else None
                cursor.execute(
                    _STAMP, (decoded.decoded_by, decoded.problem, fields, frame.time, frame.dedup_key)
                )
                columns.add(micros(frame.time), frame.id, device.id, decoded.values)
            readings = columns.array()
            copy_readings(cursor, readings)
            commit_batch(cursor, self._writer, readings)
        return (frames[-1].time, frames[-1].id), len(frames), len(readings)


def _uplink(frame: _Frame, device: DeviceRow) -> Uplink:
    return Uplink(
        dedup_key=frame.dedup_key.bytes,
        dev_eui=device.dev_eui,
        network=frame.network,
        payload=bytes(frame.payload),
        time=frame.time,
        f_port=frame.f_port,
        flags=frame.flags,
    )
