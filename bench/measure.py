"""How many messages a second a contender sustains, and what CPU time that costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from .children import wait_for
from .consumers import Bench, Consumer
from .cpu import Meter, shares
from .load import Loader
from .messages import Corpus

_POLL_SECONDS = 0.02
_DRAIN_SECONDS = 120.0
STANDSTILL_SECONDS = 30.0
# How far the publisher may run ahead: enough for full batches and no heap in the broker, which is drained at
# the end and, as long as it is there, saved to disk again and again.
_AHEAD_SECONDS = 0.7
_LEAST_AHEAD, _MOST_AHEAD = 2000, 20_000


class Sustained(NamedTuple):
    """`rate` in uplinks/s; `cpu_us` µs of CPU per uplink by who used it.

    `backlog` is the mean number of messages that waited in the broker or the contender, near 0 where the
    publisher or broker was the limit. `elsewhere` is the share of the machine, 0 to 1, that programs took
    which are no part of the measurement.
    """

    rate: float
    cpu_us: dict[str, float]
    backlog: float
    elsewhere: float
    messages: int
    seconds: float


class _Edge(NamedTuple):
    at: float
    done: int
    cpu: dict[str, float]


def sustained(
    bench: Bench, consumer: Consumer, corpus: Corpus, *, warm_up: float, seconds: float
) -> Sustained:
    """Publish as fast as it goes for `warm_up` + `seconds`, and look at the later part.

    It begins and ends when the number of finished messages has just changed, so whole batches are counted
    over the time between two commits.

    Raises:
        RuntimeError: something was lost, stored twice, or ended.
    """
    with Loader(bench.broker.url("network"), corpus) as loader:
        meter = meter_of(bench, consumer, loader)
        began, first, last, backlogs = 0.0, None, None, []
        for now, done, ended in _progress(consumer, loader):
            began = began or now
            if first is None and now >= began + warm_up:
                first = _Edge(now, done, meter.read())
            elif first is not None:
                backlogs.append(loader.acked - done)
                if ended or now >= first.at + seconds:
                    last = _Edge(now, done, meter.read())
                    break
        published = _drained(loader, consumer)
    if first is None or last is None:
        raise RuntimeError("the messages did not last longer than the warm-up")
    consumer.check(published)
    count, span = last.done - first.done, last.at - first.at
    cpu, elsewhere = shares(first.cpu, last.cpu, span)
    return Sustained(
        rate=count / span,
        cpu_us={who: seconds / count * 1e6 for who, seconds in cpu.items()},
        backlog=sum(backlogs) / len(backlogs),
        elsewhere=elsewhere,
        messages=count,
        seconds=span,
    )


def _progress(consumer: Consumer, loader: Loader) -> Iterator[tuple[float, int, bool]]:
    """(now, finished messages, whether all are published), whenever the number has changed."""
    before = 0
    began = changed = time.monotonic()
    while True:
        time.sleep(_POLL_SECONDS)
        ended = not loader.running
        now, done = time.monotonic(), consumer.stored()
        ahead = _AHEAD_SECONDS * done / (now - began) if done else 0.0
        loader.allow(done + int(min(max(ahead, _LEAST_AHEAD), _MOST_AHEAD)))
        if done != before:
            before, changed = done, now
            yield now, done, ended
        elif ended and done >= loader.acked:
            return
        for child in consumer.children:
            child.check()
        if now > changed + STANDSTILL_SECONDS:
            raise RuntimeError(f"nothing is stored any more\n{consumer.children[0].tail()}")


def _drained(loader: Loader, consumer: Consumer) -> int:
    """Stop publishing and wait until all of it is finished; how many that were."""
    published = loader.finish()
    wait_for(
        f"{published} messages finished",
        lambda: consumer.stored() >= published,
        _DRAIN_SECONDS,
        *consumer.children,
    )
    return published


def meter_of(bench: Bench, consumer: Consumer, loader: Loader) -> Meter:
    """A meter of everything that takes part."""
    watcher = consumer.watcher
    return Meter(
        [child.pid for child in consumer.children],
        bench.broker.process,
        bench.database.postmaster(),
        [os.getpid(), loader.pid],
        [watcher.info.backend_pid] if watcher is not None else [],
    )
