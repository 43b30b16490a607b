"""Frames that are stored already, decoded again: of adopted devices, and after a change of codec or map.

What is to be read by is in force first; who still reads by the old is waited for. Then the frames of one
device after the other are decoded, some hundred a transaction, and what differs is replaced. A transaction
notes how far it got, so a crash costs one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
import structlog

from decoders.datalog import AHEAD
from decoders.registry import Registry
from telemetry.clock import micros
from telemetry.store import logged
from telemetry.store.registry import DeviceRow
from telemetry.store.writer import FENCE, registry_version

from .again import Frame, decode_again
from .decode_jobs import Job, Progress, end, lock_devices, next_job, reached, read_before, read_window
from .directory import Directory, read_directory
from .faults import blames_content
from .horizon import Horizon, no_horizon
from .javascript import Answers, JavaScript, Unasked

_log = structlog.get_logger()
FRAMES_A_STEP = 500
MOST_BEFORE = 500  # frames of a device within five minutes
FENCE_SECONDS = 5
SHARE = 0.3  # of the time, of an ingest process


class Step(NamedTuple):
    """A transaction at a job: how many frames it looked at, and whether the job ended."""

    frames: int
    ended: bool


def fence(connect: Callable[[], psycopg.Connection[Any]]) -> None:
    """Wait for every writer that still decodes by an older registry; later ones read the new.

    Raises:
        psycopg.errors.LockNotAvailable: one of them hangs. Whoever comes meanwhile waits behind us, so this
            is not for long, nor at once again.
    """
    with connect() as connection:
        connection.execute(f"SET LOCAL lock_timeout = '{FENCE_SECONDS}s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (FENCE,))


class _Unfenced(Exception):
    """Writers may still decode by a registry before this version; nobody waited for them yet."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


