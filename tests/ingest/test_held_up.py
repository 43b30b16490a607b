"""A batch that takes too long or waits for somebody's lock: nobody waits for the few whose fault that is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ingest import held_up, transaction
from ingest.pipeline import parse
from ingest.retry import Retrier
from ingest.transaction import BatchWriter
from telemetry.clock import ManualClock
from telemetry.model import RawMessage
from telemetry.store.pool import Limits, connect
from tests.ingest.store import EUI, NOW, registry, up

Database = psycopg.Connection[dict[str, Any]]
LIVE = [up(str(n), time=NOW - timedelta(minutes=n)) for n in range(40)]
LATE = up("late", time=NOW - timedelta(days=40))


class Writing:
    """A writer whose statements and waits for locks are limited, in seconds."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._writer = BatchWriter(
            lambda: connect(url, application="test", limits=limits),
            writer="test",
            codecs=registry(),
            keep_messages=True,
        )
        self.close = self._writer.close

    def commit(self, *messages: RawMessage) -> tuple[int, ...]:
        return tuple(self._writer.commit([(one, parse(one, 262_144)) for one in messages]).written)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    brief = held_up.BRIEFLY.replace("1s", "100ms")
    monkeypatch.setattr(held_up, "_AT_LEISURE", held_up._AT_LEISURE.replace(held_up.BRIEFLY, brief))
    monkeypatch.setattr(held_up, "BRIEFLY", brief)
    monkeypatch.setattr(transaction, "BRIEFLY", brief)


@pytest.fixture
def writing(database_url: str) -> Iterator[Writing]:
    writing = Writing(database_url, Limits(statement=30, lock=0.2))
    yield writing
    writing.close()


@pytest.fixture
def holding(database_url: str, writing: Writing) -> Iterator[psycopg.Connection[Any]]:
    """A transaction, still open, that has stored a frame with the time and key of the late one."""
    writing.commit(LATE)
    with connect(database_url, application="another") as connection:
        connection.execute("CREATE TEMPORARY TABLE held AS SELECT * FROM uplink")
        connection.execute("DELETE FROM uplink")
        connection.commit()
        connection.execute("INSERT INTO uplink SELECT * FROM held")
        yield connection


def _rejects(database: Database) -> list[tuple[Any, ...]]:
    query = "SELECT reason, state, dev_eui FROM reject ORDER BY id"
    return [tuple(row.values()) for row in database.execute(query).fetchall()]


def test_a_message_whose_place_is_locked_is_put_aside_and_stored_later(
    writing: Writing, holding: psycopg.Connection[Any], database: Database, database_url: str
) -> None:
    assert writing.commit(*LIVE[:20], LATE, *LIVE[20:])[0] >= 38, "two of one part with it, at most"
    aside = _rejects(database)
    assert set(aside) == {("held_up", "waiting", EUI)}
    retrier = Retrier(
        lambda: connect(database_url, application="test", limits=Limits(lock=0.2)),
        writer="test/retry",
        codecs=registry(),
        keep_messages=True,
        max_message=262_144,
        clock=ManualClock(NOW),
    )
    with pytest.raises(psycopg.errors.LockNotAvailable):
        retrier.run_waiting()
    assert set(_rejects(database)) == {("held_up", "waiting", EUI)}, "as long as it takes"
    holding.rollback()
    assert retrier.run_waiting() == len(aside)
    assert {state for _, state, _ in _rejects(database)} == {"retried"}
    assert database.execute("SELECT DISTINCT dedup_key FROM uplink").rowcount == 41


def test_a_message_alone_is_put_aside_too(
    writing: Writing, holding: psycopg.Connection[Any], database: Database
) -> None:
    assert writing.commit(LATE) == (0, 0, 0, 1)
    assert writing.commit(LIVE[0]) == (1, 0, 0, 0)
    assert _rejects(database) == [("held_up", "waiting", EUI)]


def test_nothing_is_put_aside_where_nothing_could_be_stored(
    writing: Writing, database: Database, database_url: str
) -> None:
    with connect(database_url, application="another") as other:
        other.execute("LOCK TABLE uplink IN EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            writing.commit(*LIVE)
    assert _rejects(database) == []
    assert writing.commit(*LIVE) == (40, 0, 0, 0)


def test_a_batch_that_takes_too_long_is_stored_in_parts(database: Database, database_url: str) -> None:
    database.execute(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END'"
    )
    database.execute("CREATE TRIGGER linger BEFORE INSERT ON uplink FOR EACH ROW EXECUTE FUNCTION linger()")
    writing = Writing(database_url, Limits(statement=1.2, lock=0.2))
    assert writing.commit(*LIVE) == (40, 0, 0, 0), "two seconds"
    writing.close()
    writing = Writing(database_url, Limits(statement=0.02, lock=0.2))
    assert writing.commit(up("alone")) == (1, 0, 0, 0)
    writing.close()
    assert _rejects(database) == []
