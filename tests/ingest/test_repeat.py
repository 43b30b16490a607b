"""Work that comes back: after a fault too, which is told by whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from psycopg_pool import PoolTimeout
from structlog.testing import CapturingLogger

from ingest.repeat import Trouble, repeat, step_by_step

Runner = Callable[[Callable[[], None], asyncio.Event], Coroutine[Any, Any, None]]


def _repeated(work: Callable[[], None], stop: asyncio.Event) -> Coroutine[Any, Any, None]:
    return repeat("work", work, 0.01, stop)


def _stepped(work: Callable[[], None], stop: asyncio.Event) -> Coroutine[Any, Any, None]:
    async def step() -> bool:
        work()
        return True

    return step_by_step("work", step, stop, share=0.5, idle=0.01)


@pytest.mark.parametrize("run", [_repeated, _stepped])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (psycopg.OperationalError("the server\n\tis gone"), "debug"),
        (PoolTimeout("no connection"), "debug"),
        (psycopg.InterfaceError("the connection is closed"), "debug"),
        (psycopg.errors.UndefinedTable("not migrated"), "debug"),
        (psycopg.errors.AdminShutdown("it is shut down"), "debug"),
        (psycopg.errors.QueryCanceled("it takes too long"), "warning"),
        (psycopg.errors.LockNotAvailable("somebody holds it"), "warning"),
        (psycopg.errors.DiskFull("no space left"), "warning"),
        (psycopg.errors.ConfigurationLimitExceeded("too many locks"), "warning"),
        (psycopg.errors.SyntaxError("a query of ours"), "error"),
        (psycopg.DataError("a value of ours"), "error"),
        (ZeroDivisionError("a fault of ours"), "error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_a_fault_is_told_and_the_work_tried_again(
    run: Runner, error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, stop, faults = CapturingLogger(), asyncio.Event(), [error, error]
    loop = asyncio.get_running_loop()

    def work() -> None:
        if faults:
            raise faults.pop()
        loop.call_soon_threadsafe(stop.set)

    monkeypatch.setattr("ingest.repeat._log", log)
    monkeypatch.setattr("ingest.repeat.RETRY_SECONDS", 0.01)
    async with asyncio.timeout(20):
        await run(work, stop)
    assert [call.method_name for call in log.calls] == [told, told]
    assert all(call.kwargs["work"] == "work" for call in log.calls)


def test_who_is_held_up_again_and_again_asks_more_seldom() -> None:
    trouble, slow = Trouble("work", 2.0), Trouble("work", 3600.0)
    held_up = psycopg.errors.LockNotAvailable("somebody holds it")
    assert [trouble.rest_after(held_up) for _ in range(6)] == [3, 6, 12, 24, 48, 60]
    assert trouble.rest_after(psycopg.OperationalError("it is gone")) == 3
    assert trouble.rest_after(held_up) == 60
    trouble.over()
    assert trouble.rest_after(held_up) == 3
    assert [slow.rest_after(held_up) for _ in range(2)] == [3600, 3600]
