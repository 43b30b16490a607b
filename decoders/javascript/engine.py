"""One codec in one QuickJS context: limits, one call at a time, and whether the call left traces."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol, cast

# The binding's own module: `quickjs`, its Python layer, starts a thread with an 8 MiB stack when imported.
import _quickjs  # type: ignore[import-not-found,import-untyped,unused-ignore]
import msgspec

from .calls import SLOW_MICROS, Call, Failure, well_formed

STACK_BYTES = 1024 * 1024
MEMORY_BYTES = 32 * 1024 * 1024
CHECK_SECONDS = 0.01
PARSE_SECONDS = 0.25e-6  # a character, ten times what the machine at hand took

_HERE = Path(__file__).parent
_PRELUDE = (_HERE / "prelude.js").read_text(encoding="utf-8")
_BUFFER = (_HERE / "buffer.js").read_text(encoding="utf-8")

_MEMBER = re.compile(r"\b(?:this|globalThis)\s*\.\s*([A-Za-z_$][\w$]*)")
_DECLARED = re.compile(r"\bfunction\s*\*?\s*([A-Za-z_$][\w$]*)|^var\s+([A-Za-z_$][\w$]*)", re.MULTILINE)

_FAILED = ('{"failure"', '{"normalized":"{\\"failure\\"')
_OUT_OF_MEMORY = ('{"failure":"memory"', '{"normalized":"{\\"failure\\":\\"memory\\"')


class _Engine(Protocol):
    """The part of `_quickjs.Context` that is used; the binding has no type information.

    Each context has a runtime of its own. The time limit is CPU time of the process, counted anew from each
    call into the context. Integers above 32 bits arrive cut off: hand over floats.
    """

    def eval(self, code: str) -> Any: ...
    def execute_pending_job(self) -> bool: ...
    def memory(self) -> dict[str, int]: ...
    def set_max_stack_size(self, size: int) -> None: ...
    def set_memory_limit(self, size: int) -> None: ...
    def set_time_limit(self, seconds: float) -> None: ...


class Context:
    """A context with the prelude in it; `load` gives it its codec. Not for use by several threads."""

    def __init__(self, call_timeout: float) -> None:
        """`call_timeout` in seconds of CPU; a call's `time_limit` adds what parsing may take."""
        engine = cast(_Engine, _quickjs.Context())
        engine.set_memory_limit(MEMORY_BYTES)
        engine.set_max_stack_size(STACK_BYTES)
        self._engine = engine
        door = engine.eval(_PRELUDE)
        self._load, self._call = door("load"), door("call")
        self._remember, self._clean = door("remember"), door("clean")
        self._call_timeout = call_timeout
        self.spent = False
        self.time_limit = call_timeout

    def load(self, source: str) -> bool:
        """Make this the context of the codec `source`, which is parsed when it is called.

        True when something was added for it that an earlier `remember` has not seen.
        """
        named = "Buffer" in source
        if named:
            self._engine.eval(_BUFFER)
        self._load(source, " ".join(sorted(_shared(source))))
        self.time_limit = self._call_timeout + len(source) * PARSE_SECONDS
        return named

    def remember(self) -> None:
        """Take down what the codec could change, for `unchanged`; before the first call."""
        self._remember()

    def call(self, call: Call) -> str:
        """The JSON of an `Outcome`. `spent` says afterwards that the context must not be used again."""
        given = list(call.payload) if call.function.startswith("decode") else call.data
        variables = msgspec.json.encode(call.variables).decode() if call.variables else ""
        more = msgspec.json.encode(call.more).decode() if call.more else ""
        arguments = (float(call.recv_time_us // 1000), msgspec.json.encode(given).decode(), variables, more)
        self._engine.set_time_limit(self.time_limit)
        try:
            answer = self._call(call.function, call.f_port, *arguments)
        except _quickjs.JSException as error:
            self.spent = True
            return _stopped(str(error))
        if not isinstance(answer, str):
            self.spent = True
            return failure("output", "the codec tampered with the engine")
        if answer.startswith(_OUT_OF_MEMORY):
            self.spent = True
        return well_formed(answer)

    def unchanged(self) -> bool:
        """Whether all is as it was at `remember`, so that the next call starts like the first."""
        self._engine.set_time_limit(CHECK_SECONDS)
        try:
            # A job that waits is a promise's continuation: it would run in the midst of some later call.
            return bool(self._clean()) and not self._engine.execute_pending_job()
        except _quickjs.JSException:
            return False

    def memory(self) -> int:
        """Bytes the context has allocated."""
        return self._engine.memory()["malloc_size"]


def failure(reason: Failure, message: str) -> str:
    """The JSON of an `Outcome` that failed; begins like the prelude's own."""
    return msgspec.json.encode({"failure": reason, "errors": [message]}).decode()


def is_strike(answer: str, micros: int) -> bool:
    """Whether a call cost its neighbours too much time for nothing."""
    return answer == TIMED_OUT or (micros >= SLOW_MICROS and answer.startswith(_FAILED))


def _shared(source: str) -> set[str]:
    """The names under which a codec may look for its own functions on the global object.

    In a script `this.f()` in a plain function finds the script's own `f`; Enless's and SenseCAP's codecs rely
    on it.
    """
    members = set(_MEMBER.findall(source))
    return members & {"".join(names) for names in _DECLARED.findall(source)} if members else members


TIMED_OUT = failure("timeout", "stopped: its time was up")


def _stopped(message: str) -> str:
    """For what no JavaScript can catch, or what came up outside our own try."""
    if message.startswith("InternalError: interrupted"):
        return TIMED_OUT
    if "out of memory" in message:
        return failure("memory", f"more than {MEMORY_BYTES >> 20} MiB were needed")
    if "call stack size" in message:
        return failure("stack", "the functions called each other too deeply")
    return failure("threw", message.strip().splitlines()[0][:500] if message.strip() else "an unknown error")
