"""Vendors' JavaScript in the API: run off the event loop, in processes that start with the first try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from decoders.javascript.workers import JsWorkers

T = TypeVar("T")

RENEW_AFTER = 500  # runs; a pool remembers every source that it was ever given


class Scripts:
    """One thread and one worker process: what is tried waits for what was tried before, nobody else does."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "codec-trial")
        self._workers: JsWorkers | None = None
        self._runs = 0

    async def run(self, work: Callable[[JsWorkers], T]) -> T:
        """What `work` returns; it must ask for a bounded number of calls.

        Raises:
            QuantracError: no worker process can be started.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        """End the processes. Nothing may be run afterwards."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        if self._workers is not None:
            await asyncio.to_thread(self._workers.close)

    def _run(self, work: Callable[[JsWorkers], T]) -> T:
        if self._workers is not None and self._runs >= RENEW_AFTER:
            self._workers.close()
            self._workers = None
        if self._workers is None:
            self._workers, self._runs = JsWorkers(), 0
        self._runs += 1
        return work(self._workers)
