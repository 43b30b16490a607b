"""The process's JavaScript codecs: one pool of workers for live frames, retries and decoding again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import structlog

from decoders.javascript.workers import Call, JsWorkers, Outcome
from telemetry.errors import QuantracError

from .metrics import CODEC_CALLS, CODEC_FAILURES, CODEC_SECONDS, CODEC_WORKERS_LOST

_log = structlog.get_logger()


class CallKey(NamedTuple):
    """What tells one call from another under one version of the registry; `time` in µs, of the frame."""

    codec: str
    device_id: int
    f_port: int
    payload: bytes
    time: int


Calls = Mapping[CallKey, Call]
Outcomes = Mapping[CallKey, Outcome]
NONE: Outcomes = {}


class Unasked(Exception):
    """Frames need answers of JavaScript codecs, which are not asked inside a transaction.

    Whoever meets this leaves the transaction, has `Answers.fetch` get them, and does all again.
    """

    def __init__(self, version: int, calls: Calls) -> None:
        super().__init__(f"{len(calls)} frames wait for their codec")
        self.version = version
        self.calls = calls


class JavaScript:
    """Thread-safe. The workers start with the first call."""

    def __init__(self, workers: JsWorkers) -> None:
        self._workers = workers
        self._keys: dict[tuple[str, str], str] = {}
        self._stamps: dict[str, str] = {}
        self._lost: Counter[str] = Counter()
        self._lock = threading.Lock()

    def key(self, id: str, version: str) -> str | None:
        """The name of a codec in a `Call`; None until it was added."""
        return self._keys.get((id, version))

    def add(self, id: str, version: str, source: str, *, fresh: bool) -> str:
        """Have a codec ready; returns its name in a `Call`.

        Raises:
            UsageError: the source is too large.
        """
        key = self._workers.add(source, fresh=fresh)
        self._keys[id, version] = key
        self._stamps[key] = f"{id}@{version}"
        return key

    def run(self, calls: Calls) -> dict[CallKey, Outcome]:
        """An outcome for each call; without workers all of them fail, and may be tried again."""
        asked = list(calls.values())
        try:
            outcomes = self._workers.run(asked)
        except QuantracError as error:
            _log.error("javascript_unavailable", problem=str(error), frames=len(asked))
            outcomes = [Outcome(failure="crash", errors=[f"no worker process: {error}"]) for _ in asked]
        self._count(asked, outcomes)
        return dict(zip(calls, outcomes, strict=True))

    def close(self) -> None:
        """End the workers; what is run afterwards fails."""
        self._workers.close()

    def _count(self, calls: list[Call], outcomes: list[Outcome]) -> None:
        CODEC_CALLS.inc(len(calls))
        failed: Counter[tuple[str, str]] = Counter()
        for call, outcome in zip(calls, outcomes, strict=True):
            if outcome.errors:
                failed[self._stamps[call.codec], outcome.failure or "refused"] += 1
        for (stamp, reason), frames in failed.items():
            CODEC_FAILURES.labels(reason).inc(frames)
            _log.info("codec_failed", codec=stamp, reason=reason, frames=frames)
        with self._lock:
            CODEC_SECONDS.observe_many(np.array([outcome.micros for outcome in outcomes]) / 1e6)
            lost = self._workers.counts().lost
            for reason, count in (lost - self._lost).items():
                CODEC_WORKERS_LOST.labels(reason).inc(count)
            self._lost = lost


class Answers:
    """What JavaScript codecs said of the frames at hand, as of one version of the registry."""

    def __init__(self, javascript: JavaScript | None) -> None:
        self._javascript = javascript
        self._version = -1
        self._outcomes: dict[CallKey, Outcome] = {}

    def to(self, version: int, calls: Calls) -> Outcomes:
        """All that is known under this version of the registry.

        Raises:
            Unasked: that does not answer all of the calls.
        """
        known = self._outcomes if version == self._version else NONE
        if unasked := {key: call for key, call in calls.items() if key not in known}:
            raise Unasked(version, unasked)
        return known

    def fetch(self, unasked: Unasked) -> None:
        """Get what is missing; what is known of another version of the registry is forgotten."""
        if unasked.version != self._version:
            self._version, self._outcomes = unasked.version, {}
        if unasked.calls and self._javascript is not None:
            self._outcomes.update(self._javascript.run(unasked.calls))

    def forget(self) -> None:
        """The frames at hand are done."""
        self._outcomes = {}
