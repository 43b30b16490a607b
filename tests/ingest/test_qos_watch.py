"""Publishers at QoS 0 are counted and told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from ingest.qos_watch import MOST_ROOTS, OTHERS, QosWatch

from .store import NOW

Database = psycopg.Connection[dict[str, Any]]


def test_it_warns_at_first_and_then_hourly_and_names_the_setting() -> None:
    watch = QosWatch()
    with capture_logs() as logs:
        for minute in range(0, 130, 10):
            watch.seen("application/told/device/1/event/up", NOW + timedelta(minutes=minute))
        watch.seen("v3/app@tenant/devices/d/up", NOW)
    told = [(log["root"], log["messages"]) for log in logs]
    assert told == [("application/told", 1), ("application/told", 7), ("application/told", 13),
                    ("v3/app@tenant", 1)]  # fmt: skip
    assert "[integration.mqtt]" in logs[0]["cure"]
    assert "[application_server.integration.mqtt]" in logs[0]["cure"]
    assert "Storage Integration" in logs[-1]["cure"]
    assert REGISTRY.get_sample_value("quantrac_ingest_qos0_total", {"root": "application/told"}) == 13


def test_endless_topics_take_bounded_room() -> None:
    watch = QosWatch()
    with capture_logs() as logs:
        for n in range(5 * MOST_ROOTS):
            watch.seen(f"many-{n}/x/y", NOW)
    assert len(logs) == MOST_ROOTS + 1
    assert REGISTRY.get_sample_value("quantrac_ingest_qos0_total", {"root": OTHERS}) == 4 * MOST_ROOTS


@pytest.mark.parametrize("topic", ["", "lone", "a/\udcff\x00/x", "x" * 5000])
def test_any_topic_can_be_shown_and_stored(topic: str, database: Database) -> None:
    watch = QosWatch()
    watch.seen(topic, NOW)
    watch.flush(database.cursor())  # type: ignore[arg-type]
    row = database.execute("SELECT root FROM qos_watch").fetchone()
    assert row is not None
    row["root"].encode()


def test_what_a_transaction_took_back_is_written_by_the_next(database: Database) -> None:
    watch = QosWatch()
    watch.seen("a/b/c", NOW)
    with database.transaction(force_rollback=True):
        watch.flush(database.cursor())  # type: ignore[arg-type]
    watch.seen("a/b/d", NOW + timedelta(minutes=1))
    for expected in (2, 2, 3):
        if expected == 3:
            watch.seen("a/b", NOW + timedelta(minutes=2))
        watch.flush(database.cursor())  # type: ignore[arg-type]
        watch.flushed()
        row = database.execute("SELECT * FROM qos_watch").fetchone()
        assert row is not None
        assert (row["messages"], row["first_at"]) == (expected, NOW)
    assert row["last_at"] == NOW + timedelta(minutes=2)
