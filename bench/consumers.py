"""What is measured: each a program of its own that takes the messages from the broker."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from decoders.device_types import check_variables
from quantrac.seed import seed
from telemetry.store.master import save_device
from telemetry.store.migrate import migrate

from . import flow
from .children import Child, python, wait_for
from .client import open_counter
from .messages import DEVICE_TYPE, DEVICES, READINGS, dev_eui
from .servers import Broker, Database

_TABLE = """
    CREATE TABLE measurement (
        id bigserial, time timestamptz NOT NULL, device text NOT NULL, metric text NOT NULL,
        value double precision
    );
    CREATE INDEX ON measurement (device, metric, time DESC);
"""


class Consumer(NamedTuple):
    """A running contender. `stored()` is how many messages it has finished; `check(n)` raises `RuntimeError`
    when what it kept is not exactly those `n` messages, once each. `ours` are our own database sessions."""

    children: list[Child]
    stored: Callable[[], int]
    check: Callable[[int], None]
    watcher: psycopg.Connection[Any] | None = None


class Bench(NamedTuple):
    """What all contenders share."""

    folder: Path
    broker: Broker
    database: Database


def client_only(bench: Bench, stack: ExitStack) -> Consumer:
    """gmqtt alone."""
    name = "bench-client"
    file = bench.folder / "client.counter"
    file.write_bytes(bytes(8))
    counter: mmap.mmap = stack.enter_context(open_counter(file))
    child = Child(
        name, python("-m", "bench.client", bench.broker.url("ingest"), name, str(file)), bench.folder
    )
    stack.callback(bench.broker.forget, name)
    stack.callback(child.stop)
    bench.broker.wait_subscribed(name, child)
    return Consumer([child], lambda: int.from_bytes(counter[:8], "little"), lambda count: None)


def quantrac(
    bench: Bench, stack: ExitStack, processes: int = 1, *, fresh: bool = True, forgotten: bool = True
) -> Consumer:
    """`quantrac ingest`, as many processes in one shared subscription; not `fresh`: as it was left.

    Not `forgotten`: in the end the broker goes on to keep messages for them.
    """
    name = f"quantrac{processes}"
    if fresh:
        url = bench.database.create(name)
        migrate(url)
        seed(url)
        _register(url)
    else:
        url = bench.database.url_of(name)
    children = []
    for number in range(1, processes + 1):
        name = f"bench-ingest-{processes}-{number}"
        env = {
            "QUANTRAC_DATABASE_URL": url,
            "QUANTRAC_MQTT_URL": bench.broker.url("ingest"),
            "QUANTRAC_MQTT_CLIENT_ID": name,
            "QUANTRAC_MQTT_SHARE": "bench" if processes > 1 else "",
            "QUANTRAC_DATA_DIR": str(bench.folder / "data"),
        }
        if forgotten:
            stack.callback(bench.broker.forget, name)
        children.append(Child(name, python("-m", "quantrac", "ingest"), bench.folder, env))
        stack.callback(children[-1].stop)
    for child in children:
        bench.broker.wait_subscribed(child.name, child)
    watcher = stack.enter_context(psycopg.connect(url, autocommit=True, prepare_threshold=1))

    def stored() -> int:
        return sum(uplinks for _, _, uplinks in lanes(watcher))

    def check(count: int) -> None:
        found = _row(watcher, "SELECT count(*), count(DISTINCT dedup_key) FROM uplink")
        readings = _row(watcher, "SELECT count(*) FROM reading")
        rejects = _row(watcher, "SELECT count(*) FROM reject")
        if (*found, *readings, *rejects) != (count, count, READINGS * count, 0):
            raise RuntimeError(
                f"{count} uplinks were published; stored (uplinks, distinct): {found}, "
                f"readings: {readings[0]}, rejects: {rejects[0]}"
            )

    return Consumer(children, stored, check, watcher)


def lanes(watcher: psycopg.Connection[Any]) -> list[tuple[int, int, int]]:
    """(lane, newest seq, uplinks so far) of every writer, as committed and visible to others now."""
    return watcher.execute("SELECT id, seq, uplinks FROM lane").fetchall()


def tutorial(bench: Bench, stack: ExitStack) -> Consumer:
    """The tutorial script."""
    url = bench.database.create("tutorial")
    name = "bench-tutorial"
    watcher = _measurements(url, stack)
    command = python("-m", "bench.tutorial", bench.broker.url("ingest"), url, name)
    child = Child(name, command, bench.folder)
    stack.callback(bench.broker.forget, name)
    stack.callback(child.stop)
    bench.broker.wait_subscribed(name, child)
    return _plain(child, watcher)


def node_red(bench: Bench, stack: ExitStack, cache: Path) -> Consumer:
    """The Node-RED flow, installed before into `cache`."""
    url = bench.database.create("node_red")
    name = "bench-node-red"
    watcher = _measurements(url, stack)
    child = flow.start(bench.folder, cache, bench.broker.url("ingest"), url, name)
    stack.callback(bench.broker.forget, name)
    stack.callback(child.stop)
    bench.broker.wait_subscribed(name, child)
    return _plain(child, watcher)


def _plain(child: Child, watcher: psycopg.Connection[Any]) -> Consumer:
    def stored() -> int:
        # A sequence tells what was inserted without a count of the table; exact but for statements under way.
        last, called = _row(watcher, "SELECT last_value, is_called FROM measurement_id_seq")
        return last // READINGS if called else 0

    def check(count: int) -> None:
        wait_for(
            f"{READINGS * count} measurements",
            lambda: _row(watcher, "SELECT count(*) FROM measurement") == (READINGS * count,),
            20,
            child,
        )

    return Consumer([child], stored, check, watcher)


def _measurements(url: str, stack: ExitStack) -> psycopg.Connection[Any]:
    watcher: psycopg.Connection[Any] = stack.enter_context(
        psycopg.connect(url, autocommit=True, prepare_threshold=1)
    )
    watcher.execute(_TABLE)
    return watcher


def _register(url: str) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for device in range(DEVICES):
            row: dict[str, Any] = {
                "dev_eui": dev_eui(device),
                "name": f"weather-{device:04d}",
                "device_type": DEVICE_TYPE,
                "station": None,
                "variables": {},
                "simulated": False,
            }
            save_device(cursor, row, check_variables)


def _row(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row
