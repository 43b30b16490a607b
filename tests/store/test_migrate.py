"""The schema: made once, by whoever comes first, on every edition of PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from telemetry.catalogue import CATALOGUE
from telemetry.errors import SchemaTooNew
from telemetry.store.edition import HYPERTABLES, Edition, detect
from telemetry.store.migrate import current_revision, migrate, newest_revision
from telemetry.store.rollups import make_rollups, refresh


def _timescale(connection: psycopg.Connection[Any]) -> bool:
    """Whether the test's server has it loaded."""
    try:
        row = connection.execute("SHOW shared_preload_libraries").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return False
    return row is not None and "timescaledb" in row[0]


def test_from_nothing_and_again(empty_database_url: str) -> None:
    first = migrate(empty_database_url)
    again = migrate(empty_database_url)
    assert (first.before, first.after) == (None, newest_revision())
    assert (again.before, again.hypertables) == (newest_revision(), [])
    with psycopg.connect(empty_database_url) as connection:
        assert current_revision(connection) == newest_revision()
        keys = {row[0] for row in connection.execute("SELECT key FROM metric").fetchall()}
    assert keys == set(CATALOGUE)


def test_four_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: migrate(empty_database_url), range(4)))
    assert sorted(run.before or "" for run in runs) == ["", *[newest_revision()] * 3]


def test_an_empty_database_has_no_revision(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        assert current_revision(connection) is None


def test_a_newer_schema_is_left_alone(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_version SET version_num = '4711'")
    with pytest.raises(SchemaTooNew, match="4711"):
        migrate(database_url)


def test_hypertables_exactly_where_timescaledb_is(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        edition = detect(connection)
        if not _timescale(connection):
            assert edition is Edition.PLAIN
            return
        assert edition in (Edition.APACHE, Edition.COMMUNITY)
        rows = connection.execute(
            "SELECT hypertable_name FROM timescaledb_information.hypertables"
        ).fetchall()
        assert {row[0] for row in rows} >= set(HYPERTABLES)


_READINGS = """
    INSERT INTO reading (time, value, uplink_id, device_id, metric_id, channel, quality)
    SELECT t, extract(hour FROM t), 1, 1, 1, 0, 1
    FROM generate_series(timestamptz '2026-01-01Z', '2026-03-01Z', interval '7 hours') t
"""


def _rollups(connection: psycopg.Connection[Any]) -> list[Any]:
    return [
        connection.execute(f"SELECT * FROM {name} ORDER BY time").fetchall()  # type: ignore[arg-type]
        for name in ("reading_1h", "reading_1d")
    ]


def test_a_plain_database_becomes_timescale_with_its_data(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        if not _timescale(connection):
            pytest.skip("the test's server has no TimescaleDB")
        migrate(empty_database_url)
        connection.execute("DROP EXTENSION timescaledb CASCADE")
    # In a session of its own: the extension's code stays loaded in the one that dropped it.
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        make_rollups(connection, Edition.PLAIN)
        connection.execute(_READINGS)
        before = _rollups(connection)
    done = migrate(empty_database_url)
    assert (set(done.hypertables), done.rollups) == (set(HYPERTABLES), ["reading_1h", "reading_1d"])
    assert migrate(empty_database_url)[3:] == ([], [])
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (203,)
        assert _rollups(connection) == before


def test_the_apache_edition_becomes_community_with_its_data(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        if detect(connection) is not Edition.COMMUNITY:
            pytest.skip("the test's server has no TimescaleDB Community")
        connection.execute("DROP VIEW reading_1h, reading_1d CASCADE")
        for aggregate in ("reading_by_day", "reading_by_hour"):
            connection.execute(f"DROP MATERIALIZED VIEW {aggregate}")  # type: ignore[arg-type]
        make_rollups(connection, Edition.APACHE)
        connection.execute(_READINGS)
        before = _rollups(connection)
        assert migrate(database_url).rollups == ["reading_1h", "reading_1d"]
        assert migrate(database_url).rollups == []
        assert _rollups(connection) == before
        refresh(connection, None, None)
        assert _rollups(connection) == before
