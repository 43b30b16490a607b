"""The API on a real socket, a proxy that can cut it off from its database, and a reader of its stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.service import run
from api.settings import ApiSettings
from ingest.settings import IngestSettings
from telemetry.clock import SystemClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from tests.wait import PATIENCE


class Served(NamedTuple):
    """A running API: set `stop` and await `ended` to end it."""

    url: str
    stop: asyncio.Event
    ended: asyncio.Task[None]


@asynccontextmanager
async def serving(
    database_url: str, box: SecretBox, *, ingest: IngestSettings | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """The API as the service runs it, on a port of the system's choice."""
    loop = asyncio.get_running_loop()
    port: asyncio.Future[int] = loop.create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(
        run(
            ApiSettings(api_port=0, **settings),
            StoreSettings(database_url=database_url),
            SystemClock(),
            box,
            stop,
            ingest=ingest,
            on_listening=port.set_result,
        )
    )
    async with asyncio.timeout(PATIENCE):
        yield_port = await port
    try:
        yield Served(f"http://127.0.0.1:{yield_port}", stop, task)
    finally:
        stop.set()
        await task


def calling(url: str = "", **headers: str) -> httpx.AsyncClient:
    """A client more patient than httpx's five seconds, which a first answer takes on a busy machine."""
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False)


class Proxy:
    """Passes TCP connections on to the database until it is cut."""

    def __init__(self, database_url: str) -> None:
        parts = conninfo_to_dict(database_url)
        self._target = (str(parts["host"]), int(parts.get("port") or 5432))
        self._parts = parts
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return make_conninfo("", **{**self._parts, "host": "127.0.0.1", "port": self.port})

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End every connection and take no new one."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except OSError:
        pass
    finally:
        target.close()


class Sent(NamedTuple):
    """One server-sent event."""

    kind: str
    data: Any
    id: str


class Listener:
    """Reads a stream, event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self, *kinds: str, seconds: float = PATIENCE) -> Sent:
        """The next event of these kinds; others are passed over."""
        async with asyncio.timeout(seconds):
            fields: dict[str, str] = {}
            async for line in self._lines:
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if fields.get("event") in kinds:
                    return Sent(fields["event"], json.loads(fields["data"]), fields["id"])
                fields = {}
        raise AssertionError("the stream ended")

    async def until_end(self, seconds: float = PATIENCE) -> list[str]:
        """The lines that still come."""
        async with asyncio.timeout(seconds):
            return [line async for line in self._lines]


@asynccontextmanager
async def listening(client: httpx.AsyncClient, url: str = "", **params: str) -> AsyncIterator[Listener]:
    async with client.stream("GET", f"{url}/api/v1/stream", params=params) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Listener(response)
