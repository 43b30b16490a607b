"""kill -9 of all that `quantrac up` runs, its PostgreSQL and its broker included."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from quantrac.embedded import EmbeddedBroker, EmbeddedPostgres
from quantrac.embedded.mosquitto import Mosquitto
from quantrac.embedded.process import wait_until
from tests.e2e.conftest import Installation
from tests.traffic import publish
from tests.wait import until

from .traffic import READINGS, Frame, frames, paced, register_devices

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
ROUNDS = 2
RATE = 300.0


class World(Installation):
    """An installation with registered devices and a network server that repeats what was not acknowledged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.messages = list(frames(0, 12_000))
        self.sent = 0

    def processes(self) -> list[psutil.Process]:
        """Every process of it, servers with their children included."""
        found = [psutil.Process(pid) for pid in (self.program.pid, *self.services())]  # type: ignore[union-attr]
        for process in psutil.process_iter(["name", "cmdline"]):
            named = process.info["name"] in ("postgres", "mosquitto")
            if named and any(str(self.folder) in word for word in process.info["cmdline"] or ()):
                found.append(process)
        return [*found, *(child for process in found for child in _children(process))]

    def kill(self) -> None:
        """kill -9 of everything at once, before any of it notices the end of the others."""
        processes = self.processes()
        assert {"postgres", "mosquitto"} <= {_name(process) for process in processes}
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.program.kill()  # type: ignore[union-attr]
        assert wait_until(lambda: not any(_alive(process) for process in processes), 20)

    def stored(self) -> dict[Frame, tuple[int, int]]:
        """Of each frame: rows and readings."""
        with psycopg.connect(self.database_url()) as connection:
            rows = connection.execute(
                "SELECT d.dev_eui, u.f_cnt, count(DISTINCT u.id), count(r.*) FROM uplink u"
                " JOIN device d ON d.id = u.device_id LEFT JOIN reading r ON r.uplink_id = u.id GROUP BY 1, 2"
            ).fetchall()
        return {Frame(eui, f_cnt): (uplinks, readings) for eui, f_cnt, uplinks, readings in rows}

    def database_url(self) -> str:
        return str(self.runtime()["database_url"])

    def publish(self, enough: threading.Event) -> None:
        """The next messages, until `enough` is set; what is on its way then goes to the next broker."""

        def some() -> Iterator[tuple[str, bytes]]:
            for message in paced(self.messages[self.sent :], RATE):
                if enough.is_set():
                    return
                self.sent += 1
                yield message.topic, message.payload

        with contextlib.suppress(AssertionError):  # it waits half a minute; a busy machine may start slower
            publish(self.broker_url("network"), some(), in_flight=50)


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    if Mosquitto.find() is None:
        pytest.skip("Mosquitto is not installed")
    made = World(tmp_path / "dữ liệu")
    try:
        yield made
    finally:
        await made.stop()
        for server in (EmbeddedBroker(made.folder), EmbeddedPostgres(made.folder)):
            await asyncio.to_thread(server.stop)


async def test_kill_9_of_everything_at_random_instants(world: World, rng: random.Random) -> None:
    """What was seen to be committed is there, once, after every start; nothing has to be cleared away."""
    await world.start()
    with psycopg.connect(world.database_url(), autocommit=True) as connection:
        register_devices(connection)
    await asyncio.sleep(1)  # the registry is read once a second
    for _ in range(ROUNDS):
        enough = threading.Event()
        publisher = threading.Thread(target=world.publish, args=(enough,))
        publisher.start()
        instant = time.monotonic() + rng.uniform(1.5, 4.0)
        seen: dict[Frame, tuple[int, int]] = {}
        while time.monotonic() < instant or not seen:
            seen = await asyncio.to_thread(world.stored)
        world.kill()
        enough.set()
        await world.start()
        await asyncio.to_thread(publisher.join)
        after = world.stored()
        lost = seen.keys() - after.keys()
        assert not lost, f"{len(lost)} frames are gone whose COMMIT was seen"
        assert set(after.values()) == {(1, READINGS)}
    # The network server sends everything again: what is there stays as it is, what the broker lost comes.
    sent = world.messages[: world.sent + 100]
    again = [(message.topic, message.payload) for message in sent]
    await asyncio.to_thread(publish, world.broker_url("network"), again)
    await until(lambda: len(world.stored()) >= len(sent), 60)
    final = world.stored()
    assert final.keys() == {message.frame for message in sent}
    assert set(final.values()) == {(1, READINGS)}
