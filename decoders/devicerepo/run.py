"""Runs the vectors of a checkout through the JavaScript runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from decoders.javascript.calls import Call, Failure, Outcome
from telemetry.errors import UsageError

from .compare import differences
from .model import Checkout, Function, Problem, Vector

_BATCH = 200
# A codec's clock where the vector says nothing, so that it gives the same every day: 2024-01-01T00:00:00Z.
_RECEIVED_US = 1_704_067_200_000_000


class Runtime(Protocol):
    """The part of `decoders.javascript.workers.JsWorkers` that is used here."""

    def add(self, source: str) -> str: ...

    def run(self, calls: Sequence[Call]) -> list[Outcome]: ...


@dataclass(frozen=True, slots=True)
class Miss:
    """A vector that did not pass. `failure` is set when the codec gave no output at all."""

    vector: Vector
    differences: tuple[str, ...]
    failure: Failure | None

    def __str__(self) -> str:
        return "\n".join([f"{self.vector}:", *(f"  {line}" for line in self.differences)])


@dataclass(slots=True)
class Report:
    """What became of the vectors: passed by function, failed, and skipped with the reason.

    `skipped` holds files and examples that could not be read, so one entry may stand for several vectors.
    """

    passed: Counter[Function] = field(default_factory=Counter)
    failed: list[Miss] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)

    def failing_codecs(self) -> frozenset[str]:
        """`RepoCodec.id` of every codec with a failed vector."""
        return frozenset(miss.vector.codec for miss in self.failed)

    def __str__(self) -> str:
        return f"{self.passed.total()} passed, {len(self.failed)} failed"


def run_checkout(
    checkout: Checkout, runtime: Runtime, progress: Callable[[int, int], None] = lambda done, total: None
) -> Report:
    """Run every vector of the checkout; once more those that the runtime could not finish.

    `progress` is told how many of how many are done.
    """
    report = Report()
    ids: dict[str, str] = {}
    for codec in checkout.codecs():
        if isinstance(codec, Problem):
            report.skipped.append(codec)
            continue
        try:
            ids[codec.id] = runtime.add(codec.text)
        except UsageError as error:
            report.skipped.append(Problem(codec.path, None, str(error)))
    vectors: list[Vector] = []
    for vector in checkout.vectors():
        if isinstance(vector, Problem):
            report.skipped.append(vector)
        elif vector.codec in ids:
            vectors.append(vector)
    report.skipped = list(dict.fromkeys(report.skipped))
    pending = iter(vectors)
    done = 0
    while batch := list(islice(pending, _BATCH)):
        for vector, outcome in zip(batch, _outcomes(batch, ids, runtime), strict=True):
            if found := differences(vector, outcome):
                report.failed.append(Miss(vector, tuple(found), outcome.failure))
            else:
                report.passed[vector.function] += 1
        done += len(batch)
        progress(done, len(vectors))
    return report


def _outcomes(vectors: Sequence[Vector], ids: dict[str, str], runtime: Runtime) -> Iterable[Outcome]:
    calls = [_call(vector, ids[vector.codec]) for vector in vectors]
    outcomes = runtime.run(calls)
    for index, outcome in enumerate(outcomes):
        if outcome.retryable:
            outcomes[index] = runtime.run([calls[index]])[0]
    return outcomes


def _call(vector: Vector, codec: str) -> Call:
    return Call(
        codec=codec,
        function=vector.function,
        f_port=vector.f_port or 0,
        payload=vector.payload,
        recv_time_us=_RECEIVED_US if vector.recv_time_us is None else vector.recv_time_us,
        variables=dict(vector.variables),
        data=vector.data,
        more=dict(vector.more),
    )
