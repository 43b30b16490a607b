"""Retention: on each edition what is due goes, in the end, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from ingest.upkeep import Upkeep
from telemetry.clock import ManualClock
from telemetry.settings import StoreSettings
from telemetry.store import retention
from telemetry.store.edition import HYPERTABLES, Edition, detect
from telemetry.store.pool import connect
from tests.sessions import OURS
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
# The policies of TimescaleDB Community go by the server's clock.
NOW = datetime.now(UTC)
KEPT = {
    "message_block": 10,
    "reading": 20,
    "uplink": 30,
    "event": 30,
    "superseded": 30,
    "logged_span": 30,
    "untimed": 60,
    "link": 40,
    "health_alert": 50,
    "audit": 60,
}
# A chunk of frames, one of readings, and the day between two runs of a policy.
SLACK = timedelta(days=31)
_ROWS = {
    "message_block": "INSERT INTO message_block VALUES (%(n)s * 1000 + 1, %(at)s, '')",
    "reading": "INSERT INTO reading VALUES (%(at)s, %(n)s, %(n)s, mod(%(n)s, 7), mod(%(n)s, 3), 0, 1)",
    "uplink": "INSERT INTO uplink (time, ingest_time, id, dedup_key, device_id, network, payload)"
    " VALUES (%(at)s, %(at)s, %(n)s, %(key)s, 1, 'n', '')",
    "event": "INSERT INTO event (time, ingest_time, dedup_key, kind, network, topic, message)"
    " VALUES (%(at)s, %(at)s, %(key)s, 'join', 'n', 't', '')",
    "superseded": "INSERT INTO superseded (time, uplink_id, job_id, readings)"
    " VALUES (%(at)s, %(n)s, 1, '[]')",
    "logged_span": "INSERT INTO logged_span VALUES (%(n)s, 1, %(at)s, %(at)s)",
    "untimed": "INSERT INTO untimed VALUES (%(key)s, %(at)s)",
    "link": "INSERT INTO link VALUES (%(at)s, 1, 1, 0, 0, 0, 0)",
    "health_alert": "INSERT INTO health_alert (kind, subject, detail, began_at, ended_at)"
    " VALUES ('k', 's', 'd', %(at)s, %(at)s)",
    "audit": "INSERT INTO audit (at, actor, action, object) VALUES (%(at)s, 'a', 'b', 'c')",
}
_TIME = {"health_alert": "ended_at", "audit": "at"}


def settings(url: str, **more: int) -> StoreSettings:
    days = {"messages": 10, "readings": 20, "frames": 30, "link": 40, "alerts": 50, "audit": 60, **more}
    return StoreSettings(
        database_url=url,
        **{f"retain_{name}": value for name, value in days.items()},  # type: ignore[arg-type]
    )


def upkeep(store: StoreSettings, **more: float) -> Upkeep:
    return Upkeep(
        lambda: connect(store.database_url, application="upkeep"),
        ManualClock(NOW),
        store,
        **{"share": 1, **more},
    )


def run(database: Database, store: StoreSettings) -> int:
    """One pass, and of Community's policies one as well."""
    removed = upkeep(store).run_once()
    if detect(database) is Edition.COMMUNITY:
        jobs = database.execute(
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"
        ).fetchall()
        for job in jobs:
            database.execute("CALL run_job(%s)", (job["job_id"],))
    return removed


def add(database: Database, relation: str, *times: datetime) -> None:
    for n, at in enumerate(sorted(times), 1):
        database.execute(_ROWS[relation], {"n": n, "at": at, "key": uuid4()})


def times(database: Database, relation: str) -> list[datetime]:
    column = _TIME.get(relation, "time")
    return [
        row["at"]
        for row in database.execute(f"SELECT {column} AS at FROM {relation} ORDER BY 1").fetchall()  # type: ignore[arg-type]
    ]


def test_what_is_due_goes_and_nothing_else(database: Database, database_url: str) -> None:
    edition = detect(database)
    for relation, days in KEPT.items():
        edge = NOW - timedelta(days=days)
        add(database, relation, edge - SLACK, edge - timedelta(seconds=1), edge, NOW)
    assert run(database, settings(database_url)) > 0
    if edition is Edition.COMMUNITY:
        run(database, settings(database_url))  # what waits for chunks of frames to go
    for relation, days in KEPT.items():
        edge = NOW - timedelta(days=days)
        left = times(database, relation)
        assert left[-2:] == [edge, NOW], relation
        chunked = edition is not Edition.PLAIN and relation in {*HYPERTABLES, *retention.FOLLOWS}
        assert left[:-2] in ([], [edge - timedelta(seconds=1)] if chunked else []), relation
    with connect(database_url, application="test") as connection:
        kept = retention.read_kept(connection, edition, settings(database_url))
    for row in kept:
        assert row.oldest is not None
        assert row.oldest >= NOW - timedelta(days=row.days) - row.slack - SLACK
        if edition is not Edition.COMMUNITY or row.relation not in HYPERTABLES:
            assert row.ran_at == NOW


