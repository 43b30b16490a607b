"""What the database's edition does without, what that costs, and whether TimescaleDB does its jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from telemetry.store.edition import Edition
from telemetry.store.policies import LAYOUTS, REFRESH
from telemetry.store.rollups import DAY, HOUR

from .finding import Finding

HAS = {
    Edition.PLAIN: "each request computes rollups from the readings of its span, nothing is compressed (some "
    "120 bytes a reading), and old rows are deleted one by one: fine for some hundred sensors",
    Edition.APACHE: "each request computes rollups from the readings of its span, and nothing is compressed "
    "(some 120 bytes a reading): fine for a thousand sensors",
    Edition.COMMUNITY: "everything",
}
_LOADED = """
    SELECT name, installed_version, current_setting('shared_preload_libraries', true) AS loaded
    FROM pg_available_extensions WHERE name = 'timescaledb'
"""
_JOBS = """
    SELECT j.job_id, j.hypertable_name AS relation, j.proc_name AS procedure, s.last_run_status AS status,
           nullif(s.last_run_started_at, '-infinity') AS at, j.scheduled,
           (SELECT e.err_message FROM timescaledb_information.job_errors e
            WHERE e.job_id = j.job_id ORDER BY e.finish_time DESC LIMIT 1) AS error
    FROM timescaledb_information.jobs j
    LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
    WHERE j.hypertable_name = ANY(%s) ORDER BY j.job_id
"""


def check_edition(connection: psycopg.Connection[Any], edition: Edition) -> Iterator[Finding]:
    """Of a database that has our schema."""
    cursor = connection.cursor(row_factory=dict_row)
    if edition is Edition.PLAIN:
        yield from _offered(cursor)
    elif edition is Edition.COMMUNITY:
        yield from judge(cursor.execute(_JOBS, (list(LAYOUTS),)).fetchall())


def _offered(cursor: psycopg.Cursor[dict[str, Any]]) -> Iterator[Finding]:
    row = cursor.execute(_LOADED).fetchone()
    if row is None:
        return
    if row["loaded"] is not None and "timescaledb" not in row["loaded"]:
        cure = "Add timescaledb to shared_preload_libraries, restart the server, run `quantrac migrate`."
    else:
        cure = (
            "Let a superuser run CREATE EXTENSION timescaledb in this database, then run `quantrac migrate`."
        )
    yield Finding("warning", "edition", "the server offers TimescaleDB, this database does not use it", cure)


def judge(jobs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """What these jobs of TimescaleDB, rows of `_JOBS`, tell."""
    refreshed = {job["relation"] for job in jobs if job["procedure"] == REFRESH and job["scheduled"]}
    if missing := sorted({HOUR.aggregate, DAY.aggregate} - refreshed):
        text = f"none fills {' and '.join(missing)}: rollups are computed from readings at each request"
        yield Finding("warning", "policies", text, "Run `quantrac migrate`.")
    failed = [job for job in jobs if job["status"] == "Failed"]
    for job in failed:
        why = f": {job['error']}" if job["error"] else ""
        text = f"{job['procedure']} of {job['relation']} failed at {job['at']:%Y-%m-%d %H:%M}{why}"
        cure = f"Mend what it says, then try with: CALL run_job({job['job_id']});"
        yield Finding("fault", "policies", text, cure)
    if not missing and not failed:
        run = sum(job["status"] == "Success" for job in jobs)
        yield Finding("ok", "policies", f"{len(jobs)} of TimescaleDB, {run} ran, all with success")
