"""What is removed by its age, relation by relation, as each edition does it best.

Plain tables lose their rows a few at a time, found by an index. Hypertables lose whole chunks: on Community
by policies of the database itself, on Apache by us. A chunk goes when all of it is old enough, so what lies
in it may stay longer by its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from ..settings import StoreSettings
from .edition import HYPERTABLES, Edition

BATCH = 5000  # rows of one transaction
_BLOCKS = 200  # of messages, each a thousand
_ALERTS = 200
_SERIES = 500
_CHUNKS = 10
ROLLUPS = ("reading_1h", "reading_1d")


def days_kept(settings: StoreSettings) -> dict[str, int]:
    """Days by relation, 0 for ever, in the order in which they are pruned: readings before their frames.

    Times assigned to messages are remembered twice as long as frames: such a message, come again, is known to
    be too old as long as it has one.
    """
    frames = settings.retain_frames
    messages = min(filter(None, (settings.retain_messages, frames)), default=0)
    return {
        "message_block": messages,
        "reading": settings.retain_readings,
        "uplink": frames,
        "event": frames,
        "superseded": frames,
        "logged_span": frames,
        "untimed": 2 * frames,
        "link": settings.retain_link,
        "alert": settings.retain_alerts,
        "message": settings.retain_alerts,
        "health_alert": settings.retain_alerts,
        "audit": settings.retain_audit,
    }


SETTING = {
    "message_block": "QUANTRAC_RETAIN_MESSAGES",
    "reading": "QUANTRAC_RETAIN_READINGS",
    **dict.fromkeys(("uplink", "event", "superseded", "logged_span", "untimed"), "QUANTRAC_RETAIN_FRAMES"),
    **dict.fromkeys(ROLLUPS, "QUANTRAC_RETAIN_ROLLUPS"),
    "link": "QUANTRAC_RETAIN_LINK",
    **dict.fromkeys(("alert", "message", "health_alert"), "QUANTRAC_RETAIN_ALERTS"),
    "audit": "QUANTRAC_RETAIN_AUDIT",
}
"""The setting that rules each relation."""


# ---------------------------------------------------------------- rows
# ctid = ANY(ARRAY(…)) fetches them by their place, whatever the planner thinks of the table.
_BY_INDEX: LiteralString = """
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table} WHERE {column} < %(before)s ORDER BY {column} LIMIT %(most)s))
"""
# No index on their time, but their numbers rise with it, give or take a few at the edge.
_BY_NUMBER: LiteralString = """
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM (SELECT ctid, {column} AS at FROM {table} ORDER BY {number} LIMIT %(most)s) head
        WHERE at < %(before)s))
"""
_STATEMENTS: dict[str, tuple[LiteralString, int]] = {
    "message_block": (
        _BY_NUMBER.format(table="message_block", column="time", number="first_id"),
        _BLOCKS,
    ),
    "audit": (_BY_NUMBER.format(table="audit", column="at", number="id"), BATCH),
    "health_alert": (_BY_INDEX.format(table="health_alert", column="ended_at"), BATCH),
    **{
        table: (_BY_INDEX.format(table=table, column="time"), BATCH)
        for table in ("uplink", "event", "link", "superseded", "logged_span", "untimed")
    },
}
# Never one that fires, nor one with a message on its way. The newest of a series stays: the next one is
# judged from the state it left.
_OLD_ALERTS = """
    SELECT id FROM alert a
    WHERE updated_at < %(before)s AND state <> 'firing' AND coalesce(ended_at, updated_at) < %(before)s
      AND NOT EXISTS (SELECT FROM message m JOIN delivery d ON d.message_id = m.id
                      WHERE m.alert_id = a.id AND d.state = 'pending')
      AND (NOT EXISTS (SELECT FROM rule WHERE id = a.rule_id)
           OR EXISTS (SELECT FROM alert n
                      WHERE n.rule_id = a.rule_id AND n.device_id = a.device_id AND n.metric_id = a.metric_id
                        AND n.channel = a.channel AND (n.opened_at, n.id) > (a.opened_at, a.id)))
    ORDER BY updated_at LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
