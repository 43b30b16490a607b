"""How fast the simulator makes messages, and how much memory its devices take.

`python bench/simulate.py [--devices N] [--messages N] [--scenario NAME] [--format NAME] [--json FILE]`.
Messages are made whole, topic and body, in one process that sends them nowhere, so that no broker is
measured with them. The first messages, two for each device, do not count: with them devices join, and are got
to know.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from itertools import islice
from pathlib import Path

if not __package__:
    # Run as a script, Python looks for modules in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from simulators.run import DEFAULT_START
from simulators.scenario import load_scenario
from simulators.servers.formats import FORMATS
from simulators.traffic import Timeline, Traffic

_EACH_BEFORE = 2


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the simulator alone.")
    parser.add_argument("--devices", type=int, default=100_000, metavar="N")
    parser.add_argument("--messages", type=int, default=400_000, metavar="N")
    parser.add_argument("--scenario", default="la-nga-flood")
    parser.add_argument("--format", choices=sorted(FORMATS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    before = _mebibytes()
    began = time.perf_counter()
    scenario = load_scenario(options.scenario).multiplied(options.devices)
    traffic = Traffic(scenario, seed=1, start=DEFAULT_START, fmt=options.format)
    ready = time.perf_counter()
    timeline = Timeline(DEFAULT_START, 1.0)
    count = size = 0
    messages = (message for event in traffic.events() for message in event.messages(timeline.when))
    for _ in islice(messages, _EACH_BEFORE * options.devices):
        pass
    joined, joined_cpu = time.perf_counter(), time.process_time()
    for message in islice(messages, options.messages):
        count += 1
        size += len(message.payload)
    took, cpu = time.perf_counter() - joined, time.process_time() - joined_cpu
    figures = {
        "scenario": scenario.id,
        "devices": options.devices,
        "messages": count,
        "messages_per_s": count / took,
        "cpu_us": cpu / count * 1e6,
        "bytes_each": size / count,
        "setup_s": ready - began,
        "joins_s": joined - ready,
        "rss_mib": _mebibytes(),
        "rss_before_mib": before,
    }
    print(
        f"{count:,} messages of {size / count:,.0f} bytes from {options.devices:,} devices:"
        f" {count / took:,.0f}/s, {cpu / count * 1e6:.1f} µs of CPU each; ready after {ready - began:.1f} s,"
        f" all joined {joined - ready:.1f} s later;"
        f" {figures['rss_mib']:,.0f} MiB at most, {before:,.0f} of them before"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _mebibytes() -> float:
    """The most memory this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
