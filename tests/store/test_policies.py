"""TimescaleDB Community does by itself what other editions need us for; other editions are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from quantrac.doctor.edition import check_edition, judge
from telemetry.clock import micros
from telemetry.settings import StoreSettings
from telemetry.store.edition import Edition, detect
from telemetry.store.lanes import READING_DTYPE
from telemetry.store.policies import COMPRESS, REFRESH, RETAIN, apply_policies, apply_settings, refresh_kept
from telemetry.store.pool import connect
from telemetry.store.rollups import DAY, HOUR
from telemetry.store.writer import copy_readings

_HOURS = timedelta(hours=1)


class Policed:
    """A Community database whose jobs run only when a test says so."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.now = datetime.now(UTC)

    def apply(
        self, columnstore: int | None, readings: int | None = None, rollups: int | None = None
    ) -> list[str]:
        # In one transaction, so that the scheduler never sees them run.
        with self.connection.transaction():
            changed = apply_policies(
                self.connection,
                columnstore_after=columnstore,
                retain_readings=readings,
                retain_rollups=rollups,
            )
            self.connection.execute(
                "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
                " WHERE proc_name LIKE 'policy_%%'"
            )
        return changed

    def run(self, procedure: str, relation: str) -> None:
        row = self.connection.execute(
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s AND hypertable_name = %s",
            (procedure, relation),
        ).fetchone()
        assert row is not None
        self.connection.execute("CALL run_job(%s)", (row[0],))

    def refresh(self) -> None:
        self.run(REFRESH, HOUR.aggregate)
        self.run(REFRESH, DAY.aggregate)

    def store(self, *told: tuple[timedelta, float]) -> None:
        """Readings of one series, by their age."""
        rows = [(micros(self.now - age), value, 1, 1, 1, 0, 1) for age, value in told]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            copy_readings(cursor, np.array(rows, READING_DTYPE))

    def batch(self) -> None:
        """As much of the hours as the first transaction of their policy fills."""
        job = self.ask(
            """SELECT alter_job(job_id, config_merge => '{"max_batches_per_execution": 1}')
            FROM timescaledb_information.jobs WHERE proc_name = %s AND hypertable_name = %s""",
            REFRESH,
            HOUR.aggregate,
        )
        assert job
        self.run(REFRESH, HOUR.aggregate)

    def ask(self, query: str, *values: Any) -> Any:
        row = self.connection.execute(query, values).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]

    def materialised(self) -> Any:
        """Readings in the hours that are stored, however they would be computed."""
        name = self.ask(
            "SELECT format('%%I.%%I', materialization_hypertable_schema, materialization_hypertable_name)"
            " FROM timescaledb_information.continuous_aggregates WHERE view_name = %s",
            HOUR.aggregate,
        )
        return self.ask(f"SELECT coalesce(sum(count), 0) FROM {name}")


@pytest.fixture
def policed(database_url: str) -> Iterator[Policed]:
    with connect(database_url, application="tests", autocommit=True) as connection:
        if detect(connection) is not Edition.COMMUNITY:
            pytest.skip("only TimescaleDB Community has policies")
        yield Policed(connection)


def test_elsewhere_there_are_none(database_url: str) -> None:
    with connect(database_url, application="tests", autocommit=True) as connection:
        if detect(connection) is Edition.COMMUNITY:
            pytest.skip("TimescaleDB Community has them")
        assert apply_policies(connection, columnstore_after=7, retain_readings=30, retain_rollups=60) == []


def test_settings_are_applied_once(policed: Policed, database_url: str) -> None:
    assert len(policed.apply(14)) == 3 + 1 + 2 + 3  # layouts, their locks, refreshes, columnstores
    with connect(database_url, application="tests", autocommit=True) as connection:
        row = connection.execute("SHOW timescaledb.compress_truncate_behaviour").fetchone()
    assert row == ("truncate_or_delete",)
    assert policed.apply(14) == []
    assert len(policed.apply(14, 365, 730)) == 2 + 3  # refreshes must not look where nothing is left
    assert policed.apply(14, 365, 730) == []
    changed = policed.apply(7, 365, 730)
    assert [line.split(",")[-1] for line in changed] == [f" compress_after {d} days" for d in (7, 37, 367)]
    assert len(policed.apply(None)) == 2 + 6
    assert policed.apply(None) == []


def test_late_readings_of_compressed_chunks_show_in_the_rollups(policed: Policed) -> None:
    policed.apply(7)
    old = timedelta(days=40)
    policed.store((old, 1.0), (2 * _HOURS, 2.0), (timedelta(0), 3.0))
    policed.refresh()
    assert policed.materialised() == 1 + 1
    policed.run(COMPRESS, "reading")
    compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
    assert policed.ask(compressed) == 1
    policed.store((old - timedelta(seconds=1), 5.0), (timedelta(0), 4.0))
    day = "SELECT max FROM reading_1d WHERE time <= %s AND time > %s::timestamptz - interval '1 day'"
    then = policed.now - old
    policed.refresh()
    assert policed.ask(day, then, then) == 5.0
    policed.run(COMPRESS, "reading")  # what came late joins the others
    assert policed.ask("SELECT count(*) FROM reading") == 5
    assert policed.ask("SELECT sum(count) FROM reading_1h") == 5


