"""One worker process, seen from the pool."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress

import msgspec

from telemetry.errors import QuantracError

from .wire import LENGTH, MAX_FRAME, Report, Work, framed

START_SECONDS = 20.0

# -I and -S keep the environment, the working directory and site hooks out; the path of imports is ours.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from decoders.javascript.worker import main; main(float(sys.argv[1]))"
)
_PIPE_BYTES = 1024 * 1024


class WorkerGone(Exception):
    """The process ended, talks nonsense or is silent; `position` is the call that it ended itself over."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class WorkerProcess:
    """Started at once, usable after `wait_ready`. Spawned anew, never forked from a program with threads."""

    def __init__(self, call_timeout: float) -> None:
        # The dynamic linker's path is what an interpreter outside the system's folders may need to start.
        environment = {"TZ": "UTC0", "LC_ALL": "C.UTF-8"}
        if linker := os.environ.get("LD_LIBRARY_PATH"):
            environment["LD_LIBRARY_PATH"] = linker
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, json.dumps(sys.path), str(call_timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )
        self.pid = self._process.pid
        self._known: dict[str, bool] = {}
        self._buffer = bytearray()
        self._decoder = msgspec.msgpack.Decoder(Report)
        self._ready = False

    def wait_ready(self) -> None:
        """Return when the process can work.

        Raises:
            QuantracError: it could not start; the message holds what it said.
        """
        if self._ready:
            return
        stderr = self._process.stderr
        assert stderr is not None
        try:
            self.receive(START_SECONDS)
        except WorkerGone as gone:
            self._process.kill()
            said = stderr.read().decode(errors="replace").strip()
            self.close()
            reason = said.splitlines()[-1] if said else str(gone)
            raise QuantracError(f"the process for JavaScript codecs did not start: {reason}") from gone
        stderr.close()
        self._ready = True

    def learns(self, sources: dict[str, tuple[str, bool]]) -> dict[str, tuple[str, bool]]:
        """Those of `sources` that it has not been told yet, and is told now."""
        new = {codec: source for codec, source in sources.items() if self._known.get(codec) != source[1]}
        self._known.update({codec: fresh for codec, (_, fresh) in new.items()})
        return new

    def send(self, work: Work) -> None:
        """Raises WorkerGone: the process is no more."""
        stdin = self._process.stdin
        assert stdin is not None
        view = memoryview(framed(work))
        try:
            while view:
                view = view[os.write(stdin.fileno(), view) :]
        except OSError as error:
            raise WorkerGone(str(error)) from error

    def receive(self, timeout: float) -> Report:
        """The next report.

        Raises:
            WorkerGone: there will be none, or none came within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while (body := self._frame()) is None:
            self._fill(end - time.monotonic())
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise WorkerGone(f"an unreadable report: {error}") from error

    def _frame(self) -> bytes | None:
        if len(self._buffer) < LENGTH.size:
            return None
        size = LENGTH.unpack_from(self._buffer)[0]
        if size > MAX_FRAME:
            raise WorkerGone(f"a report of {size} bytes")
        end = LENGTH.size + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[LENGTH.size : end])
        del self._buffer[:end]
        return body

    def _fill(self, timeout: float) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        if not poll.poll(max(0.0, timeout) * 1000):
            raise WorkerGone("no answer in time")
        data = os.read(stdout.fileno(), _PIPE_BYTES)
        if not data:
            raise WorkerGone("the process ended")
        self._buffer += data

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Close the pipes, on which it ends by itself, and wait for that; kill it when that takes long."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