def test_for_ever_and_changed_later(database: Database, database_url: str) -> None:
    old = NOW - timedelta(days=400)
    for relation in KEPT:
        add(database, relation, old, NOW)
    for_ever = settings(database_url, messages=0, readings=0, frames=0, link=0, alerts=0, audit=0)
    run(database, for_ever)
    for relation in KEPT:
        assert len(times(database, relation)) == 2, relation
    for _ in range(2):  # by policies frames go later than what follows them is looked at
        run(database, settings(database_url))
    for relation in KEPT:
        assert times(database, relation) == [NOW], relation
    noted = {row["relation"] for row in database.execute("SELECT relation FROM upkeep")}
    assert noted >= set(KEPT) - set(HYPERTABLES)
    assert detect(database) is not Edition.COMMUNITY or not noted & set(HYPERTABLES), "policies do it"
    run(database, for_ever)
    assert database.execute("SELECT FROM upkeep").rowcount == 0
    if detect(database) is Edition.COMMUNITY:
        kept = database.execute(
            "SELECT hypertable_name FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"
        ).fetchall()
        assert {row["hypertable_name"] for row in kept} & {
            "uplink",
            "event",
            "link",
            "message_block",
        } == set()


def _alert(
    database: Database, at: datetime, *, state: str = "resolved", series: int = 1, pending: bool = False
) -> str:
    id_ = str(uuid4())
    ended = None if state == "firing" else at
    database.execute(
        "INSERT INTO alert (id, rule_id, device_id, metric_id, channel, state, level, peak_level, label,"
        " value, opened_at, ended_at, updated_at, seq)"
        " VALUES (%s, 'r', %s, 1, 0, %s, 0, 1, '', 1, %s, %s, %s, 2)",
        (id_, series, state, at - timedelta(hours=1), ended, at),
    )
    for seq, kind in ((1, "opened"), (2, "resolved")):
        database.execute(
            "INSERT INTO transition (alert_id, seq, at, known_at, kind, machine)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (id_, seq, at, at, kind, Jsonb({"step": 0})),
        )
    message(database, f"m{id_}", at, id_, pending=pending)
    return id_


def message(
    database: Database, id_: str, at: datetime, alert: str | None = None, *, pending: bool = False
) -> None:
    database.execute(
        "INSERT INTO message (id, type, alert_id, alert_seq, body, created_at)"
        " VALUES (%s, 'alert.opened', %s, 1, '{}', %s)",
        (id_, alert, at),
    )
    database.execute(
        "WITH d AS (INSERT INTO delivery (message_id, endpoint_id, alert_id, alert_seq, state, next_at,"
        " created_at) SELECT %s, min(id), %s, 1, %s, %s, %s FROM endpoint RETURNING id)"
        " INSERT INTO attempt (delivery_id, at, duration_ms) SELECT id, %s, 1 FROM d",
        (id_, alert, "pending" if pending else "delivered", at, at, at),
    )


