"""One run: servers up, every contender in turn, figures out, everything ended."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from . import consumers, flow
from .consumers import Bench, Consumer
from .figures import CONTENDERS, Figures
from .latency import latency
from .measure import sustained
from .messages import Corpus, write_corpus
from .servers import Broker, Database

PARTS = ("client", "end_to_end", "latency", "shared_two", "tutorial", "node_red")
_BUSY = 0.1
_STARTED = time.perf_counter()
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


class Plan(NamedTuple):
    """Sizes of a run: messages for each contender at most; seconds of each phase."""

    messages: int
    warm_up: float
    seconds: float
    latency_warm_up: float
    latency_seconds: float


FULL = Plan(500_000, 3.0, 12.0, 1.0, 10.0)
QUICK = Plan(160_000, 1.0, 2.5, 0.5, 2.0)


class Run:
    """The parts of a run, and what they found."""

    def __init__(self, bench: Bench, plan: Plan, parts: Sequence[str], cache: Path) -> None:
        self._bench = bench
        self._plan = plan
        self._parts = parts
        self._cache = cache
        self.figures = Figures(quick=plan is QUICK)

    def all(self) -> None:
        """Every part that was asked for, one after another."""
        with self._corpus("all", 0, self._plan.messages) as corpus:
            if "client" in self._parts:
                self._measure("client_only", corpus, consumers.client_only)
            if "end_to_end" in self._parts or "latency" in self._parts:
                self._measure("end_to_end", corpus, consumers.quantrac, self._latencies)
            if "shared_two" in self._parts:
                self._measure("shared_two", corpus, lambda bench, stack: consumers.quantrac(bench, stack, 2))
            if "tutorial" in self._parts:
                self._measure("tutorial", corpus, consumers.tutorial)
            if "node_red" in self._parts:
                self._node_red(corpus)

    def _measure(
        self,
        name: str,
        corpus: Corpus,
        start: Callable[[Bench, ExitStack], Consumer],
        then: Callable[[Consumer], None] | None = None,
    ) -> None:
        with ExitStack() as stack:
            consumer = start(self._bench, stack)
            found = sustained(
                self._bench, consumer, corpus, warm_up=self._plan.warm_up, seconds=self._plan.seconds
            )
            self.figures.sustained[name] = found
            _say(f"{CONTENDERS[name]}: {found.rate:,.0f} uplinks/s")
            _warn(found.elsewhere)
            if then is not None:
                then(consumer)
        self._bench.database.drop()

    def _node_red(self, corpus: Corpus) -> None:
        try:
            self.figures.versions |= flow.install(self._cache)
        except flow.Unavailable as why:
            self.figures.failures["node_red"] = str(why)
            _say(f"{CONTENDERS['node_red']}: not measured: {why}")
            return
        self._measure("node_red", corpus, lambda bench, stack: consumers.node_red(bench, stack, self._cache))

    def _latencies(self, consumer: Consumer) -> None:
        if "latency" not in self._parts:
            return
        top = self.figures.sustained["end_to_end"].rate
        loads = {"at_100": 100.0, "twenty": 0.2 * top, "half": 0.5 * top, "eighty": 0.8 * top}
        first, seconds = self._plan.messages, self._plan.latency_warm_up + self._plan.latency_seconds
        for name, rate in loads.items():
            count = round(rate * seconds)
            with self._corpus(name, first, count) as corpus:
                found = latency(self._bench, consumer, corpus, rate=rate, warm_up=self._plan.latency_warm_up)
            first += count
            self.figures.latency[name] = found
            _say(f"publish → committed at {rate:,.0f}/s: p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms")
            _warn(found.elsewhere)
        consumer.check(consumer.stored())

    @contextmanager
    def _corpus(self, name: str, first: int, count: int) -> Iterator[Corpus]:
        file = self._bench.folder / f"{name}.packets"
        try:
            yield write_corpus(file, first, count, time.time_ns())
        finally:
            file.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when everything asked for was measured."""
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    folder = Path(tempfile.mkdtemp(prefix="quantrac-bench-"))
    with ExitStack() as stack:
        if options.keep:
            stack.callback(_say, f"kept: {folder}")
        else:
            stack.callback(shutil.rmtree, folder)
        database = Database(folder, options.database_url)
        stack.callback(database.stop)
        database.start()
        stack.callback(database.drop)
        broker = Broker(folder)
        stack.callback(broker.stop)
        broker.wait_ready()
        plan = QUICK if options.quick else FULL
        run = Run(Bench(folder, broker, database), plan, options.only, options.node_red_cache)
        run.figures.versions = {"Mosquitto": broker.version, "PostgreSQL": database.version}
        run.all()
    figures = run.figures
    print(figures.tables())
    if options.json:
        options.json.write_text(
            json.dumps(figures.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    if options.markdown:
        write_into(options.markdown, figures.page())
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures ingest beside others, on this machine, in one run."
    )
    parser.add_argument("--quick", action="store_true", help="under 50 seconds, without Node-RED")
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="PARTS", help=f"some of {','.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help=f"put the tables between {BEGIN} and {END} of that page",
    )
    parser.add_argument(
        "--database-url", metavar="URL", help="a server to make databases on (default: one of our own)"
    )
    parser.add_argument(
        "--node-red-cache",
        type=Path,
        default=flow.default_cache(),
        metavar="DIR",
        help="where npm installs it",
    )
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs and data")
    options = parser.parse_args(arguments)
    if options.quick:
        options.only = [part for part in options.only if part != "node_red"]
    return options


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if wrong := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(wrong)}; there are {', '.join(PARTS)}")
    return parts


def write_into(page: Path, tables: str) -> None:
    """Replace what stands between the two marks."""
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} has no {BEGIN} … {END}")
    page.write_text(f"{head}{begin}\n{tables}\n{end}{tail}", encoding="utf-8")


def _end(number: int, _frame: FrameType | None) -> None:
    """Leave through every `finally`, and let no second Ctrl-C cut that short."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _warn(elsewhere: float) -> None:
    if elsewhere > _BUSY:
        _say(f"  other programs took {elsewhere:.0%} of this machine: repeat it when it is idle")


def _say(text: str) -> None:
    print(f"{time.perf_counter() - _STARTED:5.1f} s  {text}", file=sys.stderr, flush=True)
