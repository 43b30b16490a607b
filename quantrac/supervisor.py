"""Child processes that are kept running, and stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import structlog

_log = structlog.get_logger()
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
_STEADY = 30.0
_STOP_SECONDS = 30.0


class Supervisor:
    """Runs `quantrac` services as children, each restarted with growing pauses when it ends by itself.

    The children hold the reading end of a pipe whose writing end only we have. When we are gone, however
    that came, the kernel closes it, and they drain and end: a `kill -9` of ours leaves none behind.
    """

    def __init__(self) -> None:
        self._children: dict[str, _Child] = {}
        self._pipe_read, self._pipe_write = os.pipe()

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start `quantrac NAME arguments…` and keep it running."""
        command = [sys.executable, "-m", "quantrac", name, *arguments, "--parent-pipe", str(self._pipe_read)]
        self._children[name] = _Child(name, command, self._pipe_read)

    async def stop(self, names: Sequence[str]) -> None:
        """Stop children one after the other, each given time to drain."""
        for name in names:
            child = self._children.pop(name, None)
            if child is not None:
                await child.stop()

    def pids(self) -> dict[str, int | None]:
        return {name: child.pid for name, child in self._children.items()}


class _Child:
    def __init__(self, name: str, command: list[str], pipe: int) -> None:
        self.pid: int | None = None
        self._name = name
        self._command = command
        self._pipe = pipe
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._keep_running(), name=f"keep {name}")

    async def stop(self) -> None:
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                _log.error("service_killed", service=self._name, after_s=_STOP_SECONDS)
                process.kill()
                await process.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self) -> None:
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        while not self._stopping.is_set():
            started = loop.time()
            try:
                self._process = await self._spawn()
            except OSError as error:  # no memory, no process or file left: it may pass
                _log.error("service_cannot_start", service=self._name, error=str(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self.pid = self._process.pid
            status = await self._process.wait()
            self.pid = None
            if self._stopping.is_set():
                return
            if loop.time() - started > _STEADY:
                pause = _FIRST_PAUSE
            if status == 2:
                pause = _LONGEST_PAUSE  # wrong settings; it has said which
            _log.error("service_ended", service=self._name, status=status, restart_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            pass_fds=(self._pipe,),
            env={**os.environ, "QUANTRAC_METRICS_LISTEN": ""},  # one port cannot serve all children
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches only us, and we stop them in order
        )
