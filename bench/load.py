"""The publisher: a process of its own that writes ready-made packets to a socket and counts every PUBACK.

A client library would cost more than what is measured. The broker must acknowledge in the order of sending
(MQTT 3.1.1 §4.6), so one look at the packet identifiers shows whether all came.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import signal
import socket
import time
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import numpy.typing as npt

from telemetry.mqtt import parse_mqtt_url

from .messages import PACKET_IDS, Corpus

_WINDOW = 4000
_BUFFER = 1 << 20
_CHUNK = 1 << 16
_SILENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.001
_PUNCTUAL_SECONDS = (0.0005, 0.02)
_SPAWN = multiprocessing.get_context("spawn")


class Loader:
    """Publishes a corpus.

    A context manager: it publishes inside the block, and nothing is left of it after.

    Without `due` it sends as fast as the broker takes it, at most as many as `allow` allows; with `due`, the
    seconds after `started_at` for each message, it sends each then, whatever happens elsewhere.
    """

    def __init__(self, url: str, corpus: Corpus, due: npt.NDArray[np.float64] | None = None) -> None:
        self._allowed = _SPAWN.Value("q", 0, lock=False)
        self._acked = _SPAWN.Value("q", 0, lock=False)
        self._stopping = _SPAWN.Value("b", 0, lock=False)
        self._started_at = _SPAWN.Value("d", 0.0, lock=False)
        self._process: BaseProcess = _SPAWN.Process(
            target=_publish,
            args=(url, corpus, due, self._allowed, self._acked, self._stopping, self._started_at),
            name="loader",
            daemon=True,
        )

    def __enter__(self) -> Loader:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join(10)

    def allow(self, count: int) -> None:
        """Messages that may be sent in all from now on."""
        self._allowed.value = count

    @property
    def acked(self) -> int:
        """Messages the broker has acknowledged."""
        return int(self._acked.value)

    @property
    def started_at(self) -> float:
        """`time.monotonic()` at which the schedule began; 0 before."""
        return float(self._started_at.value)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def finish(self) -> int:
        """Send nothing more; how many were acknowledged. Raises `RuntimeError` when an ack is missing."""
        self._stopping.value = 1
        self._process.join(_SILENCE_SECONDS * 2)
        if self._process.exitcode != 0:
            raise RuntimeError("the publisher failed: see its message above")
        return self.acked


def _publish(
    url: str,
    corpus: Corpus,
    due: npt.NDArray[np.float64] | None,
    limit: Any,
    acked: Any,
    stopping: Any,
    started_at: Any,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    with _connect(url) as link, corpus.file.open("rb") as file:
        packets = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        link.setblocking(False)
        offsets, total, sent = corpus.offsets, len(corpus), 0
        acks = Acks()
        heard = began = started_at.value = time.monotonic()
        while acks.count < total:
            if stopping.value:
                # The packet under way is finished.
                total = min(total, int(np.searchsorted(offsets, sent)))
            allowed, pause = min(total, acks.count + _WINDOW), _PAUSE_SECONDS
            if due is None:
                allowed = min(allowed, limit.value)
            else:
                now = time.monotonic() - began
                allowed = min(allowed, int(np.searchsorted(due, now, "right")))
                pause = float(np.clip(due[min(allowed, total - 1)] - now, *_PUNCTUAL_SECONDS))
            if sent < (end := int(offsets[allowed])):
                with contextlib.suppress(BlockingIOError):
                    sent += link.send(packets[sent:end])
            with contextlib.suppress(BlockingIOError):
                acks.read(link.recv(_CHUNK))
                acked.value = acks.count
                heard = time.monotonic()
            if offsets[acks.count] >= sent:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise TimeoutError(f"the broker acknowledged {acks.count} messages and then no more")
            # Not woken by every ack: a publisher that is busy takes the processor from what is measured.
            time.sleep(pause)
        link.setblocking(True)
        link.sendall(b"\xe0\x00")


class Acks:
    """PUBACKs as they come: `count` of them, each the next in order."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = b""

    def read(self, data: bytes) -> None:
        if not data:
            raise ConnectionError("the broker closed the publisher's connection")
        data = self._rest + data
        whole = len(data) // 4
        self._rest = data[4 * whole :]
        words = np.frombuffer(data, dtype=">u2", count=2 * whole).reshape(whole, 2)
        expected = (self.count + np.arange(whole)) % PACKET_IDS + 1
        if not (np.all(words[:, 0] == 0x4002) and np.array_equal(words[:, 1], expected)):
            raise ConnectionError("the broker skipped an acknowledgement")
        self.count += whole


def _connect(url: str) -> socket.socket:
    """A connection of MQTT 3.1.1 with a clean session. Raises `ConnectionError` when the broker says no."""
    address = parse_mqtt_url(url)
    link = socket.create_connection((address.host, address.port), timeout=10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    fields = (b"bench-loader", (address.username or "").encode(), (address.password or "").encode())
    texts = b"".join(len(text).to_bytes(2) + text for text in fields)
    body = b"\x00\x04MQTT\x04\xc2\x00\x00" + texts
    assert len(body) < 128
    link.sendall(bytes((0x10, len(body))) + body)
    if link.recv(4) != b"\x20\x02\x00\x00":
        raise ConnectionError("the broker refused the publisher")
    return link
