"""What decoding costs: native codecs, JavaScript, fifty JavaScript codecs in a batch, one that hangs.

`python bench/decode.py [--json FILE] [--quick]`. CPU and times are in µs a call unless a name says otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a script, Python looks for modules in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import psutil

from decoders.javascript.workers import Call, JsWorkers, Outcome
from decoders.registry import load_codecs
from decoders.vectors import read_vectors

_BATCH = 2000
_TYPES = 50
_HANGING = 10  # frames of the codec that hangs, among the others of a batch
_SOURCE = (Path(__file__).parent / "codecs" / "channels.js").read_text(encoding="utf-8")
_HANGS = "function decodeUplink() { for (;;) {} }"
_FRAME = bytes.fromhex("01755c036710010468710567f5000673e62708823c05")
_BUILTIN = Path(__file__).resolve().parents[1] / "decoders" / "builtin"
_WANTED = {
    "javascript_median": ("JavaScript, median call", "≤ 30 µs"),
    "native_median": ("native codec, median call", "≤ 5 µs"),
    "fifty_types_per_core": ("2,000 uplinks of 50 JavaScript types", "≥ 12,000 uplinks/s a core"),
    "hanging_costs_ms": ("one type hangs: its neighbours wait", "≤ 250 ms"),
}


def native(repeat: int) -> dict[str, float]:
    """Median of decoding one frame, for each built-in codec's own vectors."""
    found = {}
    for id_, codec in load_codecs().codecs.items():
        folder = _BUILTIN / id_.replace("-", "_")
        if not folder.is_dir():
            continue
        frames = [(v.f_port, bytes.fromhex(v.payload)) for v in read_vectors(folder).vectors if v.fields]
        found[id_] = statistics.median(
            _timed(partial(codec.decode, *frame)) for frame in frames for _ in range(repeat)
        )
    return found


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / 1000


def javascript(workers: JsWorkers, repeat: int) -> dict[str, float]:
    """One codec in batches: the call itself, and all CPU of it in both processes."""
    codec = workers.add(_SOURCE)
    calls = _calls([codec])
    _run(workers, calls)
    outcomes: list[Outcome] = []
    used = _cpu(workers)
    for _ in range(repeat):
        outcomes += _run(workers, calls)
    used = _cpu(workers) - used
    return {
        "javascript_median": statistics.median(outcome.micros for outcome in outcomes),
        "javascript_cpu": used / len(outcomes) * 1e6,
    }


def fifty_types(workers: JsWorkers, repeat: int) -> dict[str, float]:
    """Batches of 2,000 frames of fifty types; then the same with a type that hangs among them."""
    calls = _calls([workers.add(_SOURCE.replace("@LABEL@", f"type {n}")) for n in range(_TYPES)])
    _run(workers, calls)
    used = _cpu(workers)
    took = [_timed(lambda: _run(workers, calls)) / 1000 for _ in range(repeat)]
    used = _cpu(workers) - used
    hangs = Call(workers.add(_HANGS), "decode_uplink", 1, _FRAME)
    mixed = list(calls)
    for n in range(_HANGING):
        mixed.insert(n * len(calls) // _HANGING, hangs)
    worst = _timed(lambda: _check(workers.run(mixed), _HANGING)) / 1000
    return {
        "fifty_types_per_core": repeat * _BATCH / used,
        "fifty_types_ms": statistics.median(took),
        "hanging_costs_ms": worst - statistics.median(took),
    }


def _calls(codecs: Sequence[str]) -> list[Call]:
    return [
        Call(codecs[n % len(codecs)], "decode_uplink", 85, _FRAME, 1_700_000_000_000_000 + n)
        for n in range(_BATCH)
    ]


def _run(workers: JsWorkers, calls: Sequence[Call]) -> list[Outcome]:
    return _check(workers.run(calls), 0)


def _check(outcomes: list[Outcome], failures: int) -> list[Outcome]:
    failed = [outcome for outcome in outcomes if outcome.errors]
    if len(failed) != failures:
        raise RuntimeError(f"{len(failed)} frames failed, not {failures}: {failed[:1]}")
    return outcomes


def _cpu(workers: JsWorkers) -> float:
    """Seconds of this process and the worker processes."""
    times = [psutil.Process(pid).cpu_times() for pid in workers.pids()]
    return time.process_time() + sum(spent.user + spent.system for spent in times)


def measure(*, quick: bool) -> dict[str, Any]:
    repeat = 5 if quick else 30
    by_codec = native(repeat * 20)
    with JsWorkers() as workers:
        return {
            "native": by_codec,
            "native_median": statistics.median(by_codec.values()),
            **javascript(workers, repeat),
            **fifty_types(workers, repeat),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures what decoding costs on this machine.")
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    figures = measure(quick=options.quick)
    for key, (name, wanted) in _WANTED.items():
        print(f"{name:<40} {figures[key]:>10,.1f}   wanted {wanted}")
    for id_, micros in figures["native"].items():
        print(f"  {id_:<38} {micros:>10,.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
