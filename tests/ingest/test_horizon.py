"""Messages and readings that would be removed at once are not taken in, whichever way they come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import psycopg

from ingest.horizon import horizon_of
from ingest.pipeline import parse
from ingest.redecode import Redecoder
from ingest.retry import Retrier
from ingest.transaction import BatchWriter, Committed
from ingest.upkeep import Upkeep
from telemetry.clock import ManualClock
from telemetry.model import RawMessage
from telemetry.settings import StoreSettings
from telemetry.store.pool import connect
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import NOW, registry, up
from tests.ingest.test_datalog import MAP, logs, told

Database = psycopg.Connection[dict[str, Any]]
EDGE = NOW - timedelta(days=30)


def _settings(url: str, *, frames: int = 30, readings: int = 30) -> StoreSettings:
    return StoreSettings(database_url=url, retain_frames=frames, retain_readings=readings)


def _write(store: StoreSettings, clock: ManualClock, *batches: Sequence[RawMessage]) -> list[Committed]:
    """Batch by batch, each laid out ahead where that can be done."""
    writer = BatchWriter(
        lambda: connect(store.database_url, application="test"),
        writer="test",
        codecs=CODECS,
        keep_messages=True,
        horizon=horizon_of(store, clock),
    )
    committed = []
    for batch in batches:
        items = [(message, parse(message, 262_144)) for message in batch]
        committed.append(writer.commit(items, writer.prepare(items)))
    writer.close()
    return committed


def _rejects(database: Database) -> list[tuple[Any, ...]]:
    rows = database.execute("SELECT state, reason, field, detail FROM reject ORDER BY id").fetchall()
    return [tuple(row.values()) for row in rows]


def _count(database: Database, table: str) -> int:
    return database.execute(f"SELECT FROM {table}").rowcount  # type: ignore[arg-type]


def test_older_than_frames_are_kept_is_a_reject(database: Database, database_url: str) -> None:
    store, clock = _settings(database_url), ManualClock(NOW)
    edge, old = up("edge", time=EDGE), up("old", time=EDGE - timedelta(seconds=1))
    first, second = _write(store, clock, [up("new")], [up("new2"), old, edge])
    assert (first.written.uplinks, second.written.uplinks, second.written.rejects) == (1, 2, 1)
    assert _rejects(database) == [
        ("open", "too_old", "time", "it is of 2026-10-22 11:59:59Z, and frames are kept for 30 days "
         "(QUANTRAC_RETAIN_FRAMES)")
    ]  # fmt: skip
    clock.advance(timedelta(hours=1))
    (again,) = _write(store, clock, [edge, old, up("new")])
    assert again.duplicates == 3, "what is stored still is a duplicate, no reject"
    assert _count(database, "reject") == 1


def test_what_was_removed_does_not_come_back(database: Database, database_url: str) -> None:
    clock = ManualClock(NOW)
    strange = up("strange", time=NOW + timedelta(days=9))  # no clock to be believed: its arrival decides
    messages = [up("a"), strange]
    _write(_settings(database_url), clock, messages)
    later = ManualClock(NOW + timedelta(days=50))
    store = _settings(database_url)
    database.execute("DELETE FROM uplink")  # as whole chunks go, whenever these are due
    Upkeep(lambda: connect(database_url, application="t"), later, store, share=1).run_once()
    redelivered = [msgspec.structs.replace(message, received_at=later.now()) for message in messages]
    (committed,) = _write(store, later, redelivered)
    assert committed.written.uplinks == 0
    assert [row[1] for row in _rejects(database)] == ["too_old", "too_old"]
    database.execute("UPDATE reject SET state = 'waiting'")
    Retrier(
        lambda: connect(database_url, application="test"),
        writer="test/retry",
        codecs=registry(),
        keep_messages=True,
        max_message=262_144,
        clock=later,
        horizon=horizon_of(store, later),
    ).run_waiting()
    assert [row[:2] for row in _rejects(database)] == [("open", "too_old")] * 2
    assert _count(database, "uplink") == 0


def test_readings_older_than_is_kept_are_left_out_and_said(database: Database, database_url: str) -> None:
    register(database, *MAP)
    clock = ManualClock(at(0) + timedelta(days=20))  # readings from minute 0 on are kept
    store = _settings(database_url, frames=40, readings=20)
    _write(
        store,
        clock,
        [frame("log", 60, {"level": 5.0, "log": logs((-1, 1.0), (0, 2.0))})],
        [frame("old", -10, {"level": 6.0})],
    )
    kept = [(0, "water.level", 2.0), (0, "water.temperature", 12.0), (60, "water.level", 5.0)]
    assert told(database) == kept
    rows = database.execute("SELECT problem FROM uplink ORDER BY time").fetchall()
    said = "{} readings older than 20 days not kept (QUANTRAC_RETAIN_READINGS)"
    assert [row["problem"] for row in rows] == [said.format(1), said.format(2)]
    database.execute(
        "WITH r AS (INSERT INTO redecoding (since, every_frame, detached, requested_by)"
        " VALUES ('2000-01-01', true, true, 't') RETURNING id)"
        " INSERT INTO decode_job (device_id, requested_by, redecoding_id, expected)"
        " SELECT d.id, 't', r.id, 2 FROM device d, r"
    )
    Redecoder(
        lambda: connect(database_url, application="test"),
        writer="again",
        codecs=CODECS,
        horizon=horizon_of(store, clock),
    ).run_waiting()
    assert database.execute("SELECT state, frames FROM decode_job").fetchall() == [
        {"state": "done", "frames": 1}
    ]
    assert told(database) == kept
