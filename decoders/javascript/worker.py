"""A worker process: takes batches from standard input, reports on standard output, ends when either closes.

Nothing is open but these, nothing can be opened, and what the codecs cannot be stopped at from inside, a
thread ends the process over.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import threading
import time
from itertools import groupby

import msgspec

from .runtime import Runtime
from .wire import LENGTH, Answer, Report, Work, framed

MEMORY_BYTES = 1024 * 1024 * 1024  # address space of the process
CPU_SECONDS = 10  # between two reports; the kernel's own watchdog, should ours be starved
REPORT_SECONDS = 0.01
TICK_SECONDS = 0.01
# The engine is asked to stop a call at its time-out. The process ends when it has not done so at this
# multiple of it: of processor time, or, when it gets none because the machine is busy, of wall-clock time.
CPU_GRACE = 2.0
WALL_GRACE = 60


def main(call_timeout: float) -> None:
    """Serve until the pool closes the pipe. `call_timeout` in seconds."""
    # A terminal or a service manager may signal every process, while the pool still has frames to decode.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = _Worker(call_timeout)
    threading.Thread(target=worker.watch, daemon=True).start()
    _confine()
    worker.report([])
    worker.serve()


def _confine() -> None:
    os.chdir("/")
    nothing = (0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, nothing)
    resource.setrlimit(resource.RLIMIT_FSIZE, nothing)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # what is open already: no file, no socket more
    resource.setrlimit(resource.RLIMIT_NPROC, nothing)


class _Worker:
    def __init__(self, call_timeout: float) -> None:
        self._call_timeout = self._limit = call_timeout
        self._runtime = Runtime(call_timeout, self._beat)
        self._beats = 0
        self._position = -1
        self._busy = threading.Event()
        self._sending = threading.Lock()
        self._answers: list[Answer] = []
        self._decoder = msgspec.msgpack.Decoder(Work)

    def serve(self) -> None:
        while (work := self._receive()) is not None:
            self._busy.set()
            self._do(work)
            self._busy.clear()

    def _do(self, work: Work) -> None:
        for codec, (source, fresh) in work.sources.items():
            self._runtime.add(codec, source, fresh)
        due = time.monotonic() + REPORT_SECONDS
        for codec, group in groupby(enumerate(work.calls), key=lambda item: item[1].codec):
            for answers in self._runtime.run(codec, list(group), work.strikes.get(codec, 0), work.careful):
                self._answers += answers
                if work.careful or time.monotonic() >= due:
                    self.report(self._answers)
                    self._answers = []
                    due = time.monotonic() + REPORT_SECONDS
        self.report(self._answers, done=True)
        self._answers = []

    def watch(self) -> None:
        """End the process when a call goes on although it was told to stop."""
        beats = -1
        cpu = wall = 0.0
        while True:
            self._busy.wait()
            time.sleep(TICK_SECONDS)
            if self._beats != beats:
                beats, cpu, wall = self._beats, time.process_time(), time.monotonic()
            elif self._busy.is_set() and (
                time.process_time() - cpu > self._limit * CPU_GRACE
                or time.monotonic() - wall > self._limit * WALL_GRACE
            ):
                self._give_up(beats)

    def _give_up(self, beats: int) -> None:
        with self._sending:
            if self._beats == beats:
                _write(framed(Report(self._answers, hung=self._position)))
                os._exit(1)

    def report(self, answers: list[Answer], *, done: bool = False) -> None:
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, resource.RLIM_INFINITY))
        with self._sending:
            _write(framed(Report(answers, done=done)))
            self._beat(
                -1, self._call_timeout
            )  # the pool may have been slow to read, which is no codec's fault

    def _beat(self, position: int, limit: float) -> None:
        self._position = position
        self._limit = limit
        self._beats += 1

    def _receive(self) -> Work | None:
        while not select.select([0], [], [], 0)[0] and self._runtime.prepare():
            pass
        head = _read(LENGTH.size)
        body = _read(LENGTH.unpack(head)[0]) if head else b""
        return self._decoder.decode(body) if body else None


def _read(size: int) -> bytes:
    """Exactly `size` bytes, or none when the pipe was closed."""
    data = bytearray()
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            return b""
        data += part
    return bytes(data)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    main(float(sys.argv[1]))
