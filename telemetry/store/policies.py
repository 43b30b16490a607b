"""What TimescaleDB Community does by itself: fill rollups, move readings to the columnstore, drop the old.

On other editions there are no policies, and nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from ..settings import LEAST_READINGS, StoreSettings
from .edition import Edition, detect
from .pool import Limits, limit
from .rollups import DAY, HOUR, Rollup, refresh

_LOCK = 0x71706F6C  # "qpol": one that applies policies at a time
REFRESH, COMPRESS, RETAIN = "policy_refresh_continuous_aggregate", "policy_compression", "policy_retention"


class Layout(NamedTuple):
    """How a table lies in the columnstore, as `hypertable_columnstore_settings` tells it."""

    segmentby: str
    orderby: str


# Queries name device and metric, and the readings of one series by time are what compresses best.
_SERIES = Layout("device_id,metric_id,channel", '"time" DESC')
LAYOUTS: Mapping[str, Layout] = {"reading": _SERIES, HOUR.aggregate: _SERIES, DAY.aggregate: _SERIES}
# Days that rollups stay out longer than readings: a refresh writes all series of its bucket anew.
_LATER = {"reading": 0, HOUR.aggregate: 30, DAY.aggregate: 360}

_EVERY = {HOUR: timedelta(minutes=5), DAY: timedelta(minutes=10)}
# The newest buckets are computed when asked for: most of what is late is so by less.
_FRESH = {HOUR: "01:00:00", DAY: "1 day"}
_BATCH = {HOUR: 24, DAY: 30}  # buckets a transaction, when years are to be filled
_GROWS_BY = 7  # days


class _Job(NamedTuple):
    """A policy: the keys of its configuration that we decide on, lengths of time in PostgreSQL's words."""

    relation: str
    procedure: str
    every: timedelta
    config: Mapping[str, str | int | None]

    def made(self) -> str:
        return f"{self.relation}: {self.procedure} {self._words(self.every, self.config)}"

    def changed(self, every: timedelta, config: Mapping[str, Any]) -> str:
        """`every` and `config` are what it was before."""
        was = self._words(every, config)
        return f"{self.relation}: {self.procedure} {was} → {self._words(self.every, self.config)}"

    def _words(self, every: timedelta, config: Mapping[str, Any]) -> str:
        return ", ".join((f"every {every}", *(f"{name} {config.get(name)}" for name in self.config)))


def apply_settings(connection: psycopg.Connection[Any], settings: StoreSettings) -> list[str]:
    """`apply_policies` as the settings say; their 0 is never, or for ever.

    Raises:
        psycopg.errors.LockNotAvailable: a backup or a long read holds a table; nothing was changed.
    """
    with connection.transaction():
        # Whoever writes waits behind us while we wait.
        limit(connection, Limits(lock=settings.database_migrate_lock_timeout))
        return apply_policies(
            connection,
            columnstore_after=settings.columnstore_after or None,
            retain_readings=settings.retain_readings or None,
            retain_rollups=settings.retain_rollups or None,
        )


def refresh_kept(connection: psycopg.Connection[Any]) -> None:
    """Fill the rollups now, as far back as their policies do; the connection in autocommit mode."""
    if detect(connection) is not Edition.COMMUNITY:
        return
    row = connection.execute(
        "SELECT max(now() - (config ->> 'start_offset')::interval) FROM timescaledb_information.jobs"
        " WHERE hypertable_name = ANY(%s) AND proc_name = %s",
        ([HOUR.aggregate, DAY.aggregate], REFRESH),
    ).fetchone()
    refresh(connection, row[0] if row else None, None)


