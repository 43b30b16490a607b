"""Servers and services are kept running whatever goes wrong at their start."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quantrac import supervisor, up
from tests.wait import until


@pytest.fixture
def pipe() -> Iterator[int]:
    ends = os.pipe()
    yield ends[0]
    for end in ends:
        os.close(end)


async def test_a_service_that_cannot_be_spawned_is_tried_again(
    pipe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn, tries = asyncio.create_subprocess_exec, 0

    async def scarce(*command: Any, **more: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BlockingIOError("Resource temporarily unavailable")
        return await spawn(*command, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", scarce)
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.01)
    child = supervisor._Child("test", [sys.executable, "-c", "import time; time.sleep(60)"], pipe)
    try:
        await until(lambda: child.pid)
    finally:
        await child.stop()
    assert tries == 3


class Server:
    """An embedded server that is down, on a disk that is full at first."""

    def __init__(self) -> None:
        self.starts = 0

    def is_running(self) -> bool:
        return self.starts >= 2

    def start(self) -> None:
        self.starts += 1
        if self.starts < 2:
            raise OSError(28, "No space left on device")


async def test_a_server_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "_WATCH_SECONDS", 0.01)
    servers = up._Servers(tmp_path, database=False, broker=False)
    server = Server()
    servers.postgres = server  # type: ignore[assignment]
    watching = asyncio.create_task(servers.watch())
    await until(server.is_running)
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