"""
# Of no alert, or of one that is gone.
_OLD_MESSAGES = """
    SELECT id FROM message m
    WHERE created_at < %(before)s AND NOT EXISTS (SELECT FROM alert WHERE id = m.alert_id)
      AND NOT EXISTS (SELECT FROM delivery WHERE message_id = m.id AND state = 'pending')
    ORDER BY created_at LIMIT %(most)s
"""
_SERIES_AFTER = """
    WITH RECURSIVE series AS (
        (SELECT device_id, metric_id, 1 AS n FROM reading
         WHERE (device_id, metric_id) > (%(device)s, %(metric)s) ORDER BY device_id, metric_id LIMIT 1)
        UNION ALL
        SELECT next.device_id, next.metric_id, n + 1 FROM series s
        CROSS JOIN LATERAL (
            SELECT device_id, metric_id FROM reading r
            WHERE (r.device_id, r.metric_id) > (s.device_id, s.metric_id)
            ORDER BY r.device_id, r.metric_id LIMIT 1) next
        WHERE n < %(most)s
    )
    SELECT device_id, metric_id FROM series ORDER BY n
"""
_OLD_READINGS = """
    DELETE FROM reading WHERE ctid = ANY(ARRAY(
        SELECT r.ctid FROM unnest(%(devices)s::int4[], %(metrics)s::int2[]) AS s (device_id, metric_id)
        CROSS JOIN LATERAL (
            SELECT ctid FROM reading
            WHERE device_id = s.device_id AND metric_id = s.metric_id AND time < %(before)s
            ORDER BY time LIMIT %(most)s) r
        LIMIT %(most)s))
"""


class Readings:
    """Goes through the series, some hundreds at once: the index knows the oldest of each, not of all."""

    def __init__(self) -> None:
        self._after = (-(2**31), -(2**15))
        self._at: list[tuple[int, int]] = []

    def batch(self, cursor: psycopg.Cursor[Any], before: datetime) -> int | None:
        """How many went; None: none is left."""
        if not self._at:
            device, metric = self._after
            cursor.execute(_SERIES_AFTER, {"device": device, "metric": metric, "most": _SERIES})
            self._at = cursor.fetchall()
            if not self._at:
                return None
        devices, metrics = zip(*self._at, strict=True)
        values = {"devices": list(devices), "metrics": list(metrics), "before": before, "most": BATCH}
        gone = cursor.execute(_OLD_READINGS, values).rowcount
        if gone < BATCH:
            self._after, self._at = self._at[-1], []
        return gone


def delete_batch(cursor: psycopg.Cursor[Any], relation: str, before: datetime) -> int | None:
    """Delete the oldest rows from before; how many, None where fewer are left than a batch would take."""
    if relation in ("alert", "message"):
        return _delete_told(cursor, relation, before)
    statement, most = _STATEMENTS[relation]
    gone = cursor.execute(statement, {"before": before, "most": most}).rowcount
    return gone or None


def _delete_told(cursor: psycopg.Cursor[Any], relation: str, before: datetime) -> int | None:
    find = _OLD_ALERTS if relation == "alert" else _OLD_MESSAGES
    ids = [row[0] for row in cursor.execute(find, {"before": before, "most": _ALERTS}).fetchall()]
    if not ids:
        return None
    if relation == "alert":
        forget_alerts(cursor, ids)
    else:
        _forget_messages(cursor, ids)
    return len(ids)


def forget_alerts(cursor: psycopg.Cursor[Any], ids: list[Any]) -> dict[str, int]:
    """Delete these alerts with their logs and all that was told of them; how many rows, by relation."""
    cursor.execute("SELECT id FROM message WHERE alert_id = ANY(%s)", (ids,))
    told = _forget_messages(cursor, [row[0] for row in cursor.fetchall()])
    transitions = cursor.execute("DELETE FROM transition WHERE alert_id = ANY(%s)", (ids,)).rowcount
    alerts = cursor.execute("DELETE FROM alert WHERE id = ANY(%s)", (ids,)).rowcount
    return {"alert": alerts, "transition": transitions, **told}


def _forget_messages(cursor: psycopg.Cursor[Any], ids: list[Any]) -> dict[str, int]:
    """With their deliveries, and those with their attempts."""
    deliveries = cursor.execute("DELETE FROM delivery WHERE message_id = ANY(%s)", (ids,)).rowcount
    return {
        "delivery": deliveries,
        "message": cursor.execute("DELETE FROM message WHERE id = ANY(%s)", (ids,)).rowcount,
    }


# ---------------------------------------------------------------- what is over
JOBS_KEPT = timedelta(days=90)
"""How long is remembered what a job came to."""
# A frame that was decoded again names the job: who asked for it is part of where a number comes from.
_OVER: dict[str, LiteralString] = {
    "decode_job": "finished_at < %(before)s AND NOT EXISTS (SELECT FROM superseded WHERE job_id = o.id)",
    "redecoding": "requested_at < %(before)s"
    " AND NOT EXISTS (SELECT FROM decode_job WHERE redecoding_id = o.id)",
    "calibration_job": "finished_at < %(before)s",
    "quality_job": "finished_at < %(before)s",
    "session": "expires_at < %(before)s",
}
OVER = tuple(_OVER)
"""Relations whose rows go some time after they are over, in this order."""


def forget_batch(cursor: psycopg.Cursor[Any], relation: str, now: datetime) -> int:
    """Delete some of what has been over for `JOBS_KEPT`, sessions at once; how many that was."""
    before = now if relation == "session" else now - JOBS_KEPT
    query = sql.SQL(
        "DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {0} o WHERE {1} LIMIT %(most)s))"
    ).format(sql.Identifier(relation), sql.SQL(_OVER[relation]))
    return cursor.execute(query, {"before": before, "most": BATCH}).rowcount


# ---------------------------------------------------------------- chunks
_CHUNKS_OF: LiteralString = """
    FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = %(relation)s
