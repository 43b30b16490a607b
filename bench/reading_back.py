"""Reading back over HTTP: the newest of 10,000 devices, the map's stations, a chart of two years.

    python -m bench.reading_back [--devices 10000] [--tries 30] [--json FILE]

On a database of its own (QUANTRAC_TEST_DATABASE_URL, else an embedded server); `quantrac api` is a process of
its own, and a time is from the request to the last byte of the answer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from api.credentials import new_key
from telemetry.store.migrate import migrate

from .export import _database

_FILL = """
    INSERT INTO device_type VALUES ('bench', 'b', 'b', 'b', 600, '[]', false);
    INSERT INTO station (code, name, latitude, longitude)
    SELECT 'tram-' || n, 'Trạm số ' || n, 10.5 + (n % 100) / 100.0, 106.5 + n / 10000.0
    FROM generate_series(1, {devices}) n;
    INSERT INTO device (dev_eui, status, device_type, station_id)
    SELECT lpad(to_hex(id), 16, '0'), 'active', 'bench', id FROM station;
    INSERT INTO latest (device_id, seen_at, newest, readings)
    SELECT id, now(), now(), (
        SELECT jsonb_object_agg(m || ':0', jsonb_build_array(
            (extract(epoch FROM now()) * 1000000)::bigint - id * 1000,
            round((random() * 100)::numeric, 2), 1))
        FROM generate_series(1, 6) m)
    FROM device;
    INSERT INTO reading (time, value, uplink_id, device_id, metric_id, channel, quality)
    SELECT now() - n * interval '10 minutes', sin(n / 500.0), n, 1, 1, 0, 1
    FROM generate_series(1, 105120) n;
    ANALYZE;
"""
_TWO_YEARS = "from={start}&station=tram-1&metric=water.level"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    start = quote(time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 730 * 86_400)))
    span = _TWO_YEARS.format(start=start)
    quarter = quote(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 90 * 86_400)))
    day = quote(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 86_400)))
    paths = {
        "latest, one metric": "latest?limit=100000&metric=water.level",
        "latest, six series a device": "latest?limit=100000",
        "stations, a page of 1,000": "stations?limit=1000",
        "chart, last day": f"series?from={day}&station=tram-1&metric=water.level",
        "chart, 90 days thinned": f"series?points=1500&{span.replace(start, quarter)}",
        "chart, two years": f"series?points=1000&{span}",
        "rollups, a year of days": f"rollups?resolution=1d&limit=366&{span}",
    }
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, _database(Path(folder)) as url:
        migrate(url)
        key = new_key()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_FILL.format(devices=asked.devices))
            connection.execute(
                "INSERT INTO api_key (name, role, hint, key_hash) VALUES ('bench', 'viewer', '', %s)",
                (key.digest,),
            )
        with _api(url, Path(folder)) as port:
            figures = {what: _times(port, key.key, path, asked.tries) for what, path in paths.items()}
    for what, figure in figures.items():
        print(f"{what:30} {figure}")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


def _times(port: int, key: str, path: str, tries: int) -> dict[str, float]:
    seconds, size = [], 0
    for _ in range(tries + 2):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        began = time.perf_counter()
        connection.request("GET", f"/api/v1/{path}", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        size = len(answer.read())
        seconds.append(time.perf_counter() - began)
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}")
    ordered = sorted(seconds[2:])
    return {
        "best_ms": round(ordered[0] * 1000, 1),
        "p50_ms": round(statistics.median(ordered) * 1000, 1),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)] * 1000, 1),
        "kib": round(size / 1024, 1),
    }


@contextmanager
def _api(url: str, folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    log = (folder / "api.log").open("w")
    api = subprocess.Popen(
        [sys.executable, "-m", "quantrac", "api", "--port", str(port), "--data", str(folder)],
        env={**os.environ, "QUANTRAC_DATABASE_URL": url}, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield port
    finally:
        api.terminate()
        api.wait(30)
        log.close()


if __name__ == "__main__":
    main()
