"""The worker of an API process: takes a job, has a child do it, and sweeps what has expired."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg_pool import PoolClosed, PoolTimeout

from telemetry.clock import Clock
from telemetry.store.pool import Pool

from ..settings import ApiSettings
from .child import DONE, FAILED, GONE, Orders
from .files import BeingWritten, locked
from .jobs import HOLD_SECONDS, MOST_TRIES, Job, fail, file_of_job, folder_of_job, give_back, hold, take

LOOK_SECONDS = 5.0
_AGAIN_AFTER = timedelta(seconds=10)
_UNREACHABLE = (psycopg.OperationalError, PoolTimeout, PoolClosed)
_log = structlog.get_logger("api")

_EXPIRED = "DELETE FROM export_job WHERE expires_at <= %s RETURNING id"
_USED = "SELECT coalesce(sum(bytes), 0)::bigint AS used FROM export_job WHERE state = 'done'"


class ExportWorker:
    """Works on one export at a time while `running`; `wake` spares a new one the wait for the next look."""

    def __init__(self, pool: Pool, settings: ApiSettings, database_url: str, clock: Clock, name: str) -> None:
        self._pool = pool
        self._settings = settings
        self._url = database_url
        self._clock = clock
        self._name = name
        self._awake = asyncio.Event()

    @property
    def folder(self) -> Path:
        return Path(self._settings.export_dir)

    def wake(self) -> None:
        self._awake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        if not self._settings.export_dir:
            yield
            return
        task = asyncio.create_task(self._work(), name="exports")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while True:
            try:
                await self._sweep()
                while await self._one():
                    pass
            except _UNREACHABLE:
                pass  # the next look finds it back, and the job where it was
            except Exception:
                _log.exception("export_worker_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._awake.wait()
            self._awake.clear()

    async def _one(self) -> bool:
        async with self._pool.connection() as db:
            job = await take(db, self._name, self._clock.now())
            if job is None:
                return False
            used = (await (await db.execute(_USED)).fetchone() or {})["used"]
        if job.tries > MOST_TRIES:  # it ended more than its child
            await self._settle(job, FAILED, "the export ended with its process again and again")
            return True
        space = self._settings.export_space * 2**30 - used
        try:
            status, said = await self._child(job, space)
        except asyncio.CancelledError:
            with contextlib.suppress(*_UNREACHABLE):
                async with self._pool.connection() as db:
                    await give_back(db, self._name, job.id, until=self._clock.now())
            raise
        await self._settle(job, status, said)
        return status == DONE

    async def _child(self, job: Job, space: int) -> tuple[int, str]:
        orders = Orders(
            database_url=self._url,
            worker=self._name,
            id=job.id,
            selection=job.selection.model_dump_json(by_alias=True),
            folder=str(self.folder),
            days=self._settings.export_days,
            space=space,
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api.exports.child",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(msgspec.json.encode(orders) + b"\n")
            ending, holding = asyncio.create_task(child.stdout.read()), asyncio.create_task(self._hold(job))
            try:
                await asyncio.wait((ending, holding), return_when=asyncio.FIRST_COMPLETED)
            finally:
                holding.cancel()
                ending.cancel()
            if not ending.done():
                holding.result()
                return GONE, ""
            return await child.wait(), ending.result().decode(errors="replace").strip()
        finally:
            child.stdin.close()
            if child.returncode is None:
                child.kill()
            await _ended(child)

    async def _hold(self, job: Job) -> None:
        """Renew the lease until it is somebody else's."""
        while True:
            await asyncio.sleep(HOLD_SECONDS)
            with contextlib.suppress(*_UNREACHABLE):
                async with self._pool.connection() as db:
                    if not await hold(db, self._name, job.id, self._clock.now()):
                        return

    async def _settle(self, job: Job, status: int, said: str) -> None:
        now = self._clock.now()
        async with self._pool.connection() as db:
            if status == FAILED or (status not in (DONE, GONE) and job.tries >= MOST_TRIES):
                reason = said or f"the export ended with status {status}"
                expires = now + timedelta(days=self._settings.export_days)
                if await fail(db, self._name, job.id, reason, now=now, expires=expires):
                    self._remove(job)
                    _log.warning("export_failed", id=str(job.id), reason=reason)
            elif status not in (DONE, GONE):  # of one that is gone the sweep removes the folder
                await give_back(db, self._name, job.id, until=now + _AGAIN_AFTER, error=said or None)

    def _remove(self, job: Job) -> None:
        """The folder of a failed job, unless a process that lost the job still writes there."""
        with (
            contextlib.suppress(BeingWritten, OSError),
            locked(file_of_job(self.folder, job.id, job.selection)),
        ):
            shutil.rmtree(folder_of_job(self.folder, job.id), ignore_errors=True)

    async def _sweep(self) -> None:
        """Remove what has expired, and folders that no job is left of."""
        async with self._pool.connection() as db:
            await db.execute(_EXPIRED, (self._clock.now(),))
            if not self.folder.is_dir():
                return
            there = [path.name for path in self.folder.iterdir() if _is_id(path.name)]
            cursor = await db.execute("SELECT id FROM export_job WHERE id = ANY(%s::uuid[])", (there,))
            known = {str(row["id"]) for row in await cursor.fetchall()}
        for name in set(there) - known:
            shutil.rmtree(self.folder / name, ignore_errors=True)


async def _ended(child: asyncio.subprocess.Process) -> None:
    """Wait for it whatever happens: one that is left behind is nobody's any more."""
    waiting, cancelled = asyncio.create_task(child.wait()), False
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