def apply_policies(
    connection: psycopg.Connection[Any],
    *,
    columnstore_after: int | None,
    retain_readings: int | None,
    retain_rollups: int | None,
) -> list[str]:
    """Make the policies what these settings (days) say; returns what changed, in words.

    None is never for `columnstore_after`, for ever for the others. Where nothing changes it is some look-ups.
    Before `migrate` has made the rollups for this edition it does nothing.
    """
    if detect(connection) is not Edition.COMMUNITY:
        return []
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        if _one(cursor, "SELECT to_regclass(%s)", (DAY.aggregate,)) == (None,):
            return []
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute("SET LOCAL intervalstyle = 'postgres'")  # jobs keep lengths of time as text
        # Before anything is dropped: a refresh must not look where it is.
        jobs = [
            _refreshing(cursor, HOUR, "reading", retain_readings),
            _refreshing(cursor, DAY, HOUR.aggregate, retain_rollups),
        ]
        changed: list[str] = []
        if columnstore_after is not None:
            changed += [*set_layouts(cursor), *_let_readers_be(cursor)]
            jobs += [
                _Job(name, COMPRESS, timedelta(hours=1), {"compress_after": _days(columnstore_after + later)})
                for name, later in _LATER.items()
            ]
        kept = {"reading": retain_readings, HOUR.aggregate: retain_rollups, DAY.aggregate: retain_rollups}
        jobs += [
            _Job(name, RETAIN, timedelta(days=1), {"drop_after": _days(days)})
            for name, days in kept.items()
            if days is not None
        ]
        return [*changed, *_set_jobs(cursor, jobs)]


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


_STORED_AS = """
    SELECT materialization_hypertable_schema, materialization_hypertable_name
    FROM timescaledb_information.continuous_aggregates WHERE view_name = %s
"""
_OLDEST_CHUNK = """
    SELECT min(range_start), (extract(epoch FROM now() - min(range_start)) / 86400)::int
    FROM timescaledb_information.chunks
    WHERE (hypertable_schema, hypertable_name) IN (
        SELECT current_schema(), %(name)s
        UNION ALL SELECT materialization_hypertable_schema, materialization_hypertable_name
        FROM timescaledb_information.continuous_aggregates WHERE view_name = %(name)s)
"""


def _refreshing(cursor: psycopg.Cursor[Any], rollup: Rollup, source: str, days: int | None) -> _Job:
    """Late data refresh what they touch, however old; but no further back than the source reaches.

    There a refresh would find nothing, and delete what the rollup alone still tells of what was dropped.
    """
    # Not of the view, which would compute what is not filled yet.
    stored_as = sql.Identifier(*_one(cursor, _STORED_AS, (rollup.aggregate,)))
    held = _one(cursor, sql.SQL("SELECT min(time) FROM {}").format(stored_as))[0]
    oldest, reach = _one(cursor, _OLDEST_CHUNK, {"name": source})
    # The first bucket may begin before the first chunk: a day at 17:00 UTC, a chunk at midnight.
    if held is not None and (oldest is None or held <= oldest - timedelta(seconds=rollup.seconds)):
        reach = max(LEAST_READINGS, (reach or 0) - 1)
        before = _one(
            cursor,
            "SELECT extract(day FROM (config ->> 'start_offset')::interval)::int"
            " FROM timescaledb_information.jobs WHERE hypertable_name = %s AND proc_name = %s",
            (rollup.aggregate, REFRESH),
        )
        if before and before[0] is not None and 0 <= reach - before[0] < _GROWS_BY:
            reach = before[0]  # it grows with time, which is not worth a change every day
        days = reach if days is None else min(days, reach)
    config = {
        "start_offset": None if days is None else _days(max(days, LEAST_READINGS)),
        "end_offset": _FRESH[rollup],
        "buckets_per_batch": _BATCH[rollup],
        # Views take what lies before the newest bucket that is filled as filled: so the oldest first.
        "refresh_newest_first": False,
    }
    return _Job(rollup.aggregate, REFRESH, _EVERY[rollup], config)


def _one(cursor: psycopg.Cursor[Any], query: LiteralString | sql.Composed, values: Any = None) -> Any:
    return cursor.execute(query, values).fetchone()


