"""Exports of a large table: rows a second, size of the file, and the most memory the process had.

    python -m bench.export [--readings 10000000] [--formats parquet,csv] [--json FILE]

Fills a database of its own by COPY, on QUANTRAC_TEST_DATABASE_URL or an embedded server, and runs
`quantrac export` as a process for each format.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from quantrac.embedded import EmbeddedPostgres
from telemetry.store import binary
from telemetry.store.lanes import READING_DTYPE
from telemetry.store.migrate import migrate

DEVICES = 100
METRICS = 6
EVERY_SECONDS = 600
BEGIN = 1_700_000_000_000_000  # µs
CHUNK = 500_000
# The most it had is asked of the process itself: what the system tells of children counts their parent in.
_CHILD = """
import atexit
atexit.register(lambda: print(open("/proc/self/status").read()))
from quantrac.cli import main
main()
"""
_COPY = f"COPY reading ({binary.READING_COLUMNS}) FROM STDIN (FORMAT binary)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=int, default=10_000_000)
    parser.add_argument("--formats", default="parquet,csv,ndjson")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, _database(Path(folder)) as url:
        migrate(url)
        began = time.perf_counter()
        fill(url, asked.readings)
        print(f"{asked.readings} readings filled in {time.perf_counter() - began:.0f} s", flush=True)
        for form in asked.formats.split(","):
            figures.append(measure(url, Path(folder) / f"readings.{form}"))
            print(json.dumps(figures[-1]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"readings": asked.readings, "exports": figures}, indent=1))


def fill(url: str, count: int) -> None:
    """`count` readings of 100 devices with six metrics each, every ten minutes, by COPY."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO station (code, name, latitude, longitude)"
            " SELECT 'tram-' || n, 'Trạm số ' || n, 11, 107 FROM generate_series(1, %s) n",
            (DEVICES,),
        )
        connection.execute(
            "INSERT INTO device (dev_eui, station_id) SELECT lpad(to_hex(id), 16, '0'), id FROM station"
        )
        rng = np.random.default_rng(1)
        with connection.cursor() as cursor:
            for first in range(0, count, CHUNK):
                number = np.arange(first, min(first + CHUNK, count))
                with cursor.copy(_COPY) as copy:
                    copy.write(binary.HEADER + _rows(number, rng) + binary.TRAILER)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE reading")


def _rows(number: Any, rng: np.random.Generator) -> bytes:
    frame, metric = np.divmod(number, METRICS)
    tick, device = np.divmod(frame, DEVICES)
    rows = np.zeros(len(number), READING_DTYPE)
    rows["time"] = BEGIN + tick * EVERY_SECONDS * 1_000_000 + device * 1_000_000
    rows["value"] = np.round(rng.normal(100, 5, len(number)), 2)
    rows["uplink_id"], rows["device_id"], rows["metric_id"] = frame, device + 1, metric + 1
    rows["quality"] = 1
    return binary.readings(rows)


def measure(url: str, file: Path) -> dict[str, Any]:
    """One export as a process of its own: seconds, rows a second, bytes, most resident memory."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, "export", "readings", "--out", str(file)],
        env={**os.environ, "QUANTRAC_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "format": file.suffix[1:],
        "seconds": round(time.perf_counter() - began, 1),
        "bytes": file.stat().st_size,
        "peak_rss_mib": round(int(done.stdout.partition("VmHWM:")[2].split()[0]) / 1024, 1),
    }


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    given = os.environ.get("QUANTRAC_TEST_DATABASE_URL")
    if not given:
        server = EmbeddedPostgres(folder / "postgres")
        try:
            yield server.start()
        finally:
            server.stop()
        return
    name = sql.Identifier(f"quantrac_bench_{datetime.now(UTC):%Y%m%d%H%M%S}")
    with psycopg.connect(given, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield psycopg.conninfo.make_conninfo(given, dbname=name.as_string(None).strip('"'))
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


if __name__ == "__main__":
    main()