def test_alerts(database: Database, database_url: str) -> None:
    old, new = NOW - timedelta(days=51), NOW - timedelta(days=49)
    database.execute("INSERT INTO rule (id, definition) VALUES ('r', '{}')")
    database.execute("INSERT INTO endpoint (name, url, secret) VALUES ('e', 'https://e', '')")
    gone = [_alert(database, old - timedelta(days=n), series=1) for n in (1, 2)]
    kept = [
        _alert(database, old, series=1),  # the newest of its series: what comes next is judged from it
        _alert(database, old, series=2, pending=True),
        _alert(database, old - timedelta(days=900), series=3, state="firing"),
        _alert(database, old - timedelta(days=901), series=4, pending=True),
        _alert(database, old, series=4),
        _alert(database, new - timedelta(minutes=1), series=5),
        _alert(database, new, series=5),
    ]
    message(database, "health-old", old)
    message(database, "health-waits", old, pending=True)
    message(database, "health-new", new)
    run(database, settings(database_url))
    left = {str(row["id"]) for row in database.execute("SELECT id FROM alert")}
    assert left == set(kept)
    assert not left & set(gone)
    transitions = {str(row["id"]) for row in database.execute("SELECT alert_id AS id FROM transition")}
    assert transitions == set(kept)
    messages = {row["id"] for row in database.execute("SELECT id FROM message")}
    assert messages == {"health-waits", "health-new", *(f"m{id_}" for id_ in kept)}
    counts = database.execute(
        "SELECT (SELECT count(*) FROM delivery) AS d, (SELECT count(*) FROM attempt) AS a"
    )
    assert counts.fetchone() == {"d": len(messages), "a": len(messages)}
    database.execute("DELETE FROM rule")
    run(database, settings(database_url))
    left = {str(row["id"]) for row in database.execute("SELECT id FROM alert WHERE device_id = 1")}
    assert left == set()  # nothing is judged by that rule any more


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of three rows, of three series."""
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "_SERIES", 3)


@pytest.mark.usefixtures("small")
def test_what_is_over_is_forgotten_after_a_while(database: Database, database_url: str) -> None:
    edge = NOW - retention.JOBS_KEPT
    database.execute("INSERT INTO device (dev_eui) VALUES ('0000000000000001')")
    orders = [
        database.execute(
            "INSERT INTO redecoding (since, requested_at, requested_by) VALUES (%s, %s, 'a') RETURNING id",
            (edge, edge - SLACK),
        ).fetchone()["id"]  # type: ignore[index]
        for _ in range(3)
    ]
    long_ago, just = edge - timedelta(seconds=1), edge + timedelta(seconds=1)
    jobs = [(orders[0], "done", long_ago), (orders[1], "cancelled", long_ago), (orders[1], "done", just),
            (None, "done", long_ago), (None, "failed", long_ago), (None, "waiting", None)]  # fmt: skip
    for order, state, at in jobs:
        database.execute(
            "INSERT INTO decode_job (redecoding_id, device_id, requested_by, state, finished_at)"
            " VALUES (%s, 1, 'a', %s, %s)",
            (order, state, at),
        )
    database.execute(
        "INSERT INTO superseded (time, uplink_id, job_id, readings)"
        " SELECT %s, 1, min(id) FILTER (WHERE redecoding_id IS NULL), '[]' FROM decode_job",
        (NOW,),
    )
    for state, at in (("done", long_ago), ("done", just), ("waiting", None)):
        database.execute(
            "INSERT INTO calibration_job (device_id, metric_id, channel, valid_from, state, finished_at)"
            " VALUES (1, 1, 0, %(old)s, %(state)s, %(at)s)",
            {"old": edge - SLACK, "state": state, "at": at},
        )
        database.execute(
            "INSERT INTO quality_job (device_id, valid_from, why, state, finished_at)"
            " VALUES (1, %(old)s, '', %(state)s, %(at)s)",
            {"old": edge - SLACK, "state": state, "at": at},
        )
    database.execute("INSERT INTO account (login, password_hash, role) VALUES ('a', '', 'viewer')")
    for n, end in enumerate((NOW - timedelta(seconds=1), NOW + timedelta(seconds=1))):
        database.execute("INSERT INTO session SELECT %s, id, %s, %s FROM account", (b"%d" % n, edge, end))
    assert run(database, settings(database_url)) >= 3 + 2 + 1 + 1 + 1
    left = database.execute("SELECT redecoding_id, state FROM decode_job ORDER BY id").fetchall()
    assert [(row["redecoding_id"], row["state"]) for row in left] == [
        (orders[1], "done"), (None, "done"), (None, "waiting")
    ]  # fmt: skip
    for relation in ("redecoding", "calibration_job", "quality_job", "session"):
        (count,) = database.execute(f"SELECT count(*) FROM {relation}").fetchone().values()  # type: ignore
        assert count == {"redecoding": 1, "session": 1}.get(relation, 2), relation


async def test_killed_in_between_it_goes_on(database: Database, database_url: str) -> None:
    database.execute(
        "INSERT INTO audit (at, actor, action, object) SELECT %s, 'a', 'b', 'c' FROM generate_series(1, 40)",
        (NOW - timedelta(days=100),),
    )
    add(database, "reading", *(NOW - timedelta(days=100 + n) for n in range(40)), NOW)
    add(database, "uplink", *(NOW - timedelta(days=100 + n) for n in range(40)), NOW)
    store = settings(database_url)
    slow = upkeep(store, share=0.02)
    ended: list[Exception | int] = []

    def left() -> list[datetime]:
        return [at for relation in ("audit", "reading", "uplink") for at in times(database, relation)]

    def work() -> None:
        try:
            ended.append(slow.run_once())
        except psycopg.Error as error:
            ended.append(error)
            slow.stop()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        await until(lambda: len(left()) < 122)
        assert upkeep(store).run_once() == 0  # one at a time
    finally:
        database.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"
            " AND application_name = 'upkeep'"
        )
        slow.stop()
        await asyncio.to_thread(thread.join, 20)
    assert ended
    assert 3 < len(left()) < 122
    for _ in range(2):
        run(database, store)
    assert times(database, "reading") == [NOW]
    assert times(database, "uplink") == [NOW]
    assert times(database, "audit") == []
