"""The pool of worker processes as the rest of Quantrac sees it."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

from telemetry.errors import UsageError

from .calls import Call, Failure, Function, Outcome
from .process import WorkerProcess
from .slot import Outcomes, Slot, Spare

__all__ = ["Call", "Failure", "Function", "JsCounts", "JsWorkers", "Outcome"]

CALL_TIMEOUT = 0.05  # a slow codec needs 1 ms; two time-outs are what a codec costs its neighbours
MAX_SOURCE = 1024 * 1024


@dataclass
class JsCounts:
    """Since the pool was made. `failures` by reason, `lost` processes by "hung" and "crashed"."""

    calls: int = 0
    micros: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    quarantined: tuple[str, ...] = ()


class JsWorkers:
    """Thread-safe and synchronous; use as a context manager.

    `count` processes and one spare are started with the first call, or by `start`. A codec always runs in the
    same of them. `call_timeout` is in seconds of processor time: a call is stopped by the engine then, and by
    its process's end at twice that when it runs on.
    """

    def __init__(self, count: int = 1, *, call_timeout: float = CALL_TIMEOUT) -> None:
        self._sources: dict[str, tuple[str, bool]] = {}
        self._spare = Spare(lambda: WorkerProcess(call_timeout))
        self._slots = [Slot(self._spare, self._sources) for _ in range(count)]
        self._threads = ThreadPoolExecutor(count, "javascript") if count > 1 else None
        self._lock = threading.Lock()
        self._counts = JsCounts()

    def add(self, source: str, *, fresh: bool = False) -> str:
        """Register a codec's source text; returns its id, the SHA-256 of the text in hex.

        `fresh` gives every call a context of its own. Adding the same text again changes nothing, save that
        `fresh` once asked for stays.

        Raises:
            UsageError: the text is larger than 1 MiB, or no text that UTF-8 can hold.
        """
        try:
            data = source.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"a codec's source must be valid Unicode: {error}") from error
        if len(data) > MAX_SOURCE:
            raise UsageError(f"a codec's source is {len(data)} bytes; {MAX_SOURCE} are allowed")
        codec = hashlib.sha256(data).hexdigest()
        with self._lock:
            known = self._sources.get(codec)
            self._sources[codec] = (source, fresh or bool(known and known[1]))
        return codec

    def start(self) -> None:
        """Start the processes now, so that the first batch need not wait for them.

        Raises:
            QuantracError: they cannot be started.
        """
        for slot in self._slots:
            slot.start()

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """One outcome for each call, in order. A codec's fault is its own calls' `failure`, never raised.

        Raises:
            UsageError: a call names a codec that was not added.
            QuantracError: no process can be started, or the pool is closed.
        """
        shares: dict[int, list[int]] = {}
        for position, call in enumerate(calls):
            if call.codec not in self._sources:
                raise UsageError(f"no JavaScript codec {call.codec!r} was added")
            shares.setdefault(self._slot_of(call.codec), []).append(position)
        outcomes: Outcomes = [None] * len(calls)
        if self._threads is None or len(shares) < 2:
            for slot, positions in shares.items():
                self._slots[slot].run(calls, positions, outcomes)
        else:
            runs = [
                self._threads.submit(self._slots[slot].run, calls, positions, outcomes)
                for slot, positions in shares.items()
            ]
            for run in runs:
                run.result()
        done = cast(list[Outcome], outcomes)
        self._count(done)
        return done

    def counts(self) -> JsCounts:
        """A copy of the counters."""
        with self._lock:
            return JsCounts(
                self._counts.calls,
                self._counts.micros,
                self._counts.failures.copy(),
                sum((slot.lost for slot in self._slots), Counter()),
                tuple(codec for slot in self._slots for codec in slot.quarantine.out()),
            )

    def pids(self) -> list[int]:
        """Of the processes at work, the spare not among them."""
        return [slot.pid for slot in self._slots if slot.pid is not None]

    def close(self) -> None:
        """End the processes, after the batches they are at. Harmless when repeated."""
        self._spare.close()
        for slot in self._slots:
            slot.close()
        if self._threads:
            self._threads.shutdown()

    def __enter__(self) -> JsWorkers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _slot_of(self, codec: str) -> int:
        return int(codec[:8], 16) % len(self._slots)

    def _count(self, outcomes: list[Outcome]) -> None:
        with self._lock:
            self._counts.calls += len(outcomes)
            for outcome in outcomes:
                self._counts.micros += outcome.micros
                if outcome.failure:
                    self._counts.failures[outcome.failure] += 1