"""
_OLD_CHUNKS = f"""
    SELECT max(range_end) FROM (
        SELECT range_end {_CHUNKS_OF} AND range_end <= %(before)s ORDER BY range_end LIMIT %(most)s) oldest
"""  # noqa: S608
_FIRST_CHUNK = f"SELECT min(range_start) {_CHUNKS_OF}"
_INTERVAL = """
    SELECT time_interval FROM timescaledb_information.dimensions
    WHERE hypertable_schema = current_schema() AND hypertable_name = %(relation)s
"""


def drop_batch(cursor: psycopg.Cursor[Any], relation: str, before: datetime) -> int | None:
    """Drop the oldest chunks that lie wholly before; how many, None: none is left."""
    values = {"relation": relation, "before": before, "most": _CHUNKS}
    row = cursor.execute(_OLD_CHUNKS, values).fetchone()
    if row is None or row[0] is None:
        return None
    cursor.execute("SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz)", (relation, row[0]))
    return cursor.rowcount


FOLLOWS = {"uplink": "reading", "superseded": "uplink", "logged_span": "uplink"}
"""What outlives another relation, so a frame its readings: where that goes by the chunk, it may be late."""


def not_before(connection: psycopg.Connection[Any], hypertable: str, before: datetime) -> datetime:
    """`before`, or the begin of the hypertable's first chunk where that is earlier."""
    row = connection.execute(_FIRST_CHUNK, {"relation": hypertable}).fetchone()
    return min(before, row[0]) if row and row[0] else before


# ---------------------------------------------------------------- policies
_BY_POLICY = tuple(
    relation for relation in HYPERTABLES if relation != "reading"
)  # which `policies` looks after
_POLICY_RUNS = timedelta(days=1)  # how often each does, at a time of its own
_POLICIES = """
    SELECT hypertable_name, (config ->> 'drop_after')::interval AS drop_after
    FROM timescaledb_information.jobs
    WHERE proc_name = 'policy_retention' AND hypertable_schema = current_schema()
"""


def apply_retention(connection: psycopg.Connection[Any], settings: StoreSettings) -> list[str]:
    """Make Community's retention policies those of the settings, but for readings and rollups, which
    `policies` looks after; returns a sentence for each change."""
    days = days_kept(settings)
    wanted = {relation: timedelta(days=days[relation]) for relation in _BY_POLICY if days.get(relation)}
    with connection.transaction(), connection.cursor() as cursor:
        interval = cursor.execute(_INTERVAL, {"relation": "reading"}).fetchone()
        if "uplink" in wanted and interval is not None:
            wanted["uplink"] += interval[0] + _POLICY_RUNS  # as `FOLLOWS` asks
        return list(_adapt(cursor, dict(cursor.execute(_POLICIES).fetchall()), wanted))