class Redecoder:
    """Works off `decode_job` on a lane of its own; many processes may run one."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        writer: str,
        codecs: Registry,
        javascript: JavaScript | None = None,
        redecoding: int | None = None,
        share: float = 1.0,
        horizon: Callable[[], Horizon] = no_horizon,
    ) -> None:
        """Works at the jobs of one `redecoding`, or at those that are ingest's; at most for this `share` of
        the time. Frames whose readings would be older than is kept stay as they are."""
        self._connect = connect
        self._writer = writer
        self._codecs = codecs
        self._javascript = javascript
        self._redecoding = redecoding
        self._share = share
        self._horizon = horizon
        self._answers = Answers(javascript)
        self._directory = Directory()
        self._fenced = -1  # the registry's version that every writer has at least
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run_waiting` return after the step it is at; the job goes on with the next process."""
        self._stopping.set()

    def run_waiting(self, told: Callable[[Step], None] = lambda step: None) -> int:
        """Work off all jobs that wait; returns how many ended. Each step is `told`.

        A job whose device type cannot be read is marked failed, and so is in the end one with frames that
        cannot be stored.

        Raises:
            psycopg.Error: the database is away, busy or not migrated; finished steps stay done, the job
                goes on later.
        """
        ended = 0
        with self._connect() as connection:
            connection.autocommit = True
            while not self._stopping.is_set():
                started = time.perf_counter()
                step = self._step(connection)
                if step is None:
                    break
                told(step)
                ended += step.ended
                self._stopping.wait((time.perf_counter() - started) * (1 / self._share - 1))
        return ended

    def _step(self, connection: psycopg.Connection[Any]) -> Step | None:
        try:
            while True:
                try:
                    with connection.transaction(), connection.cursor(binary=True) as cursor:
                        return self._attempt(cursor)
                except Unasked as unasked:
                    self._answers.fetch(unasked)
                except _Unfenced as unfenced:
                    fence(self._connect)
                    self._fenced = unfenced.version
        finally:
            self._answers.forget()

    def _attempt(self, cursor: psycopg.Cursor[Any]) -> Step | None:
        # As every writer does: a calibration that changes meanwhile finds these readings, or they it.
        version = registry_version(cursor)
        if version != self._directory.version:
            self._directory = read_directory(cursor, self._codecs, version, self._javascript)
        job = next_job(cursor, self._redecoding)
        if job is None:
            return None
        if version != self._fenced:
            raise _Unfenced(version)
        if (kept := self._horizon().readings) is not None:
            job = job._replace(since=max(kept, job.since or kept))
        device = self._directory.devices[job.dev_eui]
        recipe = self._directory.recipe(device)
        anew = job.redecoding_id is not None and job.recipe not in (None, recipe)
        if job.redecoding_id is not None:
            problem = self._directory.problems.get(device.device_type or "")
            if device.device_type is None or problem:
                end(cursor, job.id, problem or "the device is not registered any more")
                return Step(0, ended=True)
            device = device._replace(status="active")  # its frames are from when it was
        lock_devices(cursor, [device.id])
        return self._window(cursor, job, device, recipe, anew=anew)

    def _window(
        self, cursor: psycopg.Cursor[Any], job: Job, device: DeviceRow, recipe: str, *, anew: bool
    ) -> Step:
        after = None
        if job.reached_time is not None and job.reached_id is not None and not anew:
            after = job.reached_time, job.reached_id
        decoded = job.redecoding_id is not None
        frames = read_window(cursor, device.id, job.span, after, FRAMES_A_STEP, decoded=decoded)
        if not frames:
            end(cursor, job.id, None if anew else job.error)
            tell = _log.debug if decoded else _log.info  # an order has many jobs, and shows progress
            tell("frames_decoded_again", job=job.id, dev_eui=job.dev_eui)
            return Step(0, ended=True)
        logs = tells_of_earlier(cursor, device, self._directory)
        todo = [
            frame for frame in frames if job.every_frame or logs or differs(frame, device, self._directory)
        ]
        done = self._decode(cursor, job, device, todo)._replace(frames=len(frames))
        if decoded and logs and after is not None:
            # What this window took away may have to be told by a frame that came just before it.
            since = max(after[0] - AHEAD, job.span.since)
            before = read_before(cursor, device.id, since, after, MOST_BEFORE)
            self._decode(cursor, job, device, before)
        reached(cursor, job, frames[-1], recipe, done, anew=anew)
        return Step(len(frames), ended=False)

    def _decode(
        self, cursor: psycopg.Cursor[Any], job: Job, device: DeviceRow, frames: list[Frame]
    ) -> Progress:
        """All of these frames but those that cannot be stored."""
        if not frames:
            return Progress(0)
        known = [(frame, device) for frame in frames]
        remembered = None if job.redecoding_id is None else job.id
        try:
            with cursor.connection.transaction():
                again, counts = decode_again(
                    cursor,
                    self._writer,
                    known,
                    self._directory,
                    self._answers,
                    remembered,
                    self._horizon(),
                )
        except Exception as error:
            if isinstance(error, Unasked) or not blames_content(error):
                raise
            if len(frames) > 1:
                middle = len(frames) // 2
                halves = (
                    self._decode(cursor, job, device, part) for part in (frames[:middle], frames[middle:])
                )
                return _sum(*halves)
            _log.exception("frame_not_decoded_again", job=job.id, dev_eui=job.dev_eui, uplink=frames[0].id)
            return Progress(1, untouched=1, error=f"{type(error).__name__}: {error}")
        left = [one.problem for one in again.untouched.values()]
        left += [one.problem for one in again.decoded.values() if one.retry is not None]
        return Progress(len(frames), *counts, untouched=len(left), error=left[-1] if left else None)


def differs(frame: Frame, device: DeviceRow, directory: Directory) -> bool:
    """Whether the frame does not carry the present stamp."""
    return frame.decoded_by is None or frame.decoded_by != directory.stamp(device, micros(frame.time))


def tells_of_earlier(cursor: psycopg.Cursor[Any], device: DeviceRow, directory: Directory) -> bool:
    """Whether frames of this device tell of earlier times: what one says then depends on its neighbours."""
    return device.device_type in directory.datalogs or logged.tells_of_earlier(cursor, device.id)


def _sum(one: Progress, other: Progress) -> Progress:
    return Progress(
        one.frames + other.frames,
        one.readings + other.readings,
        one.changed + other.changed,
        one.untouched + other.untouched,
        other.error or one.error,
    )
