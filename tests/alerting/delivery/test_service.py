"""The running service: several at once, killed, cut off from the database, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from alerting.delivery import service
from alerting.delivery.settings import DeliverySettings
from alerting.delivery.worker import Worker
from telemetry.clock import ManualClock, SystemClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool, async_pool
from tests.sessions import WAITING
from tests.wait import PATIENCE, until

ROOT = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def _running(
    pool: Pool, settings: DeliverySettings, box: SecretBox, services: int = 1
) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(service.run(pool, settings, SystemClock(), box, stop)) for _ in range(services)
    ]
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)


async def _done(outbox: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while left := await outbox.pending():
        assert time.monotonic() < deadline, f"{left} deliveries still pending after {seconds} s"
        await asyncio.sleep(0.02)


async def test_three_services_deliver_each_message_once_and_in_order(
    outbox: Any, receiver: Any, pool: Pool, settings: DeliverySettings, box: SecretBox
) -> None:
    endpoints = [await outbox.endpoint(receiver.url(f"/{number}")) for number in range(3)]
    alerts = [uuid.uuid4() for _ in range(10)]
    expected: dict[tuple[str, uuid.UUID], list[str]] = {}
    async with _running(pool, settings, box, services=3):
        for seq in range(1, 6):
            for number, endpoint in enumerate(endpoints):
                for alert in alerts:
                    message = await outbox.enqueue(endpoint, alert=alert, seq=seq)
                    expected.setdefault((f"/{number}", alert), []).append(message)
        await _done(outbox)
    assert len(receiver.ids) == len(set(receiver.ids)) == 150
    for (path, _), messages in expected.items():
        got = [r.headers["webhook-id"] for r in receiver.requests if r.path == path]
        assert [message for message in got if message in messages] == messages
    rows = await outbox.rows("SELECT attempts FROM delivery")
    assert {row["attempts"] for row in rows} == {1}


async def test_a_hanging_endpoint_delays_nobody_else(
    outbox: Any, receiver: Any, pool: Pool, settings: DeliverySettings, box: SecretBox
) -> None:
    let_go = asyncio.Event()

    async def answer(request: Any) -> Any:
        if request.path == "/slow":
            await let_go.wait()
        return receiver.Reply()

    receiver.answer = answer
    slow, quick = [await outbox.endpoint(receiver.url(path)) for path in ("/slow", "/quick")]
    few_slots = settings.model_copy(update={"webhook_concurrency": 6, "webhook_timeout": 2 * PATIENCE})
    async with _running(pool, few_slots, box):
        for _ in range(30):
            await outbox.enqueue(slow)
        await receiver.got(4)
        for _ in range(30):
            await outbox.enqueue(quick)
        # in less than the slow one's time-out
        await until(lambda: [r.path for r in receiver.requests].count("/quick") == 30, PATIENCE)
        assert [r.path for r in receiver.requests].count("/slow") == 4
        let_go.set()
        await _done(outbox)
    assert len(set(receiver.ids)) == len(receiver.ids) == 60


async def test_stopping_lets_the_try_under_way_end(
    outbox: Any, receiver: Any, pool: Pool, settings: DeliverySettings, box: SecretBox
) -> None:
    let_go = asyncio.Event()

    async def answer(_: Any) -> Any:
        await let_go.wait()
        return receiver.Reply()

    receiver.answer = answer
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    other = await outbox.endpoint(receiver.url())
    async with _running(pool, settings, box) as stop:
        await receiver.got(1)
        stop.set()
        unsent = await outbox.enqueue(other)
        let_go.set()
    assert (await outbox.delivery(message))["state"] == "delivered"
    assert (await outbox.delivery(unsent))["attempts"] == 0
    assert receiver.ids == [message]


async def test_what_is_claimed_while_the_word_to_stop_comes_is_given_back_untried(
    outbox: Any, receiver: Any, pool: Pool, settings: DeliverySettings, box: SecretBox
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    async with _running(pool, settings, box) as stop, pool.connection() as holder, holder.transaction():
        await holder.execute("LOCK TABLE delivery IN ACCESS EXCLUSIVE MODE")
        message = await outbox.enqueue(endpoint, conn=holder)
        deadline = time.monotonic() + PATIENCE
        while not await outbox.rows(WAITING):
            assert time.monotonic() < deadline, "no claim came"
            await asyncio.sleep(0.02)
        stop.set()
    row = await outbox.delivery(message)
    assert (row["state"], row["leased_until"], row["attempts"]) == ("pending", None, 0)
    assert receiver.ids == []


async def test_stopping_gives_back_what_does_not_end(
    outbox: Any,
    receiver: Any,
    pool: Pool,
    settings: DeliverySettings,
    box: SecretBox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(service, "_GRACE", 0.2)
    receiver.answer = hang
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    async with _running(pool, settings, box):
        await receiver.got(1)
    row = await outbox.delivery(message)
    assert (row["state"], row["leased_until"], row["attempts"]) == ("pending", None, 0)


_PROGRAM = """
import asyncio, sys
from alerting.delivery import service
from alerting.delivery.settings import DeliverySettings
from telemetry.clock import SystemClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.pool import async_pool

