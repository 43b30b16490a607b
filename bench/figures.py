"""The figures of a run: as JSON, and as tables that read well on a terminal and on a page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .latency import Latency
from .measure import Sustained

CONTENDERS = {
    "client_only": "gmqtt alone: receive and acknowledge",
    "end_to_end": "Quantrac, one process",
    "shared_two": "Quantrac, two processes sharing",
    "node_red": "Node-RED flow",
    "tutorial": "tutorial script",
}
LOADS = {"twenty": "20 %", "half": "50 %", "eighty": "80 %", "at_100": "100 uplinks/s"}
_PACKAGES = ("gmqtt", "uvloop", "paho-mqtt", "psycopg", "msgspec", "numpy")


@dataclass
class Figures:
    """What a run found; `failures` say why a contender has no figure."""

    sustained: dict[str, Sustained] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    quick: bool = False

    def rate(self, contender: str) -> float | None:
        found = self.sustained.get(contender)
        return found.rate if found else None

    def ratio(self, one: str, other: str) -> float | None:
        """How many times the rate of `other` the rate of `one` is."""
        above, below = self.rate(one), self.rate(other)
        return above / below if above and below else None

    def cpu(self, who: str) -> float | None:
        """µs of CPU per uplink in one ingest process and the servers it uses."""
        found = self.sustained.get("end_to_end")
        return found.cpu_us.get(who) if found else None

    def as_json(self) -> dict[str, Any]:
        """Rates in uplinks/s, CPU in µs per uplink, latencies in ms; null where nothing was measured."""
        return {
            **{contender: _rounded(self.rate(contender)) for contender in CONTENDERS},
            "ingest_cpu_us": _rounded(self.cpu("consumer")),
            "database_cpu_us": _rounded(self.cpu("database")),
            "broker_cpu_us": _rounded(self.cpu("broker")),
            "p50_ms": {load: _rounded(found.p50) for load, found in self.latency.items()},
            "p99_ms": {load: _rounded(found.p99) for load, found in self.latency.items()},
            "goals": {what: _rounded(reached, 3) for what, _, reached in self.goals()},
            "sustained": {name: found._asdict() for name, found in self.sustained.items()},
            "latency": {load: found._asdict() for load, found in self.latency.items()},
            "failures": self.failures,
            "quick": self.quick,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "python": platform.python_version(),
            "versions": versions() | self.versions,
        }

    def goals(self) -> list[tuple[str, str, float | None]]:
        """(what, what is wanted, what was reached) in the units the words give."""
        p99 = {load: found.p99 for load, found in self.latency.items()}
        return [
            ("one process : client library alone", "≥ 0.6", self.ratio("end_to_end", "client_only")),
            ("one process : Node-RED flow", "≥ 5", self.ratio("end_to_end", "node_red")),
            ("one process : tutorial script", "≥ 15", self.ratio("end_to_end", "tutorial")),
            ("two processes : one process", "≥ 1", self.ratio("shared_two", "end_to_end")),
            ("CPU of ingest, µs an uplink", "≤ 50 (Python 3.13: ≤ 40)", self.cpu("consumer")),
            ("publish → committed at 50 %, p99 ms", "≤ 50", p99.get("half")),
            ("publish → committed at 100 uplinks/s, p99 ms", "≤ 20", p99.get("at_100")),
        ]

    def tables(self) -> str:
        """Rates, latencies if there are any, goals."""
        latencies = [self._latencies()] if self.latency else []
        return "\n\n".join((self._rates(), *latencies, self._goals()))

    def page(self) -> str:
        """The tables under a line that says when and where."""
        used = ", ".join(f"{name} {version}" for name, version in (versions() | self.versions).items())
        where = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}, Python {platform.python_version()}; {used}"
        shares = [rate.elsewhere for rate in self.sustained.values()]
        others = max([*shares, *(took.elsewhere for took in self.latency.values())], default=0.0)
        busy = f"Other programs took {others:.0%} of the machine at most"
        return f"Measured {where}{' (`--quick`)' if self.quick else ''}. {busy}.\n\n{self.tables()}"

    def _rates(self) -> str:
        head = ("", "uplinks/s", "Quantrac is", "CPU µs an uplink: itself", "database", "broker")
        rows: list[Sequence[str]] = []
        for contender, name in CONTENDERS.items():
            found = self.sustained.get(contender)
            if found is None:
                if contender in self.failures:
                    rows.append((name, f"not measured: {self.failures[contender]}", "", "", "", ""))
                continue
            cpu = [_shown(found.cpu_us.get(who)) for who in ("consumer", "database", "broker")]
            times = self.ratio("end_to_end", contender)
            rows.append((name, f"{found.rate:,.0f}", f"{times:.2f} ×" if times else "", *cpu))
        return table(head, rows)

    def _latencies(self) -> str:
        head = ("load", "uplinks/s", "p50 ms", "p99 ms", "worst ms")
        rows = [
            (name, f"{found.rate:,.0f}", _shown(found.p50), _shown(found.p99), _shown(found.worst))
            for load, name in LOADS.items()
            if (found := self.latency.get(load))
        ]
        return table(head, rows)

    def _goals(self) -> str:
        rows = [
            (what, wanted, _shown(reached, 2) or "not measured") for what, wanted, reached in self.goals()
        ]
        return table(("goal", "wanted", "reached"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns of even width: words to the left, all else to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cells[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def machine() -> str:
    """Processor, how many of them, memory, system."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _shown(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"
