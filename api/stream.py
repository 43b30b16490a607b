"""The live stream: one task a process follows the store while anybody listens, and tells them all.

Whoever cannot keep up is told to fetch anew (`resync`) and dropped.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from itertools import count

import msgspec
import psycopg
import structlog
from psycopg_pool import PoolClosed, PoolTimeout

from telemetry.store.pool import Pool

from .database import CONNECTION_SECONDS
from .live import Changes, Follower, LiveReading
from .measures import STREAM_CLIENTS, STREAM_DROPPED
from .problems import Problem

LOOK_SECONDS = 0.25
RETRY_SECONDS = 1.0
MOST_CLIENTS = 1000
QUEUE_EVENTS = 256
EVENT_READINGS = 500

_UNREACHABLE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed)
_log = structlog.get_logger("api")


class Client:
    """One listener: a queue of encoded events that ends with None. `station` None: everything."""

    def __init__(self, station: str | None) -> None:
        self.station = station
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_EVENTS)

    def end(self, last: bytes | None = None) -> None:
        """Drop what waits; the listener gets `last` and then the end."""
        while not self.queue.empty():
            self.queue.get_nowait()
        if last is not None:
            self.queue.put_nowait(last)
        self.queue.put_nowait(None)


class Hub:
    """Hands what changes in the store to every client; follows only while there is one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._clients: set[Client] = set()
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._run = secrets.token_hex(4)
        self._numbers = count(1)

    async def join(self, station: str | None) -> Client:
        """A client that gets everything committed after this returns; hand it to `leave` in the end.

        Raises:
            Problem: 503, the service is stopping or has too many listeners.
            psycopg.OperationalError: the database cannot be reached.
        """
        async with self._starting:
            if self._closed or len(self._clients) >= MOST_CLIENTS:
                raise Problem(503, "unavailable", "No more listeners just now.", headers={"Retry-After": "5"})
            if self._task is None or self._task.done():
                follower = Follower()
                async with self._pool.connection(CONNECTION_SECONDS) as db:
                    await follower.begin(db)
                self._task = asyncio.create_task(self._follow(follower), name="stream")
            client = Client(station)
            self._clients.add(client)
        STREAM_CLIENTS.set(len(self._clients))
        return client

    def leave(self, client: Client) -> None:
        self._clients.discard(client)
        STREAM_CLIENTS.set(len(self._clients))

    def close(self) -> None:
        """End every stream, for good."""
        self._closed = True
        for client in list(self._clients):
            client.end()
            self.leave(client)
        if self._task is not None:
            self._task.cancel()

    def event(self, kind: str, data: bytes) -> bytes:
        """One event on the wire (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        return b"id: %s.%d\nevent: %s\ndata: %s\n\n" % (
            self._run.encode(),
            next(self._numbers),
            kind.encode(),
            data,
        )

    def resync(self) -> bytes:
        """Tells a client that it missed something and has to fetch anew."""
        return self.event("resync", b"{}")

    async def _follow(self, follower: Follower) -> None:
        lost = False
        # The first client is added right after this task is made, before it first runs.
        while self._clients:
            try:
                async with self._pool.connection(CONNECTION_SECONDS) as db:
                    if lost:
                        await follower.begin(db)
                        self._tell(lambda _: [self.resync()])
                        lost = False
                    self._publish(await follower.look(db))
            except Exception as error:  # whatever it was, the listeners must not be left with a dead stream
                if not lost:
                    _log.warning("stream_interrupted", exc_info=not isinstance(error, _UNREACHABLE))
                lost = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    def _publish(self, changes: Changes) -> None:
        if changes.skipped:
            self._tell(lambda _: [self.resync()])
        if not changes.readings and not changes.alerts:
            return
        alerts = [
            (
                view.station.code if view.station else None,
                self.event("alert", view.model_dump_json().encode()),
            )
            for view in changes.alerts
        ]
        encoded: dict[str | None, list[bytes]] = {}

        def events(station: str | None) -> list[bytes]:
            if station not in encoded:
                shown = [r for r in changes.readings if station is None or r.station == station]
                encoded[station] = [
                    *self._reading_events(shown),
                    *(data for code, data in alerts if station is None or code == station),
                ]
            return encoded[station]

        self._tell(events)

    def _reading_events(self, readings: Sequence[LiveReading]) -> list[bytes]:
        return [
            self.event("reading", msgspec.json.encode(readings[at : at + EVENT_READINGS]))
            for at in range(0, len(readings), EVENT_READINGS)
        ]

    def _tell(self, events: Callable[[str | None], list[bytes]]) -> None:
        for client in list(self._clients):
            try:
                for data in events(client.station):
                    client.queue.put_nowait(data)
            except asyncio.QueueFull:
                client.end(self.resync())
                self.leave(client)
                STREAM_DROPPED.inc()
