"""Programs that a run starts, each in a session of its own and ended by its process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_POLL_SECONDS = 0.02
_TAIL_LINES = 15


class Child:
    """A program in the background; what it prints goes to `folder/name.log`."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("QUANTRAC_")}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={**clean, "PYTHONPATH": str(ROOT), **(env or {})},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises `RuntimeError` with the end of its output when it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with status {self._process.returncode}\n{self.tail()}")

    def tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def stop(self, seconds: float = 30.0) -> None:
        """SIGTERM, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(seconds)


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def wait_for(what: str, condition: Callable[[], bool], seconds: float, *children: Child) -> None:
    """Raises `RuntimeError` when `condition` is not true within `seconds` or one of `children` ends."""
    deadline = time.monotonic() + seconds
    while not condition():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            tails = "\n".join(f"{child.name}:\n{child.tail()}" for child in children)
            raise RuntimeError(f"{what}: not within {seconds:.0f} s\n{tails}")
        time.sleep(_POLL_SECONDS)