def _adapt(
    cursor: psycopg.Cursor[Any], found: dict[str, timedelta], wanted: dict[str, timedelta]
) -> Iterator[str]:
    for relation in _BY_POLICY:
        have, want = found.get(relation), wanted.get(relation)
        if have == want:
            continue
        if have is not None:
            cursor.execute("SELECT remove_retention_policy(%s::regclass, if_exists => true)", (relation,))
        if want is not None:
            cursor.execute(
                "SELECT add_retention_policy(%s::regclass, drop_after => %s::interval)", (relation, want)
            )
        yield f"{relation} is kept {_length(have)} → {_length(want)}"


def _length(kept: timedelta | None) -> str:
    return "for ever" if kept is None else f"for {kept.days} days"


# ---------------------------------------------------------------- the state of it
class Kept(NamedTuple):
    """A relation of which not all is kept; `oldest` is the time of its first row, or of its first chunk's
    begin. `ran_at` None: its upkeep never ended."""

    relation: str
    days: int
    oldest: datetime | None
    slack: timedelta
    ran_at: datetime | None


_OLDEST: dict[str, LiteralString] = {
    "message_block": "SELECT min(time) FROM (SELECT time FROM message_block ORDER BY first_id LIMIT 9) h",
    "audit": "SELECT min(at) FROM (SELECT at FROM audit ORDER BY id LIMIT 9) head",
    "reading": """
        WITH RECURSIVE series AS (
            (SELECT device_id, metric_id FROM reading ORDER BY device_id, metric_id LIMIT 1)
            UNION ALL
            SELECT next.* FROM series s CROSS JOIN LATERAL (
                SELECT device_id, metric_id FROM reading r
                WHERE (r.device_id, r.metric_id) > (s.device_id, s.metric_id)
                ORDER BY r.device_id, r.metric_id LIMIT 1) next
        )
        SELECT min(oldest.time) FROM series s CROSS JOIN LATERAL (
            SELECT time FROM reading WHERE device_id = s.device_id AND metric_id = s.metric_id
            ORDER BY time LIMIT 1) oldest
    """,
    **{
        table: f"SELECT min(time) FROM {table}"  # noqa: S608
        for table in ("uplink", "event", "link", "superseded", "logged_span", "untimed")
    },
}


def read_kept(connection: psycopg.Connection[Any], edition: Edition, settings: StoreSettings) -> list[Kept]:
    """Of every relation with an end how far it reaches back, but for those whose rows wait for others."""
    cursor = connection.cursor()
    ran = dict(cursor.execute("SELECT relation, ran_at FROM upkeep").fetchall())
    found = []
    for relation, days in days_kept(settings).items():
        if not days or relation not in _OLDEST:
            continue
        slack = timedelta()
        if edition is not Edition.PLAIN and relation in HYPERTABLES:
            interval = cursor.execute(_INTERVAL, {"relation": relation}).fetchone()
            slack = interval[0] if interval else slack
            oldest = cursor.execute(_FIRST_CHUNK, {"relation": relation}).fetchone()
        else:
            oldest = cursor.execute(_OLDEST[relation]).fetchone()
        found.append(Kept(relation, days, oldest[0] if oldest else None, slack, ran.get(relation)))
    return found


_ENDED = """
    INSERT INTO upkeep (relation, before, ran_at, removed)
    VALUES (%(relation)s, %(before)s, %(now)s, %(removed)s)
    ON CONFLICT (relation) DO UPDATE
    SET before = excluded.before, ran_at = excluded.ran_at, removed = upkeep.removed + excluded.removed
"""


def note_pass(
    connection: psycopg.Connection[Any], relation: str, before: datetime, now: datetime, removed: int
) -> None:
    """A pass over a relation ended."""
    values = {"relation": relation, "before": before, "now": now, "removed": removed}
    connection.execute(_ENDED, values)


def forget_passes(connection: psycopg.Connection[Any], not_ours: list[str]) -> None:
    """Of relations that are kept for ever, or that the database looks after."""
    connection.execute("DELETE FROM upkeep WHERE relation = ANY(%s)", (not_ours,))