def set_layouts(cursor: psycopg.Cursor[Any]) -> Iterator[str]:
    """Let the tables have a columnstore; of rows as tuples. Yields what changed."""
    cursor.execute(
        "SELECT coalesce(a.view_name, s.hypertable::text)::text, s.segmentby, s.orderby"
        " FROM timescaledb_information.hypertable_columnstore_settings s"
        " LEFT JOIN timescaledb_information.continuous_aggregates a ON s.hypertable ="
        " format('%I.%I', a.materialization_hypertable_schema, a.materialization_hypertable_name)::regclass"
    )
    known = {name: Layout(segment, order) for name, segment, order in cursor.fetchall()}
    for name, layout in LAYOUTS.items():
        if known.get(name) != layout:
            kind = sql.SQL("TABLE" if name == "reading" else "MATERIALIZED VIEW")
            cursor.execute(
                sql.SQL(
                    "ALTER {} {} SET (timescaledb.enable_columnstore, timescaledb.segmentby = {},"
                    " timescaledb.orderby = {})"
                ).format(kind, sql.Identifier(name), layout.segmentby, layout.orderby)
            )
            yield f"{name}: columnstore by {layout.segmentby}, in the order of {layout.orderby}"


_EMPTYING = "timescaledb.compress_truncate_behaviour"
_HAS_EMPTYING = """
    SELECT EXISTS (
        SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        JOIN pg_roles r ON r.oid = s.setrole
        WHERE d.datname = current_database() AND r.rolname = current_user AND %s = ANY (s.setconfig)),
        current_setting(%s, true) IS NULL, current_database()
"""


def _let_readers_be(cursor: psycopg.Cursor[Any]) -> Iterator[str]:
    """Have compression delete the rows of a chunk that somebody reads for long, as a backup does.

    To truncate it waits for the reader, and whoever writes to the chunk waits for both. It is set for our
    role, whose jobs they are.
    """
    has, is_unknown, database = _one(cursor, _HAS_EMPTYING, (f"{_EMPTYING}=truncate_or_delete", _EMPTYING))
    if has or is_unknown:
        return
    cursor.execute(
        sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET {} = 'truncate_or_delete'").format(
            sql.Identifier(database), sql.Identifier(*_EMPTYING.split("."))
        )
    )
    yield f"columnstore: {_EMPTYING} truncate_or_delete"


_JOBS = """
    SELECT job_id, hypertable_name::text, proc_name::text, schedule_interval, config
    FROM timescaledb_information.jobs WHERE hypertable_name = ANY(%s) AND proc_name = ANY(%s)
"""
_ADD: Mapping[str, LiteralString] = {
    REFRESH: "SELECT add_continuous_aggregate_policy(%(relation)s::regclass, %(start_offset)s::interval,"
    " %(end_offset)s::interval, %(every)s, buckets_per_batch => %(buckets_per_batch)s,"
    " refresh_newest_first => %(refresh_newest_first)s)",
    COMPRESS: "CALL add_columnstore_policy(%(relation)s::regclass, after => %(compress_after)s::interval,"
    " schedule_interval => %(every)s)",
    RETAIN: "SELECT add_retention_policy(%(relation)s::regclass, drop_after => %(drop_after)s::interval,"
    " schedule_interval => %(every)s)",
}


def _set_jobs(cursor: psycopg.Cursor[Any], wanted: Sequence[_Job]) -> Iterator[str]:
    """In their order; those that nobody wants any more go."""
    cursor.execute(_JOBS, (list(LAYOUTS), list(_ADD)))
    held = {(relation, procedure): (id_, every, config) for id_, relation, procedure, every, config in cursor}
    for job in wanted:
        id_, every, config = held.pop((job.relation, job.procedure), (None, None, {}))
        if id_ is None:
            values = {"relation": job.relation, "every": job.every, **job.config}
            cursor.execute(_ADD[job.procedure], values)
            yield job.made()
        elif every != job.every or any(config.get(name) != value for name, value in job.config.items()):
            cursor.execute(
                "SELECT FROM alter_job(%s, schedule_interval => %s, config => %s)",
                (id_, job.every, Jsonb({**config, **job.config})),
            )
            yield job.changed(every, config)
    for (relation, procedure), (id_, _, _) in held.items():
        cursor.execute("SELECT delete_job(%s)", (id_,))
        yield f"{relation}: no {procedure} any more"
