"""Fixtures of the simulators' tests: a loaded scenario, its recorded traffic, and a real Mosquitto."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simulators.run import run
from simulators.scenario import Scenario, load_scenario
from tests.ports import free_port

DEADLINE_S = 20.0


@pytest.fixture(scope="session")
def flood() -> Scenario:
    return load_scenario("la-nga-flood")


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, Any]]]:
    """Runs a scenario into a file and gives its lines, with `body` the parsed payload."""
    folder = tmp_path_factory.mktemp("runs")
    numbers = iter(range(1000))

    def _record(scenario: Scenario, **options: Any) -> list[dict[str, Any]]:
        path = folder / f"{next(numbers)}.ndjson"
        asyncio.run(run(scenario, out=path, **{"seed": 1, **options}))
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line | {"body": json.loads(line["payload"])} for line in lines]

    return _record


@pytest.fixture(scope="session")
def flood_lines(flood: Scenario, record: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return record(flood)


@dataclass
class Mosquitto:
    """A broker of the test's own that can be stopped and started again on its port."""

    config: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        program = shutil.which("mosquitto")
        assert program
        self.process = subprocess.Popen(
            [program, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "mosquitto does not listen"
                assert self.process.poll() is None, "mosquitto ended"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(DEADLINE_S)
            self.process = None


@pytest.fixture
def make_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    started: list[Mosquitto] = []

    def _make(*, anonymous: bool = True) -> Mosquitto:
        port = free_port()
        config = tmp_path / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous {str(anonymous).lower()}\n"
            f"persistence true\npersistence_location {tmp_path}/\nmax_queued_messages 0\nuser root\n"
        )
        broker = Mosquitto(config, port)
        started.append(broker)
        broker.start()
        return broker

    yield _make
    for broker in started:
        broker.stop()
