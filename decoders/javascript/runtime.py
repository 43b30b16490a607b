"""The codecs of one worker process: which contexts are kept, and that no call sees another's traces.

A context is kept from call to call because making one takes longer than a hundred calls. After each run of
calls it is compared with how it began. A codec that changed something (a global it gave another value, a
method it added to a built-in) is from then on called in a new context every time, and so are, once more, the
calls of that run whose answers may have seen the change. Answers leave only after that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, perf_counter_ns

from .calls import Call
from .engine import Context, failure, is_strike
from .wire import Answer

KEPT = 128  # contexts, of about 0.4 MiB each
KEPT_BYTES = 4 * 1024 * 1024  # one that has grown above this is given back
BLANKS = 32  # contexts made in idle moments
RUN_CALLS = 256  # a run ends after so many calls, seconds or characters, so that answers flow
FIRST_CALLS = 8  # the first run in a context is short: its calls may have to be repeated one by one
RUN_SECONDS = 0.02
RUN_CHARACTERS = 1_000_000
STRIKES = 2  # slow failures in a batch after which the codec's other calls in it are not tried


@dataclass
class _Source:
    text: str
    fresh: bool


class Runtime:
    """`beat(position, seconds)` tells a watchdog of the next call (-1: our own work) and its time limit."""

    def __init__(self, call_timeout: float, beat: Callable[[int, float], None]) -> None:
        self._call_timeout = call_timeout
        self._beat = beat
        self._sources: dict[str, _Source] = {}
        self._kept: OrderedDict[str, Context] = OrderedDict()
        self._blanks: list[Context] = []

    def add(self, codec: str, source: str, fresh: bool) -> None:
        """Know the codec; `fresh` gives it a new context for every call."""
        self._sources[codec] = _Source(source, fresh)

    def is_fresh(self, codec: str) -> bool:
        """Whether it gets a new context for every call: because it was asked for, or leaves traces."""
        return self._sources[codec].fresh

    def prepare(self) -> bool:
        """Make one blank context ahead of its use; False when there are enough."""
        if len(self._blanks) >= BLANKS:
            return False
        self._blanks.append(self._made())
        return True

    def run(
        self, codec: str, calls: Sequence[tuple[int, Call]], strikes: int, careful: bool
    ) -> Iterator[list[Answer]]:
        """Answers to one codec's calls, a run at a time, or one at a time when `careful`.

        `strikes` are the slow failures the codec is charged with already.
        """
        at = 0
        while at < len(calls):
            if strikes >= STRIKES:
                text = failure("quarantine", "not tried: the codec hung or failed slowly just now")
                yield [(position, 0, text) for position, _ in calls[at:]]
                return
            answers = self._run(codec, calls[at : at + 1] if careful else calls[at : at + RUN_CALLS])
            at += len(answers)
            strikes += sum(is_strike(text, micros) for _, micros, text in answers)
            yield answers

    def _run(self, codec: str, calls: Sequence[tuple[int, Call]]) -> list[Answer]:
        source = self._sources[codec]
        if source.fresh:
            return [self._alone(source, *calls[0])]
        limit = len(calls) if codec in self._kept else FIRST_CALLS
        context = self._context(codec, source)
        answers: list[Answer] = []
        characters = 0
        end = perf_counter() + RUN_SECONDS
        for position, call in calls[:limit]:
            answers.append(self._timed(context, position, call))
            characters += len(answers[-1][2])
            if context.spent or perf_counter() > end or characters > RUN_CHARACTERS:
                break
        self._beat(-1, self._call_timeout)
        if context.unchanged():
            if context.spent or context.memory() > KEPT_BYTES:
                del self._kept[codec]
            return answers
        del self._kept[codec]
        source.fresh = not context.spent
        # The first began unspoilt; who took long to fail is not given the time again.
        return answers[:1] + [
            answer if is_strike(answer[2], answer[1]) else self._alone(source, *call)
            for answer, call in zip(answers[1:], calls[1:], strict=False)
        ]

    def _alone(self, source: _Source, position: int, call: Call) -> Answer:
        context = self._blank()
        context.load(source.text)
        return self._timed(context, position, call)

    def _timed(self, context: Context, position: int, call: Call) -> Answer:
        self._beat(position, context.time_limit)
        start = perf_counter_ns()
        text = context.call(call)
        return position, (perf_counter_ns() - start) // 1000, text

    def _context(self, codec: str, source: _Source) -> Context:
        context = self._kept.get(codec)
        if context is None:
            context = self._kept[codec] = self._blank()
            if context.load(source.text):
                context.remember()
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(codec)
        return context

    def _blank(self) -> Context:
        self._beat(-1, self._call_timeout)
        return self._blanks.pop() if self._blanks else self._made()

    def _made(self) -> Context:
        context = Context(self._call_timeout)
        context.remember()
        return context
