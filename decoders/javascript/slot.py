"""One place in the pool: a worker process, its replacements, and a batch's way through them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from telemetry.errors import QuantracError

from .calls import Call, Failure, Outcome, read_outcome
from .process import WorkerGone, WorkerProcess
from .quarantine import STRIKES, Quarantine
from .wire import Answer, Work

CHUNK = 4096  # calls in one message
STALL_SECONDS = 10.0  # without a report; what hangs is ended by the worker itself long before

Outcomes = list[Outcome | None]  # one for each call of the batch, None while unanswered


class Spare:
    """Keeps a process started, so that a replacement need not be waited for. Thread-safe."""

    def __init__(self, start: Callable[[], WorkerProcess]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._next: WorkerProcess | None = None
        self._closed = False

    def take(self) -> WorkerProcess:
        """A process that is ready, with another one on its way.

        Raises:
            QuantracError: none can be started, or `close` was called.
        """
        with self._lock:
            if self._closed:
                raise QuantracError("the JavaScript workers are closed")
            process, self._next = self._next or self._start(), None
            try:
                process.wait_ready()
            except QuantracError:
                # Somebody may have ended the spare meanwhile; a new one tells whether it is more than that.
                process = self._start()
                process.wait_ready()
            self._next = self._start()
        return process

    def close(self) -> None:
        """End the one in waiting; there will be no other."""
        with self._lock:
            self._closed = True
            if self._next:
                self._next.kill()
                self._next = None


class Slot:
    """Runs one batch at a time. `sources` is the pool's table of id to (text, fresh), read only here."""

    def __init__(self, spare: Spare, sources: dict[str, tuple[str, bool]]) -> None:
        self._spare = spare
        self._sources = sources
        self._lock = threading.Lock()
        self._process: WorkerProcess | None = None
        self.quarantine = Quarantine(time.monotonic)
        self.lost: Counter[str] = Counter()

    @property
    def pid(self) -> int | None:
        """Of the process at work."""
        return self._process.pid if self._process else None

    def run(self, calls: Sequence[Call], positions: Sequence[int], outcomes: Outcomes) -> None:
        """Fill `outcomes` at the `positions` of these calls.

        Raises:
            QuantracError: no process can be started.
        """
        with self._lock:
            waiting = sorted(positions, key=lambda position: calls[position].codec)
            careful = False
            while waiting := [
                p for p in waiting if outcomes[p] is None and not self._refused(calls[p], p, outcomes)
            ]:
                chunk = waiting[:CHUNK]
                try:
                    self._converse(calls, chunk, outcomes, careful)
                except WorkerGone as gone:
                    self._end("hung" if gone.position is not None else "crashed")
                    if gone.position is not None:
                        self._blame(
                            calls, chunk[gone.position], outcomes, "timeout", "stopped with its process"
                        )
                    elif careful and (missing := [p for p in chunk if outcomes[p] is None]):
                        self._blame(calls, missing[0], outcomes, "crash", f"its process was lost: {gone}")
                    careful = careful or gone.position is None

    def start(self) -> None:
        """Have a process ready."""
        with self._lock:
            self._process = self._process or self._spare.take()

    def close(self) -> None:
        """End the process, after the batch it is at."""
        with self._lock:
            if self._process:
                self._process.close()
                self._process = None

    def _converse(self, calls: Sequence[Call], chunk: list[int], outcomes: Outcomes, careful: bool) -> None:
        process = self._process = self._process or self._spare.take()
        codecs = {calls[position].codec for position in chunk}
        unknown = process.learns({codec: self._sources[codec] for codec in codecs})
        strikes = {codec: count for codec in codecs if (count := self.quarantine.strikes(codec))}
        process.send(Work(unknown, [calls[position] for position in chunk], strikes, careful))
        while True:
            report = process.receive(STALL_SECONDS)
            for answer in report.answers:
                self._take(calls, chunk, outcomes, answer)
            if report.hung is not None:
                raise WorkerGone("it hung", report.hung if report.hung >= 0 else None)
            if report.done:
                return

    def _take(self, calls: Sequence[Call], chunk: list[int], outcomes: Outcomes, answer: Answer) -> None:
        place, micros, text = answer
        outcome = read_outcome(text)
        outcome.micros = micros
        outcomes[chunk[place]] = outcome
        if outcome.failure == "timeout" or outcome.slow_failure:
            self.quarantine.strike(calls[chunk[place]].codec)

    def _refused(self, call: Call, position: int, outcomes: Outcomes) -> bool:
        left = self.quarantine.seconds_left(call.codec)
        if left:
            message = f"not tried: the codec hung or failed slowly; it is tried again in {left:.0f} s"
            outcomes[position] = Outcome(failure="quarantine", errors=[message])
        return left > 0

    def _blame(
        self, calls: Sequence[Call], position: int, outcomes: Outcomes, failure: Failure, message: str
    ) -> None:
        outcomes[position] = Outcome(failure=failure, errors=[message])
        self.quarantine.strike(calls[position].codec, STRIKES)

    def _end(self, reason: str) -> None:
        self.lost[reason] += 1
        if self._process:
            self._process.kill()
            self._process = None