def test_rollups_are_right_while_they_are_filled(policed: Policed) -> None:
    policed.store(*((timedelta(days=days), 1.0) for days in range(1, 41)))
    policed.apply(7)
    assert policed.apply(7, 365) != [], (
        "nothing filled, so nothing can be lost: the reach is that of the setting"
    )
    for _ in range(10):  # the first lie before the data, where their chunk begins
        policed.batch()
        if policed.materialised():
            break
    assert 0 < policed.materialised() < 40
    assert policed.ask("SELECT sum(count) FROM reading_1h") == 40
    assert policed.ask("SELECT sum(count) FROM reading_1d") == 40
    policed.refresh()
    assert policed.ask("SELECT sum(count) FROM reading_1h") == 40


def test_an_older_jobs_order_is_mended(policed: Policed) -> None:
    policed.apply(7)
    policed.connection.execute(
        "SELECT alter_job(job_id, config => config - 'refresh_newest_first')"
        " FROM timescaledb_information.jobs WHERE proc_name = %s",
        (REFRESH,),
    )
    changed = policed.apply(7)
    assert [line.partition(" ")[0] for line in changed] == [f"{HOUR.aggregate}:", f"{DAY.aggregate}:"]
    assert all("refresh_newest_first None → every" in line for line in changed)
    assert policed.apply(7) == []


def test_settings_wait_for_a_table_no_longer_than_they_may(policed: Policed, database_url: str) -> None:
    store = StoreSettings(database_url=database_url, database_migrate_lock_timeout=0.1)
    with connect(database_url, application="a backup") as other:
        other.execute("LOCK TABLE reading IN ACCESS SHARE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            apply_settings(policed.connection, store)


def test_readings_are_dropped_and_rollups_stay(policed: Policed) -> None:
    policed.apply(7)
    ages = [timedelta(days=days) for days in (100, 50, 5)]
    policed.store(*((age, 1.0) for age in ages))
    policed.refresh()
    policed.apply(7, 30, 365)
    policed.run(RETAIN, "reading")
    assert policed.ask("SELECT count(*) FROM reading") == 1
    policed.refresh()
    assert policed.ask("SELECT sum(count) FROM reading_1h") == 3
    # Kept for ever again: what was dropped is gone, and its rollups still must not follow it.
    policed.apply(7, None, None)
    assert policed.apply(7, None, None) == []
    policed.store((timedelta(days=4), 2.0))
    refresh_kept(policed.connection)
    assert policed.ask("SELECT sum(count) FROM reading_1h") == 4
    policed.refresh()
    assert policed.ask("SELECT sum(count) FROM reading_1h") == 4
    assert policed.ask("SELECT sum(count) FROM reading_1d") == 4
    policed.apply(7, 30, 60)
    policed.run(RETAIN, HOUR.aggregate)
    assert policed.ask("SELECT count(*) FROM reading_1h") < 4


def test_the_doctor_misses_policies(policed: Policed) -> None:
    def findings() -> list[Any]:
        return list(check_edition(policed.connection, Edition.COMMUNITY))

    (missing,) = findings()
    assert missing.level == "warning"
    assert "quantrac migrate" in missing.cure
    policed.apply(7)
    assert findings() == [missing]  # none of them is scheduled
    policed.connection.execute(
        "SELECT alter_job(job_id, scheduled => true, next_start => now() + interval '1 day')"
        " FROM timescaledb_information.jobs WHERE proc_name = %s",
        (REFRESH,),
    )
    (well,) = findings()
    assert well.level == "ok"


def test_the_doctor_tells_of_policies_that_fail() -> None:
    filling = [
        {
            "job_id": n,
            "relation": rollup.aggregate,
            "procedure": REFRESH,
            "status": "Success",
            "scheduled": True,
        }
        for n, rollup in enumerate((HOUR, DAY), 1000)
    ]
    at = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    broken = {
        "job_id": 1002,
        "relation": "reading",
        "procedure": COMPRESS,
        "status": "Failed",
        "scheduled": True,
    }
    (fault,) = judge([*filling, {**broken, "at": at, "error": "disk full"}])
    assert fault.level == "fault"
    assert "of reading failed at 2026-03-01 12:30: disk full" in fault.text
    assert "run_job(1002)" in fault.cure
    assert [finding.level for finding in judge(filling)] == ["ok"]
