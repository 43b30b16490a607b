"""The program as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_LINES = 4000


class Program:
    """`quantrac …` in the background; its output is kept for messages of failing tests."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("QUANTRAC_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "quantrac", *arguments],
            env={**clean, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            del self.lines[:-_LINES]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def status(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._end()

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM, and its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(seconds)
        self._end()
        return self._process.returncode

    def _end(self) -> None:
        self._process.wait(60)
        assert self._process.stdout is not None
        self._reader.join(5)
        self._process.stdout.close()


def run(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`quantrac …` to its end."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("QUANTRAC_")}
    return subprocess.run(
        [sys.executable, "-m", "quantrac", *arguments],
        env={**clean, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
