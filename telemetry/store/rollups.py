"""Rollups `reading_1h` and `reading_1d`: one meaning, in the form each edition has for it.

Readers see views of these names, with the same columns everywhere (docs/reference/store.md); beside each is a
function `…_between`, which computes the buckets of a span from the readings of that span. Below them lie
counts and sums of the usable readings, so that days can be made of hours: on TimescaleDB Community continuous
aggregates, elsewhere a query over `reading`. Why so: docs/decisions/0009-store-editions.md.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import md5
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from .edition import Edition, detect


class Rollup(NamedTuple):
    """A rollup as readers know it, and the continuous aggregate that holds it on TimescaleDB Community."""

    name: str
    aggregate: str
    seconds: int
    chunk: str


HOUR = Rollup("reading_1h", "reading_by_hour", 3_600, "30 days")
DAY = Rollup("reading_1d", "reading_by_day", 86_400, "360 days")

# A day begins at midnight of Asia/Ho_Chi_Minh: 17:00 UTC, as Vietnam has no summer time.
_ORIGIN = "timestamptz '2000-01-01 17:00+00'"
_USABLE = "FILTER (WHERE quality NOT IN (4, 9))"
# Pairs of time and value compare as such: the greatest is the newest value, and of several with that time the
# greatest value. Since the origin, as the difference of two times does not depend on the session's zone.
_LAST = f"(max(ARRAY[date_part('epoch', {{time}} - {_ORIGIN}), {{value}}]) {{usable}})[2]"
_OF_READINGS = f"""
    SELECT {{bucket}} AS time, device_id, metric_id, channel,
           count(*) AS count,
           count(*) FILTER (WHERE quality = 1) AS good,
           count(*) {_USABLE} AS usable,
           sum(value) {_USABLE} AS total,
           min(value) {_USABLE} AS min,
           max(value) {_USABLE} AS max,
           max(time) {_USABLE} AS last_at,
           {_LAST.format(time="time", value="value", usable=_USABLE)} AS last
    FROM reading {{where}} GROUP BY 1, 2, 3, 4
"""  # noqa: S608
_OF_HOURS = f"""
    SELECT {{bucket}} AS time, device_id, metric_id, channel,
           sum(count)::bigint AS count,
           sum(good)::bigint AS good,
           sum(usable)::bigint AS usable,
           sum(total) AS total,
           min(min) AS min,
           max(max) AS max,
           max(last_at) AS last_at,
           {_LAST.format(time="last_at", value="last", usable="FILTER (WHERE usable > 0)")} AS last
    FROM {HOUR.aggregate} GROUP BY 1, 2, 3, 4
"""  # noqa: S608
_ROWS = """
    SELECT r.time, r.device_id, r.metric_id, r.channel, r.count, r.good,
           r.total / nullif(r.usable, 0) AS mean, r.min, r.max, r.last,
           CASE WHEN m.kind = 'increment' THEN r.total END AS sum,
           -- least() would take no interval for full coverage
           CASE WHEN t.expected_interval > 0
                THEN least(1, r.count * t.expected_interval / {seconds}::float8) END AS coverage
    FROM ({source}) r
    LEFT JOIN metric m ON m.id = r.metric_id
    LEFT JOIN device d ON d.id = r.device_id
    LEFT JOIN device_type t ON t.id = d.device_type
"""
_VIEW = "CREATE OR REPLACE VIEW {name} AS {rows}"
# PostgreSQL puts its text in place of the call, and plans that. From a bound of a bucket it would conclude
# nothing for `reading.time`, so both are bound.
_BETWEEN = """
    CREATE OR REPLACE FUNCTION {name}_between(
        devices integer[], metrics smallint[], since timestamptz, until timestamptz
    ) RETURNS SETOF {name} LANGUAGE sql STABLE AS $$
        {rows} WHERE r.time >= since AND r.time < until
    $$
"""
_OF_SERIES = "WHERE device_id = ANY(devices) AND metric_id = ANY(metrics)"
_OF_SPAN = f"{_OF_SERIES} AND time >= since AND time < until + interval '{{seconds}} s'"
_AGGREGATE = """
    CREATE MATERIALIZED VIEW {aggregate} WITH (
        timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false, timescaledb.chunk_interval = '{chunk}'
    ) AS {source} WITH NO DATA
