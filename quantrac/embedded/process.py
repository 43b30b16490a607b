"""Server processes that may outlive the program that started them.

A process is told by its id and the tick it started at, as `/proc/<pid>/stat` has them (proc(5)), so that a
later process with the same id is never taken for it.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.02
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _reap() -> None:
    """Take note of children that ended while nobody looked, so that Python does not warn of them."""
    for child in _children.values():
        child.poll()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A process on this machine; `started` is in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ServerProcess | None:
        """The process that has this id now; None when there is none or it is dead and merely not reaped."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat[stat.rindex(")") + 2 :].split()
        return None if state in "ZX" else cls(pid, int(fields[18]))

    def alive(self) -> bool:
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]
        return ServerProcess.of(self.pid) == self

    def command(self) -> list[str]:
        """Its argument vector; empty when it is gone or may not be read."""
        try:
            raw = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [part.decode(errors="replace") for part in raw.split(b"\0")[:-1]]

    def works_in(self, folder: Path) -> bool:
        """Whether `folder` is its current directory."""
        try:
            return Path(f"/proc/{self.pid}/cwd").samefile(folder)
        except OSError:
            return False

    def stop(self, *steps: tuple[signal.Signals, float]) -> bool:
        """Send each signal in turn, waiting its seconds for the end; whether the process ended."""
        for number, seconds in steps:
            if not self.alive():
                return True
            os.kill(self.pid, number)
            if wait_until(lambda: not self.alive(), seconds):
                return True
        return not self.alive()


def spawn(command: Sequence[str | Path], *, log: Path, cwd: Path, **popen: Any) -> ServerProcess | None:
    """Start a server in a session of its own, out of Ctrl-C's reach; its output replaces the file `log`.

    None when it ended at once.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
            **popen,
        )
    _children[child.pid] = child
    return ServerProcess.of(child.pid)


def running() -> Iterator[ServerProcess]:
    """Every live process of this machine that can be seen."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (process := ServerProcess.of(int(entry.name))) is not None:
            yield process