async def main():
    async with async_pool(StoreSettings(database_url=sys.argv[1]), application="victim") as pool:
        settings = DeliverySettings(webhook_allow="127.0.0.0/8")
        await service.run(pool, settings, SystemClock(), SecretBox("a key for tests"), asyncio.Event())

asyncio.run(main())
"""


async def test_what_a_killed_process_held_is_sent_by_another(
    outbox: Any,
    receiver: Any,
    database_url: str,
    clock: ManualClock,
    worker: Worker,
    deliver: Callable[[Worker], Awaitable[int]],
) -> None:
    async def hang(_: Any) -> Any:
        await asyncio.Event().wait()

    receiver.answer = hang
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROGRAM,
        database_url,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await receiver.got(1)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    receiver.always(200)
    assert await deliver(worker) == 0  # the dead process's lease holds
    clock.advance(timedelta(seconds=120))
    assert await deliver(worker) == 1
    assert receiver.ids == [message, message]
    assert (await outbox.delivery(message))["state"] == "delivered"


class _Wire:
    """A TCP relay to the database that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._whole = True
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = 0

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await self.cut()
            await server.wait_closed()

    async def cut(self) -> None:
        self._whole = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def mend(self) -> None:
        self._whole = True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            if not self._whole:
                self.refused += 1
                return
            onward_reader, onward = await asyncio.open_connection(*self._target)
            writers.append(onward)
            await asyncio.wait(
                {
                    asyncio.create_task(_pump(reader, onward)),
                    asyncio.create_task(_pump(onward_reader, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for end in writers:
                end.close()
            for end in writers:
                with suppress(OSError):
                    await end.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


async def test_a_lost_database_is_waited_for_and_no_result_is_lost(
    outbox: Any, receiver: Any, database_url: str, settings: DeliverySettings, box: SecretBox
) -> None:
    let_go = asyncio.Event()

    async def answer(_: Any) -> Any:
        await let_go.wait()
        return receiver.Reply()

    receiver.answer = answer
    endpoint = await outbox.endpoint(receiver.url())
    alert = uuid.uuid4()
    first = [await outbox.enqueue(endpoint) for _ in range(3)] + [
        await outbox.enqueue(endpoint, alert=alert, seq=1)
    ]
    target = conninfo_to_dict(database_url)
    wire = _Wire(str(target["host"]), int(str(target["port"])))
    async with wire.laid() as port:
        url = make_conninfo(database_url, host="127.0.0.1", port=port)
        async with (
            async_pool(StoreSettings(database_url=url), application="test") as pool,
            _running(pool, settings, box),
        ):
            await receiver.got(4)
            await wire.cut()
            let_go.set()
            later = await outbox.enqueue(endpoint, alert=alert, seq=2)
            await until(lambda: wire.refused >= 3)
            assert await outbox.pending() == 5
            wire.mend()
            await _done(outbox, 60)
    assert sorted(receiver.ids[:4]) == sorted(first)
    assert receiver.ids[4:] == [later]


async def test_metrics_count_tries_and_what_waits(
    outbox: Any, receiver: Any, pool: Pool, settings: DeliverySettings, box: SecretBox
) -> None:
    def count(outcome: str) -> float:
        return REGISTRY.get_sample_value("quantrac_webhook_attempts_total", {"outcome": outcome}) or 0

    before = {outcome: count(outcome) for outcome in ("delivered", "retry")}
    replies = iter([500, 200])

    async def answer(_: Any) -> Any:
        return receiver.Reply(next(replies))

    receiver.answer = answer
    await outbox.enqueue(await outbox.endpoint(receiver.url()))
    async with _running(pool, settings, box):
        await _done(outbox)
    assert count("delivered") - before["delivered"] == 1
    assert count("retry") - before["retry"] == 1
    assert REGISTRY.get_sample_value("quantrac_deliveries_pending") is not None


async def test_logs_hold_neither_the_path_nor_the_secret(
    outbox: Any,
    receiver: Any,
    worker: Worker,
    deliver: Callable[[Worker], Awaitable[int]],
) -> None:
    receiver.always(500)
    endpoint = await outbox.endpoint(receiver.url("/private-path?token=xyz-token"))
    await outbox.enqueue(endpoint)
    with structlog.testing.capture_logs() as entries:
        await deliver(worker)
    said = str(entries)
    assert "webhook retry" in said
    for hidden in ("private-path", "xyz-token", outbox.secrets[endpoint]):
        assert hidden not in said
