"""Server-sent events: readings and alerts as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import psycopg
from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from psycopg_pool import PoolTimeout
from starlette.types import Receive, Scope, Send

from ..auth import Principal, Viewer, still_valid
from ..database import CONNECTION_SECONDS
from ..services import Services, Svc
from ..stream import Client
from . import BASE

router = APIRouter(prefix=BASE, tags=["stream"])

PING_SECONDS = 15.0
_RETRY = b"retry: 2000\n\n"


class _EventStream(StreamingResponse):
    """Leaves the hub however it ends, also when it never got to begin."""

    media_type = "text/event-stream"

    def __init__(self, services: Services, principal: Principal, client: Client, first: bytes) -> None:
        super().__init__(_events(services, principal, client, first), headers={"X-Accel-Buffering": "no"})
        self._services = services
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._services.hub.leave(self._client)


@router.get("/stream", response_class=StreamingResponse)
async def stream(
    principal: Viewer,
    services: Svc,
    station: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Follow what is stored from now on, of one station or of all.

    Events: `reading` (a JSON array of readings), `alert` (an alert, on every change), `ping` (every 15 s) and
    `resync`: something was missed, fetch anew. A client that reconnects gets `resync` first.
    """
    client = await services.hub.join(station)
    first = _RETRY + (services.hub.resync() if last_event_id else b"")
    return _EventStream(services, principal, client, first)


async def _events(
    services: Services, principal: Principal, client: Client, first: bytes
) -> AsyncIterator[bytes]:
    yield first
    loop = asyncio.get_running_loop()
    ping_at = loop.time() + PING_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(ping_at):
                data = await client.queue.get()
        except TimeoutError:
            if not await _still_welcome(services, principal):
                return
            yield services.hub.event("ping", b"{}")
            ping_at = loop.time() + PING_SECONDS
        else:
            if data is None:
                return
            yield data


async def _still_welcome(services: Services, principal: Principal) -> bool:
    try:
        async with services.pool.connection(CONNECTION_SECONDS) as db:
            return await still_valid(db, principal, services.clock.now())
    except (psycopg.OperationalError, PoolTimeout):
        return True  # nobody is shut out because the database is away; nothing is sent meanwhile