"""


def make_rollups(connection: psycopg.Connection[Any], edition: Edition) -> list[str]:
    """Make the rollups as this edition has them, in place of another's; returns those that changed.

    On Community what is not materialised yet is computed when asked for: they are right from the start. To be
    called within a transaction.
    """
    if edition is Edition.COMMUNITY:
        _make_aggregates(connection)
    return [rollup.name for rollup in (HOUR, DAY) if _make_view(connection, edition, rollup)]


def refresh(connection: psycopg.Connection[Any], start: datetime | None, end: datetime | None) -> None:
    """Materialise what changed within these bounds, None being none; nothing to do but on Community.

    Its policies do so by themselves, some minutes later: this is for those who cannot wait, as after loading
    much at once. Where old readings were dropped, `start` must not lie before what is kept: the rollups of
    the others would go as well. The connection must be in autocommit mode.
    """
    if detect(connection) is not Edition.COMMUNITY:
        return
    for rollup in (HOUR, DAY):
        connection.execute(
            "CALL refresh_continuous_aggregate(%s::regclass, %s::timestamptz, %s::timestamptz)",
            (rollup.aggregate, start, end),
        )


def stored_as(connection: psycopg.Connection[Any], rollup: Rollup) -> sql.Identifier:
    """The hypertable that holds its rows; on Community, where `make_rollups` was called."""
    row = connection.execute(
        "SELECT materialization_hypertable_schema, materialization_hypertable_name"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = %s",
        (rollup.aggregate,),
    ).fetchone()
    assert row is not None, f"{rollup.aggregate} is not there; `quantrac migrate` makes it"
    return sql.Identifier(*row)


def _make_aggregates(connection: psycopg.Connection[Any]) -> None:
    for rollup, source in ((HOUR, _OF_READINGS), (DAY, _OF_HOURS)):
        known = connection.execute("SELECT to_regclass(%s)", (rollup.aggregate,)).fetchone()
        if known and known[0]:
            continue
        connection.execute(
            _sql(
                _AGGREGATE,
                aggregate=rollup.aggregate,
                chunk=rollup.chunk,
                source=source.format(bucket=_bucket(Edition.COMMUNITY, rollup), where=""),
            )
        )
        connection.execute(
            _sql("CREATE INDEX ON {aggregate} (device_id, metric_id, time DESC)", aggregate=rollup.aggregate)
        )


def _make_view(connection: psycopg.Connection[Any], edition: Edition, rollup: Rollup) -> bool:
    """With its function; whether they were not so already: a comment tells by a hash what made them."""
    where = _OF_SERIES if edition is Edition.COMMUNITY else _OF_SPAN.format(seconds=rollup.seconds)
    texts = [
        _VIEW.format(name=rollup.name, rows=_rows(edition, rollup, "")),
        _BETWEEN.format(name=rollup.name, rows=_rows(edition, rollup, where)),
    ]
    mark = f"rollup {md5(''.join(texts).encode(), usedforsecurity=False).hexdigest()}"
    row = connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", (rollup.name,)).fetchone()
    if row is not None and row[0] == mark:
        return False
    for text in texts:
        connection.execute(_sql(text))
    connection.execute(_sql("COMMENT ON VIEW {name} IS '{mark}'", name=rollup.name, mark=mark))
    return True


def _rows(edition: Edition, rollup: Rollup, where: str) -> str:
    if edition is Edition.COMMUNITY:
        source = f"SELECT * FROM {rollup.aggregate} {where}"  # noqa: S608
    else:
        source = _OF_READINGS.format(bucket=_bucket(edition, rollup), where=where)
    return _ROWS.format(seconds=rollup.seconds, source=source)


def _bucket(edition: Edition, rollup: Rollup) -> str:
    # TimescaleDB reads bounds of its own function as bounds of time, and leaves chunks out.
    function = "date_bin" if edition is Edition.PLAIN else "time_bucket"
    return f"{function}(interval '{rollup.seconds} s', time, {_ORIGIN})"


def _sql(text: str, **names: str) -> sql.SQL:
    """Only texts of this module."""
    return sql.SQL(text.format(**names) if names else text)
