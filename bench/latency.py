"""How long a message takes from its publisher until others see it in the database."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg

from telemetry.store.lanes import unpack

from .consumers import Bench, Consumer, lanes
from .cpu import shares
from .load import Loader
from .measure import STANDSTILL_SECONDS, meter_of
from .messages import Corpus, number_of

_POLL_SECONDS = 0.002
_SEED = 7
_NUMBERS = "SELECT u.id, u.f_cnt, d.dev_eui FROM uplink u JOIN device d ON d.id = u.device_id"

Look = tuple[float, Mapping[int, int]]
"""A time of `time.monotonic`, and the newest seq of each lane that was visible then."""


class Latency(NamedTuple):
    """Milliseconds, of `messages` uplinks; `rate` in uplinks/s; `elsewhere` as in `Sustained`."""

    rate: float
    p50: float
    p99: float
    worst: float
    messages: int
    elsewhere: float


def latency(bench: Bench, consumer: Consumer, corpus: Corpus, *, rate: float, warm_up: float) -> Latency:
    """Publish at `rate` a second on average, in the random intervals of independent devices.

    A message's time runs from when the schedule wants it sent, whether or not publisher and broker kept up,
    until a look at the lanes from another session, every 2 ms, shows its commit. The first `warm_up` seconds
    do not count.

    Raises:
        RuntimeError: something was lost or ended.
    """
    watcher = consumer.watcher
    assert watcher is not None
    found = lanes(watcher)
    target = sum(uplinks for _, _, uplinks in found) + len(corpus)
    due = np.cumsum(np.random.default_rng(_SEED).exponential(1 / rate, len(corpus)))
    with Loader(bench.broker.url("network"), corpus, due) as loader:
        meter = meter_of(bench, consumer, loader)
        began, used = time.monotonic(), meter.read()
        looks = _watch(consumer, watcher, target)
        _, elsewhere = shares(used, meter.read(), time.monotonic() - began)
        loader.finish()
        started = loader.started_at
    at = first_seen({lane: seq for lane, seq, _ in found}, looks)
    seen = _messages(watcher, at)
    numbers = range(corpus.first, corpus.first + len(corpus))
    took = np.array([seen[number] for number in numbers]) - (started + due)
    p50, p99, worst = percentiles(took[due >= warm_up] * 1000)
    return Latency(rate, p50, p99, worst, int(np.count_nonzero(due >= warm_up)), elsewhere)


def percentiles(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """The median, the 99th percentile and the greatest; each is one of the values."""
    p50, p99 = np.percentile(values, (50, 99), method="inverted_cdf")
    return float(p50), float(p99), float(values.max())


def first_seen(before: Mapping[int, int], looks: Sequence[Look]) -> dict[tuple[int, int], float]:
    """When each (lane, seq) beyond `before` was visible first."""
    newest, at = dict(before), {}
    for now, seqs in looks:
        for lane, seq in seqs.items():
            for number in range(newest.get(lane, 0) + 1, seq + 1):
                at[lane, number] = now
            newest[lane] = seq
    return at


def _watch(consumer: Consumer, watcher: psycopg.Connection[Any], target: int) -> list[Look]:
    """Look at the lanes until they hold `target` uplinks; the looks that showed something new."""
    done, changed = 0, time.monotonic()
    looks: list[Look] = []
    while done < target:
        found = lanes(watcher)
        now = time.monotonic()
        total = sum(uplinks for _, _, uplinks in found)
        if total != done:
            done, changed = total, now
            looks.append((now, {lane: seq for lane, seq, _ in found}))
        for child in consumer.children:
            child.check()
        if now > changed + STANDSTILL_SECONDS:
            raise RuntimeError(f"{target - done} messages are not stored\n{consumer.children[0].tail()}")
        time.sleep(_POLL_SECONDS)
    return looks


def _messages(watcher: psycopg.Connection[Any], at: Mapping[tuple[int, int], float]) -> dict[int, float]:
    """When each message was seen, by its number: a lane's batch says which uplinks came with it."""
    numbers = {uplink: number_of(f_cnt, eui) for uplink, f_cnt, eui in watcher.execute(_NUMBERS)}
    seen: dict[int, float] = {}
    for lane, seq, readings in watcher.execute("SELECT lane, seq, readings FROM lane_batch"):
        if (lane, seq) in at:
            uplinks: npt.NDArray[np.int64] = np.unique(unpack(readings)["uplink_id"])
            seen.update((numbers[uplink], at[lane, seq]) for uplink in uplinks.tolist())
    return seen
