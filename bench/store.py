"""How the store fares as it grows: rows a second, bytes a reading, and the page's questions.

`python bench/store.py [--readings N] [--database-url URL …] [--json FILE]`. PostgreSQL is its own; every URL
is one more server to measure, TimescaleDB for example, on which databases are made and dropped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a script, Python looks for modules in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import psycopg

from bench import store_pages, store_size
from bench.servers import Database
from bench.store_load import load, prepare
from telemetry.store.edition import detect

BASE = 1_000_000
"""Readings that the last day of a series is compared with."""
_NAMES = {
    "last_day": "chart: last day of one series, 144 readings",
    "last_day_all": "chart: last day of a station, six series",
    "quarter": "chart: 90 days of one series, 13,000 readings thinned to 1,000",
    "last_year": "chart: last year of one series",
    "year_of_days": "last year as days",
    "latest": "latest of 10,000 devices, one metric",
    "latest_all": "latest of 10,000 devices, all six",
    "map": "the map: 1,000 stations with the newest of their 10,000 devices",
}


def measure(database: Database, name: str, readings: int, folder: Path, repeat: int) -> dict[str, Any]:
    """All figures of one server."""
    small = _one(database, f"{name}_small", min(BASE, readings), folder, repeat)
    if readings <= BASE:
        return small
    found = _one(database, name, readings, folder, repeat)
    found["last_day_to_1m"] = found["last_day_p95_ms"] / small["last_day_p95_ms"]
    return found


def _one(database: Database, name: str, readings: int, folder: Path, repeat: int) -> dict[str, Any]:
    url = database.create(name)
    prepare(url)
    with psycopg.connect(url) as connection:
        edition = detect(connection)
    end = datetime.now(UTC)
    _say(f"{edition.value} {database.version}: loading {readings:,} readings")
    loaded = load(url, readings, int(end.timestamp() * 1e6))
    figures: dict[str, Any] = {
        "edition": edition.value,
        "server": database.version,
        "readings": loaded.readings,
        "rows_per_s": loaded.rows_per_s,
        "rows_per_s_by_tenth": loaded.rates,
        "last_tenth_to_first": loaded.last_to_first,
    }
    _say(f"{loaded.rows_per_s:,.0f} readings/s, last tenth {loaded.last_to_first:.2f} of the first")
    _say("readings/s by tenths: " + ", ".join(f"{rate:,.0f}" for rate in loaded.rates))
    figures |= store_size.settle(url, end)
    _say(f"{figures['bytes_per_reading']:.2f} bytes a reading")
    place = folder / name
    place.mkdir()
    with store_pages.api(url, place) as client:
        for question, took in store_pages.measure(client, end, repeat).items():
            figures |= {f"{question}_{part}_ms": getattr(took, part) for part in ("p50", "p95")}
            _say(f"{_NAMES[question]}: p50 {took.p50:.1f} ms, p95 {took.p95:.1f} ms, {took.items} items")
    database.drop()
    return figures


def table(found: list[dict[str, Any]]) -> str:
    """The figures of all servers, as a table of Markdown."""
    rows = [
        ("readings", "readings", "{:,.0f}"),
        ("readings/s through the writer", "rows_per_s", "{:,.0f}"),
        ("the last tenth's rate : the first's", "last_tenth_to_first", "{:.2f}"),
        ("bytes a reading as written, index included", "bytes_per_reading_rows", "{:.1f}"),
        ("bytes a reading at rest, index included", "bytes_per_reading", "{:.2f}"),
        ("bytes a frame at rest, indexes included", "bytes_per_frame", "{:.0f}"),
        *((f"{name}, p50 ms", f"{key}_p50_ms", "{:.1f}") for key, name in _NAMES.items()),
        *((f"{name}, p95 ms", f"{key}_p95_ms", "{:.1f}") for key, name in _NAMES.items()),
        ("last day of one series : out of a million, p95", "last_day_to_1m", "{:.2f}"),
    ]
    lines = [
        "| | " + " | ".join(f"{one['edition']} {one['server'].split()[0]}" for one in found) + " |",
        "|---|" + "---:|" * len(found),
    ]
    for name, key, form in rows:
        cells = [form.format(one[key]) if key in one else "–" for one in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the store as it grows.")
    parser.add_argument("--readings", type=int, default=BASE, metavar="N")
    parser.add_argument(
        "--database-url", action="append", default=[], metavar="URL", help="one more server (repeatable)"
    )
    parser.add_argument("--only-given", action="store_true", help="not on a PostgreSQL of our own")
    parser.add_argument("--repeat", type=int, default=200, help="requests of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    servers = [] if options.only_given else [None]
    found = []
    for number, url in enumerate([*servers, *options.database_url]):
        with tempfile.TemporaryDirectory(prefix="quantrac-bench-") as name:
            database = Database(Path(name), url)
            database.start()
            try:
                found.append(
                    measure(database, f"store{number}", options.readings, Path(name), options.repeat)
                )
            finally:
                database.drop()
                database.stop()
    print(table(found))
    if options.json:
        # Of several servers the last one's figures stand at the top.
        options.json.write_text(
            json.dumps({**found[-1], "servers": found}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
