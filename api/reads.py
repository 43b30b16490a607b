"""Where heavy queries run: on the replica while it is there and keeps up, else on the primary."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Literal, LiteralString

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool, api_limits, async_connect, async_pool

from .database import CONNECTION_SECONDS, Connection
from .measures import READS, REPLICA_LAG

LOOK_SECONDS = 2.0
_REPLICA_SECONDS = 1.0  # that a request waits for the replica before it turns to the primary
_MARKS = 1800  # an hour of looks
_PRIMARY: LiteralString = (
    "SELECT (CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() - '0/0'::pg_lsn END)::bigint AS lsn"
)
_REPLICA: LiteralString = (
    "SELECT pg_is_in_recovery() AS follows,"
    " (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END)::bigint AS lsn"
)
_log = structlog.get_logger("api")

State = Literal["none", "ok", "behind", "away", "promoted"]
"""`promoted`: it follows nobody any more, so what it has may be as old as that."""


class Marks:
    """How far the primary was, and when: by these a replica's distance becomes a time. Pure.

    The time that a replica tells of itself stands still when nothing is written, and when it is cut off.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=_MARKS)

    def add(self, now: float, position: int) -> None:
        """`now` in seconds, never going back; `position` in bytes of the write-ahead log."""
        self._marks.append((now, position))

    def lag(self, now: float, position: int | None) -> float | None:
        """Seconds that a replica at this position is behind; None: further than is known, or it has none."""
        if position is None:
            return None
        for n, (at, reached) in enumerate(reversed(self._marks)):
            if reached <= position:
                return 0.0 if n == 0 else now - at
        return None


class Reads:
    """Connections for heavy queries; `open` keeps watching the replica until it is left."""

    def __init__(self, store: StoreSettings, primary: Pool) -> None:
        self._store = store
        self._primary = primary
        self._replica: Pool | None = None
        if store.database_replica_url:
            self._replica = async_pool(store, application="quantrac api", url=store.database_replica_url)
        self._marks = Marks()
        self.state: State = "none" if self._replica is None else "away"
        self.lag: float | None = None
        """Seconds the replica is behind; None: unknown."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Nothing is waited for: without a replica at hand the primary answers."""
        if self._replica is None:
            yield
            return
        async with self._replica:
            watching = asyncio.create_task(self._watch(), name="replica")
            try:
                yield
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching

    @asynccontextmanager
    async def connection(self, seconds: float = CONNECTION_SECONDS) -> AsyncIterator[Connection]:
        """One connection; what it reads may be some seconds old.

        Raises:
            PoolTimeout: there is none within `seconds`.
        """
        async with AsyncExitStack() as stack:
            yield await self._enter(stack, seconds)

    async def _enter(self, stack: AsyncExitStack, seconds: float) -> Connection:
        if self._replica is not None and self.state == "ok":
            with suppress(PoolTimeout, psycopg.OperationalError):
                connection = await stack.enter_async_context(self._replica.connection(_REPLICA_SECONDS))
                READS.labels("replica").inc()
                return connection
        READS.labels("primary").inc()
        return await stack.enter_async_context(self._primary.connection(seconds))

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:  # whatever it is, the primary answers and we look again
                self._note("away", None, f"{type(error).__name__}: {' '.join(str(error).split())}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Follow the replica over a connection of its own: a busy pool is no reason to leave it."""
        url = self._store.database_replica_url
        async with await async_connect(
            url, application="quantrac api", autocommit=True, limits=api_limits(self._store)
        ) as replica:
            while True:
                with suppress(psycopg.Error, PoolTimeout):  # reading goes on while the primary is away
                    async with self._primary.connection(LOOK_SECONDS) as primary:
                        found = await (await primary.execute(_PRIMARY)).fetchone()
                    if found is not None and found["lsn"] is not None:
                        self._marks.add(time.monotonic(), found["lsn"])
                row = await (await replica.execute(_REPLICA)).fetchone()
                assert row is not None
                if row["follows"]:
                    lag = self._marks.lag(time.monotonic(), row["lsn"])
                    near = lag is not None and lag <= self._store.database_replica_lag
                    self._note("ok" if near else "behind", lag)
                else:
                    self._note("promoted", None)
                await asyncio.sleep(LOOK_SECONDS)

    def _note(self, state: State, lag: float | None, error: str | None = None) -> None:
        self.lag = lag
        REPLICA_LAG.set(float("nan") if lag is None else lag)
        if state != self.state:
            self.state = state
            (_log.info if state == "ok" else _log.warning)("replica", state=state, lag=lag, error=error)
