"""A real HTTP receiver, the rows others write, and a clock that moves when told."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from alerting.delivery.send import Sender
from alerting.delivery.settings import DeliverySettings
from alerting.delivery.sign import new_secret
from alerting.delivery.worker import Worker
from telemetry.clock import ManualClock
from telemetry.secrets import SecretBox
from telemetry.store.pool import Pool
from tests.wait import PATIENCE

# ---------------------------------------------------------------- the receiver


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Answerer = Callable[[Request], Awaitable[Reply]]


class Receiver:
    """An HTTP server on 127.0.0.1 that keeps what it gets and answers as told."""

    Reply = Reply

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.server_names: list[str | None] = []
        self.answer: Answerer | None = None
        self.port = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.server_names.append(name)
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def always(self, status: int, body: bytes = b"", **headers: str) -> None:
        async def answer(_: Request) -> Reply:
            return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

        self.answer = answer

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]

    async def got(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until `count` requests came."""
        async with asyncio.timeout(seconds):
            while len(self.requests) < count:
                self._changed.clear()
                await self._changed.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            request = Request(method, path, headers, body)
            self.requests.append(request)
            self._changed.set()
            reply = await self.answer(request) if self.answer else Reply()
            lines = [f"HTTP/1.1 {reply.status} X", f"content-length: {len(reply.body)}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in reply.headers.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + reply.body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as listening:
        yield listening


@pytest.fixture
def make_receiver() -> type[Receiver]:
    return Receiver


# ---------------------------------------------------------------- rows


class Outbox:
    """Writes and reads the rows that the engine and the API write and read."""

    def __init__(self, pool: Pool, box: SecretBox, clock: ManualClock) -> None:
        self._pool = pool
        self._box = box
        self._clock = clock
        self.secrets: dict[int, str] = {}

    async def endpoint(self, url: str) -> int:
        secret = new_secret()
        (row,) = await self.rows(
            "INSERT INTO endpoint (name, url, secret) VALUES ('test', %s, %s) RETURNING id",
            url,
            self._box.encrypt(secret.encode()),
        )
        self.secrets[row["id"]] = secret
        return int(row["id"])

    async def enqueue(
        self,
        endpoint: int,
        *,
        alert: uuid.UUID | None = None,
        seq: int | None = None,
        body: str = '{"type":"alert.opened"}',
        at: datetime | None = None,
        conn: Any = None,
    ) -> str:
        message = f"msg_{uuid.uuid4().hex}"
        await (conn.execute if conn else self.rows)(
            "WITH m AS (INSERT INTO message (id, type, alert_id, alert_seq, body, created_at) "
            "VALUES (%(id)s, 'alert.opened', %(alert)s, %(seq)s, %(body)s, %(at)s)) "
            "INSERT INTO delivery (message_id, endpoint_id, alert_id, alert_seq, next_at, created_at) "
            "VALUES (%(id)s, %(endpoint)s, %(alert)s, %(seq)s, %(at)s, %(at)s) RETURNING id",
            {
                "id": message,
                "alert": alert,
                "seq": seq,
                "body": body,
                "endpoint": endpoint,
                "at": at or self._clock.now(),
            },
        )
        return message

    async def delivery(self, message: str) -> dict[str, Any]:
        (row,) = await self.rows("SELECT * FROM delivery WHERE message_id = %s", message)
        return row

    async def attempts(self, message: str) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT a.* FROM attempt a JOIN delivery d ON d.id = a.delivery_id "
            "WHERE d.message_id = %s ORDER BY a.id",
            message,
        )

    async def pending(self) -> int:
        (row,) = await self.rows("SELECT count(*) AS n FROM delivery WHERE state = 'pending'")
        return int(row["n"])

    async def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        parameters = values[0] if len(values) == 1 and isinstance(values[0], dict) else values
        async with self._pool.connection() as conn:
            cursor = await conn.execute(sql, parameters)
            return await cursor.fetchall() if cursor.description else []


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def box() -> SecretBox:
    return SecretBox("a key for tests")


@pytest.fixture
def settings() -> DeliverySettings:
    return DeliverySettings(webhook_allow="127.0.0.0/8, ::1/128", webhook_timeout=PATIENCE)


@pytest.fixture
def outbox(pool: Pool, box: SecretBox, clock: ManualClock) -> Outbox:
    return Outbox(pool, box, clock)


@pytest.fixture
async def make_worker(
    pool: Pool, box: SecretBox, clock: ManualClock, settings: DeliverySettings
) -> AsyncIterator[Callable[..., Awaitable[Worker]]]:
    senders: list[Sender] = []

    async def make(**changes: Any) -> Worker:
        chosen = DeliverySettings(**{**settings.model_dump(), **changes})
        sender = Sender(chosen)
        senders.append(sender)
        return Worker(pool, chosen, clock, box, sender, spread=lambda: 0.0)

    yield make
    for sender in senders:
        await sender.__aexit__()


@pytest.fixture
async def worker(make_worker: Callable[..., Awaitable[Worker]]) -> Worker:
    return await make_worker()


@pytest.fixture
def deliver() -> Callable[[Worker], Awaitable[int]]:
    """Do everything that is due now; returns the number of tries."""

    async def run(worker: Worker) -> int:
        done = 0
        while jobs := await worker.claim(100):
            await asyncio.gather(*(worker.perform(job) for job in jobs))
            done += len(jobs)
        return done

    return run
