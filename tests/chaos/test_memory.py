"""What one ingest process needs, with a province's devices known and a day's messages waiting for it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from bench import consumers
from bench.children import wait_for
from bench.load import Loader
from bench.messages import write_corpus
from bench.servers import Broker, Database
from quantrac.embedded.mosquitto import Mosquitto

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(420)]
KNOWN = 100_000
BACKLOG = 500_000
MOST_MIB = 400


def test_memory_stays_bounded_whatever_waits(tmp_path: Path) -> None:
    if Mosquitto.find() is None:
        pytest.skip("Mosquitto is not installed")
    with ExitStack() as stack:
        broker, database = Broker(tmp_path), Database(tmp_path, None)
        stack.callback(broker.stop)
        stack.callback(database.stop)
        database.start()
        broker.wait_ready()
        bench = consumers.Bench(tmp_path, broker, database)
        corpus = write_corpus(tmp_path / "packets", 0, BACKLOG, time.time_ns())
        with ExitStack() as first:
            consumers.quantrac(bench, first, forgotten=False)  # makes the database and the session
        with psycopg.connect(bench.database.url_of("quantrac1")) as connection:
            connection.execute(
                "INSERT INTO device (dev_eui, status, device_type)"
                " SELECT lpad(to_hex(n), 16, '0'), 'active', device_type"
                " FROM generate_series(1, %s) n, (SELECT device_type FROM device LIMIT 1) d",
                (KNOWN - 2000,),
            )
        with Loader(broker.url("network"), corpus) as loader:
            loader.allow(BACKLOG)
            wait_for("the backlog", lambda: loader.acked >= BACKLOG or not loader.running, 120)
            assert loader.finish() == BACKLOG
        consumer = consumers.quantrac(bench, stack, fresh=False)
        wait_for("all stored", lambda: consumer.stored() >= BACKLOG, 240, *consumer.children)
        status = Path(f"/proc/{consumer.children[0].pid}/status").read_text()
        most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        consumer.check(BACKLOG)
        assert most / 1024 < MOST_MIB, f"{most / 1024:.0f} MiB at the most"
