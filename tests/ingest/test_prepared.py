"""Rows that were laid out before their transaction: only used while they would come out the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest

from ingest import batcher, transaction
from ingest.layout import Item
from ingest.pipeline import parse
from ingest.transaction import BatchWriter, Prepared
from telemetry.model import RawMessage
from telemetry.store.pool import connect
from telemetry.store.writer import IDS
from tests.ingest.store import EUI, NOW, adopt, registry, up
from tests.kept import kept_messages

Database = psycopg.Connection[Any]


@pytest.fixture
def writer(database: Database, database_url: str) -> Iterator[BatchWriter]:
    adopt(database, EUI, "says")
    made = BatchWriter(
        lambda: connect(database_url, application="test"),
        writer="test",
        codecs=registry(says=lambda: {"x": 1.5}, other=lambda: {"x": 7.5}),
        keep_messages=True,
    )
    made.commit(items(up("0")))
    yield made
    made.close()


def items(*messages: RawMessage) -> list[Item]:
    return [(message, parse(message, 262_144)) for message in messages]


def test_what_was_prepared_is_stored_as_otherwise(writer: BatchWriter, database: Database) -> None:
    batch = items(up("1", fCnt=1), up("1", fCnt=1), up("2", fCnt=2), RawMessage("x", b"{", NOW))
    prepared = writer.prepare(batch)
    assert prepared
    committed = writer.commit(batch, prepared)
    assert (committed.written, committed.duplicates) == ((2, 2, 0, 1), 1)
    rows = database.execute("SELECT id, f_cnt, fields FROM uplink WHERE f_cnt > 0 ORDER BY f_cnt").fetchall()
    assert [(row["f_cnt"], row["fields"]) for row in rows] == [(1, {"x": 1.5}), (2, {"x": 1.5})]
    assert {row["id"] for row in rows} < kept_messages(database).keys()


def test_what_is_stored_already_is_left_out(writer: BatchWriter, database: Database) -> None:
    batch = items(up("0"), up("1", fCnt=1))
    committed = writer.commit(batch, writer.prepare(batch))
    assert (committed.written.uplinks, committed.written.readings, committed.duplicates) == (1, 1, 1)
    assert len(kept_messages(database)) == 2


def test_parts_of_a_batch_are_stored_together(writer: BatchWriter, database: Database) -> None:
    parts = [items(up(f"{n}", fCnt=n), RawMessage("x", bytes([n]), NOW)) for n in range(1, 4)]
    prepared = [writer.prepare(part) for part in parts]
    batch = [item for part in parts for item in part]
    assert writer.commit(batch, Prepared.join([part for part in prepared if part])).written == (3, 3, 0, 3)
    told = database.execute("SELECT u.f_cnt, r.value FROM uplink u JOIN reading r ON r.uplink_id = u.id")
    assert {row["f_cnt"]: row["value"] for row in told if row["f_cnt"]} == dict.fromkeys((1, 2, 3), 1.5)
    assert len(kept_messages(database)) == 4


def test_parts_that_repeat_each_other_or_know_another_registry_do_not_fit(
    writer: BatchWriter, database: Database
) -> None:
    once, again, other = (writer.prepare(items(up(key, fCnt=1))) for key in "112")
    assert once
    assert again
    assert other
    assert Prepared.join([once, other])
    assert Prepared.join([once, again]) is None
    assert Prepared.join([once, other._replace(version=-1)]) is None


def test_another_registry_version_lays_out_again(writer: BatchWriter, database: Database) -> None:
    batch = items(up("1", fCnt=1))
    prepared = writer.prepare(batch)
    database.execute("UPDATE device_type SET codec = 'other'")
    writer.commit(batch, prepared)
    assert database.execute("SELECT fields FROM uplink WHERE f_cnt = 1").fetchone() == {"fields": {"x": 7.5}}


def test_a_time_assigned_meanwhile_stays(writer: BatchWriter, database: Database) -> None:
    batch = items(up("1", fCnt=1))
    prepared = writer.prepare(batch)
    assigned = NOW.replace(hour=3)
    key = batch[0][1].dedup_key  # type: ignore[union-attr]
    database.execute("INSERT INTO untimed VALUES (%s, %s)", (key.hex(), assigned))
    writer.commit(batch, prepared)
    assert database.execute("SELECT time FROM uplink WHERE f_cnt = 1").fetchone() == {"time": assigned}


@pytest.mark.parametrize(
    "message",
    [up("1", eui="00000000000000aa"), up("1", time="1970-01-01T00:00:00Z")],
    ids=["of a device never seen", "without a clock to believe"],
)
def test_what_only_the_database_can_tell_is_not_prepared(writer: BatchWriter, message: RawMessage) -> None:
    batch = items(up("2"), message)
    assert writer.prepare(batch) is None
    assert writer.commit(batch).written.uplinks == 2


def test_ids_of_a_transaction_that_failed_are_not_used(
    writer: BatchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash of the server its sequence may give them to somebody else."""
    write = transaction.write

    def breaks(*args: Any, **options: Any) -> Any:
        write(*args, **options)
        raise psycopg.OperationalError("the server is gone")

    monkeypatch.setattr(transaction, "write", breaks)
    batch = items(*(up(str(n), fCnt=n) for n in range(1, 1500)))
    with pytest.raises(psycopg.OperationalError):
        writer.commit(batch)
    monkeypatch.undo()
    assert writer.prepare(batch) is None
    held = writer.prepare(batch[:400])
    assert held
    assert all(row.id <= IDS for row in held.rows.uplinks)
    assert writer.commit(batch).written.uplinks == 1499


async def test_a_message_that_nothing_can_be_made_of_costs_only_itself(
    writer: BatchWriter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter of somebody else's gave a time without an offset from UTC."""
    parse_ = batcher.parse

    def careless(message: RawMessage, most: int) -> Any:
        outcome = parse_(message, most)
        if b'"fCnt": 13' in message.payload:
            outcome = msgspec.structs.replace(outcome, time=NOW.replace(tzinfo=None))
        return outcome

    monkeypatch.setattr(batcher, "parse", careless)
    gathers = batcher.Batcher(writer, batch_size=20, max_message=262_144)
    async with asyncio.timeout(30):
        await asyncio.gather(*(gathers.submit(up(f"n{n}", fCnt=n)) for n in range(1, 60)))
    assert await gathers.close(10)
    counters = {row["f_cnt"] for row in database.execute("SELECT f_cnt FROM uplink WHERE f_cnt > 0")}
    assert counters == set(range(1, 60)) - {13}
    assert database.execute("SELECT reason FROM reject").fetchall() == [{"reason": "not_storable"}]


def test_ids_are_never_used_twice(writer: BatchWriter, database: Database) -> None:
    """More batches at once than there are ids at hand."""
    batches = [items(*(up(f"{n}-{m}", fCnt=m) for m in range(700))) for n in range(4)]
    prepared = [writer.prepare(batch) for batch in batches]
    assert prepared[0]
    assert not prepared[-1]
    for batch, rows in zip(batches, prepared, strict=True):
        assert writer.commit(batch, rows).written.uplinks == 700
    found = database.execute("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM uplink").fetchone()
    assert found == {"n": 2801, "ids": 2801}
    told = database.execute("SELECT id, f_cnt FROM uplink").fetchall()
    messages = kept_messages(database)
    assert all(f'"fCnt": {row["f_cnt"]}'.encode() in messages[row["id"]] for row in told if row["f_cnt"])
