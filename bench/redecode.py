"""Decoding history again: a million frames, killed on the way, resumed; how fast, and in how much memory.

`python bench/redecode.py [--frames N] [--json FILE]`. PostgreSQL is its own. The frames are written as rows.
`quantrac redecode` reads them for the first time, then again with another map of six entries, which replaces
every reading; half-way it is killed with -9, and goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a script, Python looks for modules in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import psutil
import psycopg
import yaml
from psycopg.types.json import Jsonb

from bench.children import Child, python
from bench.messages import dev_eui, encode, samples
from bench.servers import Database
from quantrac.seed import seed
from telemetry.store.migrate import migrate

DEVICES, VARIANTS, DAYS = 100, 1000, 30
_FIELDS = {
    "temperature_0": "air.temperature",
    "relative_humidity_0": "air.humidity",
    "barometric_pressure_0": "air.pressure",
    "luminosity_0": "light.illuminance",
    "temperature_1": "soil.temperature",
    "relative_humidity_1": "soil.moisture",
}
_POLL_SECONDS = 0.1
_FRAMES = f"""
    INSERT INTO uplink (time, ingest_time, id, dedup_key, device_id, f_port, network, payload)
    SELECT at, at, n, md5(n::text)::uuid, (%(ids)s::int4[])[1 + n %% {DEVICES}], 2, 'chirpstack-v4',
           (%(payloads)s::bytea[])[1 + n %% {VARIANTS}]
    FROM generate_series(1, %(frames)s) AS n
    CROSS JOIN LATERAL (SELECT now() - interval '{DAYS} days' * (1 - n::float8 / (%(frames)s + 1)) AS at) AS t
"""


def _map(scale: float) -> list[dict[str, Any]]:
    return [{"field": field, "metric": metric, "scale": scale} for field, metric in _FIELDS.items()]


def prepare(url: str, frames: int) -> None:
    """Devices of one type, and their frames, which nobody decoded."""
    migrate(url)
    seed(url)
    payloads = [encode(sample) for sample in samples(random.Random(1), VARIANTS)]
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
            " VALUES ('bench', 'v', 'm', 'cayenne-lpp', 600, %s)",
            (Jsonb(_map(1)),),
        )
        rows = connection.execute(
            "INSERT INTO device (dev_eui, status, device_type) SELECT unnest(%s::text[]), 'active', 'bench'"
            " RETURNING id",
            ([dev_eui(device) for device in range(DEVICES)],),
        ).fetchall()
        values = {"ids": [row[0] for row in rows], "payloads": payloads, "frames": frames}
        connection.execute(_FRAMES, values)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE uplink")


class Watched:
    """A `quantrac redecode` and the most memory it took."""

    def __init__(self, url: str, folder: Path, *arguments: str) -> None:
        self.peak = 0.0
        self._child = Child(
            "redecode",
            python("-m", "quantrac", "redecode", *arguments),
            folder,
            {"QUANTRAC_DATABASE_URL": url, "QUANTRAC_DATA_DIR": str(folder)},
        )
        self._process = psutil.Process(self._child.pid)

    def running(self) -> bool:
        """Whether it still does; looks at its memory (MiB)."""
        try:
            self.peak = max(self.peak, self._process.memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            return False
        return self._process.status() != psutil.STATUS_ZOMBIE

    def wait(self) -> None:
        """Raises `RuntimeError` when it failed."""
        while self.running():
            time.sleep(_POLL_SECONDS)
        if "left as they were" not in self._child.tail():
            raise RuntimeError(self._child.tail())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


def measure(url: str, folder: Path, frames: int) -> dict[str, Any]:
    """Frames a second of both passes, memory in MiB, and how much was done when it was killed."""
    asked = ("--device-type", "bench", "--since", f"{DAYS + 1}d")
    started = time.perf_counter()
    first = Watched(url, folder, *asked)
    first.wait()
    first_seconds = time.perf_counter() - started
    changed = folder / "map.yaml"
    changed.write_text(yaml.safe_dump(_map(2)), encoding="utf-8")
    with psycopg.connect(url, autocommit=True) as connection:
        started = time.perf_counter()
        killed = Watched(url, folder, *asked, "--map", str(changed))
        while (done := _done(connection)) < frames // 2 and killed.running():
            time.sleep(_POLL_SECONDS)
        killed.kill()
        resumed = Watched(url, folder, "--resume", "2")
        resumed.wait()
        second_seconds = time.perf_counter() - started
        _check(connection, frames)
    return {
        "frames": frames,
        "first_a_second": frames / first_seconds,
        "again_a_second": frames / second_seconds,
        "killed_at": done,
        "rss_mib": max(first.peak, killed.peak, resumed.peak),
        "rss_mib_half": killed.peak,
    }


def _done(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(frames), 0) FROM decode_job WHERE redecoding_id = 2"
    ).fetchone()
    return int(row[0]) if row else 0


def _check(connection: psycopg.Connection[Any], frames: int) -> None:
    """Every frame gave its readings once, and what it said before is kept once."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM reading), (SELECT count(DISTINCT (uplink_id, metric_id)) FROM reading),"
        " (SELECT count(*) FROM superseded), (SELECT count(DISTINCT decoded_by) FROM uplink)"
    ).fetchone()
    wanted = (frames * len(_FIELDS), frames * len(_FIELDS), frames, 1)
    if row != wanted:
        raise RuntimeError(f"readings, different ones, superseded, stamps: {row} instead of {wanted}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures what decoding history again costs.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantrac-bench-") as name:
        folder = Path(name)
        database = Database(folder, None)
        database.start()
        try:
            url = database.create("redecode")
            prepare(url, options.frames)
            figures = measure(url, folder, options.frames)
        finally:
            database.stop()
    for key, value in figures.items():
        print(f"{key:<20} {value:>14,.0f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
