"""Datalogs in a real store: their records are readings at their own times, told once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.pipeline import parse
from ingest.redecode import Redecoder
from ingest.transaction import BatchWriter
from telemetry.model import RawMessage
from telemetry.store.pool import connect
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import keep_latest, writer

Database = psycopg.Connection[dict[str, Any]]
RECORDS = {"list": "log", "time": "t", "clock": "iso"}
MAP = (
    {"field": "level", "metric": "water.level"},
    {"field": "level", "metric": "water.level", "records": RECORDS},
    {"field": "temp", "metric": "water.temperature", "channel": 1, "records": RECORDS},
)
_READINGS = """
    SELECT r.time, m.key AS metric, r.channel, r.value, u.dedup_key FROM reading r
    JOIN metric m ON m.id = r.metric_id JOIN uplink u ON u.id = r.uplink_id ORDER BY 1, 2, 3, 4, 5
"""


def logs(*records: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"t": at(minutes).isoformat(), "level": level, "temp": level + 10} for minutes, level in records]


def told(database: Database) -> list[tuple[float, str, float]]:
    """(minute, metric, value) of every reading."""
    rows = database.execute(_READINGS).fetchall()
    return [((row["time"] - at(0)).total_seconds() / 60, row["metric"], row["value"]) for row in rows]


def test_records_become_readings_at_their_times(database: Database, database_url: str) -> None:
    register(database, *MAP)
    with writer(database_url, CODECS) as commit:
        written = commit(frame("1", 60, {"level": 5.0, "log": logs((0, 1.0), (10, 2.0))})).written
    assert written.readings == 5
    assert told(database) == [
        (0, "water.level", 1.0), (0, "water.temperature", 11.0),
        (10, "water.level", 2.0), (10, "water.temperature", 12.0),
        (60, "water.level", 5.0),
    ]  # fmt: skip
    assert database.execute("SELECT problem FROM uplink").fetchone() == {"problem": None}


def test_a_record_without_its_time_is_a_problem_of_its_own(database: Database, database_url: str) -> None:
    register(database, *MAP)
    broken = [{"level": 7.0}, *logs((10, 2.0)), *logs((70, 3.0))]
    with writer(database_url, CODECS) as commit:
        commit(frame("1", 60, {"level": 5.0, "log": broken}))
    assert [row for row in told(database) if row[1] == "water.level"] == [
        (10, "water.level", 2.0), (60, "water.level", 5.0)
    ]  # fmt: skip
    row = database.execute("SELECT problem FROM uplink").fetchone()
    assert row is not None
    assert "log.0.t: a record without its time" in row["problem"]
    assert "later than the uplink" in row["problem"]


@pytest.mark.parametrize("direct_first", [True, False])
def test_what_was_sent_directly_wins(database: Database, database_url: str, direct_first: bool) -> None:
    """Also where device and network tell the time differently, within its second."""
    register(database, *MAP)
    direct, log = frame("d", 10.015, {"level": 1.0}), frame("l", 60, {"log": logs((10.002, 9.0))})
    with writer(database_url, CODECS) as commit:
        for message in (direct, log) if direct_first else (log, direct):
            commit(message)
            asyncio.run(keep_latest(database_url))
    assert told(database) == [(10, "water.level", 1.0), (10, "water.temperature", 19.0)]
    row = database.execute("SELECT readings, newest FROM latest").fetchone()
    assert row is not None
    assert sorted(entry[1] for entry in row["readings"].values()) == [1.0, 19.0]


def test_frames_decoded_again_settle_too(database: Database, database_url: str) -> None:
    with writer(database_url, CODECS) as commit:
        commit(frame("d", 10, {"level": 1.0}), frame("l", 60, {"log": logs((10, 9.0), (20, 8.0))}))
    database.execute("DELETE FROM device")
    device = register(database, *MAP)
    database.execute("UPDATE uplink SET device_id = %s", (device,))
    database.execute("INSERT INTO decode_job (device_id, requested_by) VALUES (%s, 'test')", (device,))
    Redecoder(lambda: connect(database_url, application="test"), writer="again", codecs=CODECS).run_waiting()
    assert [value for _, metric, value in told(database) if metric == "water.level"] == [1.0, 8.0]


def test_two_writers_at_the_same_moment(database: Database, database_url: str) -> None:
    """The one that tells directly and the one that tells later cannot both miss the other."""
    register(database, *MAP)
    writers = [
        BatchWriter(
            lambda: connect(database_url, application="test"), writer=name, codecs=CODECS, keep_messages=False
        )
        for name in ("one", "two")
    ]

    def write(number: int, messages: list[RawMessage]) -> None:
        writers[number].commit([(m, parse(m, 262_144)) for m in messages])

    with ThreadPoolExecutor(2) as threads:
        for n in range(40):
            frames = [frame(f"d{n}", n, {"level": 1.0})], [frame(f"l{n}", n + 0.5, {"log": logs((n, 9.0))})]
            list(threads.map(write, (0, 1), frames))
    for one in writers:
        one.close()
    assert [value for _, metric, value in told(database) if metric == "water.level"] == [1.0] * 40


_MESSAGES = [
    frame("a", 0, {"level": 1.0}),
    frame("b", 10, {"level": 2.0, "log": logs((0, 1.5), (5, 1.7))}),
    frame("c", 20, {"level": 3.0, "log": logs((0, 0.5), (5, 1.9), (10, 2.5), (20, 3.5))}),
    frame("d", 20, {"level": 4.0, "log": logs((5, 1.1), (15, 2.9))}),
    frame("e", 30, {"log": logs((5, 1.2), (15, 2.8), (25, 4.4), (25, 4.5))}),
    frame("f", 15, {"level": 2.2}),
    frame("g", 30, {"log": logs((25, 4.6), (30, 5.0))}),
]


def test_order_splits_and_repeats_do_not_matter(database: Database, database_url: str) -> None:
    register(database, *MAP)
    writers = [
        BatchWriter(
            lambda: connect(database_url, application="test"), writer=name, codecs=CODECS, keep_messages=False
        )
        for name in ("one", "two")
    ]

    def play(batches: list[tuple[int, list[RawMessage]]]) -> list[Any]:
        database.execute("TRUNCATE uplink, reading, latest")
        for number, (one, batch) in enumerate(batches):
            writers[one].commit([(m, parse(m, 262_144)) for m in batch])
            if number % 2:
                asyncio.run(keep_latest(database_url))
        asyncio.run(keep_latest(database_url))
        latest = database.execute("SELECT newest, seen_at, readings FROM latest").fetchall()
        return [*database.execute(_READINGS).fetchall(), latest]

    @st.composite
    def plans(draw: st.DrawFn) -> list[tuple[int, list[RawMessage]]]:
        left = list(
            draw(st.permutations([*_MESSAGES, *draw(st.lists(st.sampled_from(_MESSAGES), max_size=6))]))
        )
        plan = []
        while left:
            size = draw(st.integers(1, 5))
            plan.append((draw(st.integers(0, 1)), left[:size]))
            del left[:size]
        return plan

    expected = play([(0, _MESSAGES)])
    assert len(expected) == 17

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plans())
    def check(plan: list[tuple[int, list[RawMessage]]]) -> None:
        assert play(plan) == expected

    try:
        check()
    finally:
        for one in writers:
            one.close()


def test_devices_without_datalogs_are_asked_nothing(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    with writer(database_url, CODECS) as commit:
        commit(frame("1", 0, {"level": 1.0, "log": logs((0, 2.0))}))
    assert told(database) == [(0, "water.level", 1.0)]
