"""Rejects tried again, and their end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ingest import expiry, retry
from ingest.expiry import RejectExpiry
from ingest.layout import Item
from ingest.pipeline import parse
from ingest.repeat import repeat
from ingest.retry import Retrier
from ingest.transaction import BatchWriter, Committed
from telemetry.clock import ManualClock
from telemetry.model import RawMessage
from telemetry.store.migrate import migrate
from telemetry.store.pool import connect
from tests.ingest.store import EUI, NOW, registry, up, writer
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
LATER = NOW + timedelta(days=2)
JOIN = RawMessage(
    f"application/1/device/{EUI}/event/join",
    json.dumps({"deduplicationId": "j", "deviceInfo": {"devEui": EUI}}).encode(),
    NOW,
)


def reject_all(url: str, *messages: RawMessage) -> None:
    """Each becomes a reject: none may be longer than ten bytes."""
    made = BatchWriter(
        lambda: connect(url, application="test"), writer="test", codecs=registry(), keep_messages=True
    )
    made.commit([(message, parse(message, 10)) for message in messages])
    made.close()


def retrier(url: str, *, max_message: int = 262_144) -> Retrier:
    return Retrier(
        lambda: connect(url, application="test"),
        writer="test/retry",
        codecs=registry(),
        keep_messages=True,
        max_message=max_message,
        clock=ManualClock(LATER),
    )


def ask(database: Database, state: str = "waiting") -> None:
    database.execute("UPDATE reject SET state = %s", (state,))


def rejects(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    rows = database.execute(f"SELECT {', '.join(columns)} FROM reject ORDER BY id").fetchall()
    return [tuple(row.values()) for row in rows]


def count(database: Database, table: str) -> int:
    return database.execute(f"SELECT FROM {table}").rowcount


def test_what_can_be_read_now_is_stored_as_if_it_came_then(database: Database, database_url: str) -> None:
    ahead = up("2", time=NOW + timedelta(hours=7))  # a clock so wrong that the arrival decides
    reject_all(database_url, up("1"), ahead, JOIN)
    assert rejects(database, "reason") == [("too_large",)] * 3
    assert retrier(database_url).run_waiting() == 0, "nobody asked yet"
    ask(database)
    assert retrier(database_url).run_waiting() == 3
    assert rejects(database, "state", "tries", "tried_at") == [("retried", 1, LATER)] * 3
    stored = database.execute("SELECT time, ingest_time, topic FROM uplink ORDER BY id").fetchall()
    assert [(row["time"], row["ingest_time"]) for row in stored] == [(NOW, NOW), (NOW, NOW)]
    assert count(database, "event") == 1
    assert database.execute("SELECT uplinks FROM lane WHERE writer = 'test/retry'").fetchone() == {
        "uplinks": 2
    }


def test_what_is_rejected_again_is_open_with_its_new_reason(database: Database, database_url: str) -> None:
    reject_all(database_url, RawMessage("elsewhere", b"{ no json at all", NOW), up("1"), up("2", data="A"))
    ask(database)
    assert retrier(database_url).run_waiting() == 3
    assert rejects(database, "state", "reason", "tries") == [
        ("open", "not_json", 1), ("retried", "too_large", 1), ("open", "bad_base64", 1),
    ]  # fmt: skip
    ask(database)
    retrier(database_url, max_message=10).run_waiting()
    assert rejects(database, "state", "reason", "tries") == [
        ("open", "too_large", 2), ("open", "too_large", 2), ("open", "too_large", 2),
    ]  # fmt: skip
    assert count(database, "uplink") == 1


def test_what_the_database_cannot_take_is_open_again(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("ALTER TABLE uplink ADD CONSTRAINT unlucky CHECK (f_cnt <> 13)")
    reject_all(database_url, *(up(str(n), fCnt=n) for n in (12, 13, 14)))
    ask(database)
    assert retrier(database_url).run_waiting() == 3
    assert rejects(database, "state", "reason", "dev_eui") == [
        ("retried", "too_large", EUI), ("open", "not_storable", EUI), ("retried", "too_large", EUI),
    ]  # fmt: skip
    assert count(database, "uplink") == 2
    assert count(database, "reject") == 3


def test_one_that_is_stored_already_counts_as_retried(database: Database, database_url: str) -> None:
    with writer(database_url) as commit:
        commit(up("1"), JOIN)
    reject_all(database_url, up("1"), JOIN)
    ask(database)
    retrier(database_url).run_waiting()
    assert rejects(database, "state") == [("retried",)] * 2
    assert (count(database, "uplink"), count(database, "event")) == (1, 1)


def test_a_crash_between_commit_and_mark_stores_nothing_twice(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = up("2", time="2199-01-01T00:00:00Z")
    reject_all(database_url, up("1"), strange, JOIN)
    ask(database)

    def dies(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Retrier, "_decode", dies)
        with pytest.raises(SystemExit):
            retrier(database_url).run_waiting()
    assert rejects(database, "state", "tries") == [("waiting", 0)] * 3
    assert (count(database, "uplink"), count(database, "event")) == (2, 1)
    retrier(database_url).run_waiting()
    assert rejects(database, "state", "tries") == [("retried", 1)] * 3
    assert (count(database, "uplink"), count(database, "event")) == (2, 1)


def test_batches_are_bounded_by_number_and_bytes(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reject_all(database_url, *(up(str(n), note="x" * 1000 * n) for n in range(7)))
    ask(database)
    monkeypatch.setattr(retry, "MOST", 4)
    monkeypatch.setattr(retry, "MOST_BYTES", 5000)
    sizes: list[int] = []
    commit = BatchWriter.commit

    def counting(self: BatchWriter, items: Sequence[Item]) -> Committed:
        sizes.append(len(items))
        return commit(self, items)

    monkeypatch.setattr(BatchWriter, "commit", counting)
    assert retrier(database_url).run_waiting() == 7
    assert sizes == [3, 1, 1, 1, 1]
    assert rejects(database, "state") == [("retried",)] * 7


def test_two_processes_do_not_wait_for_each_other(database: Database, database_url: str) -> None:
    reject_all(database_url, up("1"), up("2"))
    ask(database)
    with connect(database_url, application="another") as other:
        other.execute("SELECT FROM reject ORDER BY id LIMIT 1 FOR UPDATE")
        assert retrier(database_url).run_waiting() == 1
        assert rejects(database, "state") == [("waiting",), ("retried",)]
    assert retrier(database_url).run_waiting() == 1
    assert rejects(database, "state") == [("retried",)] * 2


def test_one_that_is_told_to_stop_leaves_the_rest(database: Database, database_url: str) -> None:
    reject_all(database_url, up("1"))
    ask(database)
    stopped = retrier(database_url)
    stopped.stop()
    assert stopped.run_waiting() == 0
    assert rejects(database, "state") == [("waiting",)]


AGES: list[tuple[str, float, float | None, bool]] = [
    ("open", 89, None, True),
    ("open", 91, None, False),
    ("waiting", 91, None, True),
    ("retried", 40, 6, True),
    ("retried", 40, 8, False),
    ("dismissed", 6, None, True),
    ("dismissed", 8, None, False),
]


def _aged(database: Database, url: str) -> None:
    reject_all(url, *(up(str(n)) for n in range(len(AGES))))
    ids = [id_ for (id_,) in rejects(database, "id")]
    for id_, (state, received, tried, _) in zip(ids, AGES, strict=True):
        tried_at = None if tried is None else NOW - timedelta(days=tried)
        database.execute(
            "UPDATE reject SET state = %s, received_at = %s, tried_at = %s WHERE id = %s",
            (state, NOW - timedelta(days=received), tried_at, id_),
        )


def _expiry(url: str, days: int) -> RejectExpiry:
    return RejectExpiry(lambda: connect(url, application="test"), ManualClock(NOW), days)


@pytest.mark.parametrize("days", [90, 0])
def test_rejects_expire_by_policy(
    days: int, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 1)
    _aged(database, database_url)
    stay = [(state,) for state, _, _, stays in AGES if stays or (days == 0 and state == "open")]
    assert _expiry(database_url, days).run_once() == len(AGES) - len(stay)
    assert rejects(database, "state") == stay


def test_one_process_lets_them_expire_at_a_time(database: Database, database_url: str) -> None:
    _aged(database, database_url)
    with connect(database_url, application="another") as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (expiry.LOCK,))
        assert _expiry(database_url, 90).run_once() == 0
    assert _expiry(database_url, 90).run_once() == 3


async def test_work_that_fails_comes_back(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.repeat.RETRY_SECONDS", 0.05)
    done: list[int] = []
    faults: list[Callable[[], object]] = [lambda: 1 / 0]

    def work() -> None:
        if faults:
            faults.pop()()
        done.append(_expiry(empty_database_url, 90).run_once())

    stop = asyncio.Event()
    task = asyncio.create_task(repeat("expiry", work, 0.05, stop))
    await until(lambda: not faults)
    await asyncio.to_thread(migrate, empty_database_url)
    await until(lambda: done)
    stop.set()
    await task
