"""Fixtures of the embedded servers' own tests; every process started here is ended here, by its id."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from quantrac.embedded import EmbeddedBroker, EmbeddedPostgres
from quantrac.embedded.mosquitto import Mosquitto

ROOT = Path(__file__).parents[2]
SECONDS = 20.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder whose name has what a careless configuration file breaks on."""
    return tmp_path / "dữ liệu" / "quantrac"


@pytest.fixture
def postgres(data_dir: Path) -> Iterator[Callable[[], EmbeddedPostgres]]:
    """Makes launchers of the same server, as one program run after another would."""
    data_dir.mkdir(parents=True)
    yield lambda: EmbeddedPostgres(data_dir)
    EmbeddedPostgres(data_dir).stop()
    shutil.rmtree(data_dir)


@pytest.fixture(params=["mosquitto", "nats"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "mosquitto" and Mosquitto.find() is None:
        pytest.skip("Mosquitto is not installed")
    return str(request.param)


@pytest.fixture
def broker(data_dir: Path, kind: str) -> Iterator[Callable[..., EmbeddedBroker]]:
    """Makes launchers of the same broker."""
    yield lambda **changes: EmbeddedBroker(data_dir, **{"kind": kind, **changes})
    EmbeddedBroker(data_dir).stop()


class Child:
    """A Python program that prints lines and then waits for the end of its input."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        found = self.process.stdout.readline().strip()
        if not found:
            raise AssertionError(f"The program ended: {self.process.communicate()[1]}")
        return found

    def kill(self) -> None:
        """SIGKILL to the whole process group, as near to Ctrl-C's reach as it is deadly."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def run_child() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def run(code: str, *arguments: object) -> Child:
        children.append(Child(code, *arguments))
        return children[-1]

    yield run
    for child in children:
        child.kill()


class Mqtt:
    """A paho client (MQTT 3.1.1) that keeps what it receives."""

    def __init__(self, url: str, client_id: str, *, clean: bool = True) -> None:
        parts = urlsplit(url)
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._connected: queue.Queue[str] = queue.Queue()
        self._granted: queue.Queue[list[int]] = queue.Queue()
        self._acked: queue.Queue[int] = queue.Queue()
        self._lost = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean, reconnect_on_failure=False
        )
        if parts.username:
            self._client.username_pw_set(parts.username, parts.password)
        self._client.on_connect = lambda _c, _d, _f, reason, _p: self._connected.put(reason.getName())
        self._client.on_subscribe = lambda _c, _d, _m, codes, _p: self._granted.put([c.value for c in codes])
        self._client.on_publish = lambda _c, _d, mid, _r, _p: self._acked.put(mid)
        self._client.on_disconnect = lambda *_: self._lost.set()
        self._client.on_message = lambda _c, _d, message: self.received.put((message.topic, message.payload))
        self._client.connect(parts.hostname or "", parts.port or 1883)
        self._client.loop_start()
        self.answer = self._connected.get(timeout=SECONDS)

    def subscribe(self, topic: str) -> list[int]:
        self._client.subscribe(topic, qos=1)
        return self._granted.get(timeout=SECONDS)

    def publish(self, topic: str, *payloads: bytes, retain: bool = False) -> None:
        """Returns when the broker acknowledged all."""
        for payload in payloads:
            self._client.publish(topic, payload, qos=1, retain=retain)
        for _ in payloads:
            self._acked.get(timeout=SECONDS)

    def publish_unheard(self, topic: str, payload: bytes) -> None:
        """Returns when the broker acknowledged it or cut the connection: both are ways to refuse."""
        self._client.publish(topic, payload, qos=1)
        while not self._lost.wait(0.02) and self._acked.empty():
            pass

    def take(self, count: int) -> list[tuple[str, bytes]]:
        return [self.received.get(timeout=SECONDS) for _ in range(count)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def mqtt() -> Iterator[Callable[..., Mqtt]]:
    clients: list[Mqtt] = []

    def connect(url: str, client_id: str, *, clean: bool = True) -> Mqtt:
        clients.append(Mqtt(url, client_id, clean=clean))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
