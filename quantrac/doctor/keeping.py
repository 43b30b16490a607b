"""What is kept of the store and how far its upkeep got; the pooler and the replica, where there are such."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg

from quantrac.context import Context
from telemetry.errors import QuantracError
from telemetry.settings import StoreSettings
from telemetry.store.edition import HYPERTABLES, Edition, detect
from telemetry.store.pool import Limits, connect, is_pooled
from telemetry.store.refusal import cure
from telemetry.store.retention import SETTING, Kept, read_kept

from .finding import Finding

_LATE = timedelta(days=2)
_LOOKING = Limits(statement=30)
_RUNS = "See that `quantrac ingest` runs, and what its log says of the work `upkeep`."


def check_keeping(context: Context) -> Iterator[Finding]:
    """Nothing when there is no database or schema to ask: that is told by `check_database`."""
    try:
        store = context.store()
        with connect(
            store.database_url, application="quantrac doctor", autocommit=True, limits=_LOOKING
        ) as connection:
            edition = detect(connection)
            found = [*_pooler(connection), *_retention(connection, edition, store)]
            if store.database_replica_url:
                found.append(_replica(connection, store))
    except (QuantracError, psycopg.Error):
        return
    yield from found


def _pooler(connection: psycopg.Connection[tuple[object, ...]]) -> Iterator[Finding]:
    if not is_pooled(connection):
        return
    row = connection.execute(
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    ).fetchone()
    limits = dict(zip(("statement_timeout", "lock_timeout"), row or (), strict=False))
    missing = [name for name, value in limits.items() if value == "0"]
    if missing:
        text = f"a pooler stands between, and the database's role has no {' and no '.join(missing)}"
        yield Finding(
            "warning",
            "database pooler",
            text,
            "ALTER ROLE … SET statement_timeout = '10min', lock_timeout = '20s': docs/how-to/database.md.",
        )
    else:
        told = ", ".join(f"{name} {value}" for name, value in limits.items())
        yield Finding("ok", "database pooler", f"stands between; {told}")


def _retention(
    connection: psycopg.Connection[tuple[object, ...]], edition: Edition, store: StoreSettings
) -> Iterator[Finding]:
    now = datetime.now(UTC)
    try:
        kept = read_kept(connection, edition, store)
    except psycopg.errors.QueryCanceled:
        yield Finding("warning", "retention", "the database was too busy to tell what is kept", "Ask again.")
        return
    late = [finding for one in kept if (finding := _late(one, edition, now))]
    yield from late
    if not late:
        told = [f"{one.relation} {one.days} days (oldest {_date(one.oldest)})" for one in kept]
        yield Finding("ok", "retention", ", ".join(told) or "everything is kept for ever")
    if store.retain_rollups != store.retain_readings and edition is not Edition.COMMUNITY:
        text = f"hours and days go with their readings, after {store.retain_readings} days: {edition.value}"
        yield Finding("ok", "retention", f"{text} makes them of these")


def _late(kept: Kept, edition: Edition, now: datetime) -> Finding | None:
    """Whether the upkeep of a relation stands still, or does not keep up."""
    setting = SETTING[kept.relation]
    overdue = now - timedelta(days=kept.days) - kept.slack - _LATE
    behind = kept.oldest is not None and kept.oldest < overdue
    if edition is Edition.COMMUNITY and kept.relation in HYPERTABLES:
        if not behind:
            return None
        text = f"{kept.relation} reaches back to {_date(kept.oldest)}, {setting} is {kept.days} days"
        why = "See timescaledb_information.job_stats of its policy_retention, and that ingest runs."
        return Finding("warning", "retention", text, why)
    if kept.oldest is None or kept.oldest > now - timedelta(days=kept.days):
        return None  # nothing is due
    if kept.ran_at is None or now - kept.ran_at > _LATE:
        last = "never" if kept.ran_at is None else f"last on {_date(kept.ran_at)}"
        text = f"{kept.relation} has rows older than {setting} = {kept.days} days; its upkeep ended {last}"
        return Finding("warning", "retention", text, _RUNS)
    if behind:
        text = f"{kept.relation} reaches back to {_date(kept.oldest)}, {setting} is {kept.days} days"
        return Finding("warning", "retention", text, _RUNS)
    return None


def _date(time: datetime | None) -> str:
    return "none" if time is None else time.astimezone(UTC).date().isoformat()


def _replica(connection: psycopg.Connection[tuple[object, ...]], store: StoreSettings) -> Finding:
    subject = "database replica"
    try:
        with connect(
            store.database_replica_url, application="quantrac doctor", autocommit=True, limits=_LOOKING
        ) as replica:
            row = replica.execute(
                "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0'::pg_lsn,"
                " extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8"
            ).fetchone()
    except psycopg.Error as error:
        text = f"{' '.join(str(error).split())}; the API reads from the primary"
        why = cure(error) or "Start it, or unset QUANTRAC_DATABASE_REPLICA_URL."
        return Finding("warning", subject, text, why)
    assert row is not None
    in_recovery, position, seconds = row
    if not in_recovery:
        return Finding(
            "warning",
            subject,
            "QUANTRAC_DATABASE_REPLICA_URL names a server that is no replica",
            "Name a streaming replica of the database, or unset it.",
        )
    here = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    assert here is not None
    if position is not None and position >= here[0]:
        return Finding("ok", subject, "has everything")
    if seconds is not None and seconds <= store.database_replica_lag:
        return Finding("ok", subject, f"{seconds:.1f} s behind")
    behind = "behind since it started" if seconds is None else f"{seconds:.0f} s behind"
    return Finding(
        "warning", subject, f"{behind}; the API reads from the primary", "See its log: does it still receive?"
    )
