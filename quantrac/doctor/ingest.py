"""Ingest as the database knows it: members, gaps, publishers at QoS 0, rejects, and who lags behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from alerting.health import KINDS
from alerting.settings import AlertSettings
from ingest.qos_watch import cure as qos_cure
from quantrac.context import Context
from telemetry.errors import QuantracError
from telemetry.settings import load
from telemetry.store.pool import connect

from .finding import Finding

_RECENT = timedelta(hours=24)
_MOST_ROOTS = 5
_LATE = timedelta(seconds=60)
_WHY = {
    "service": "ingest was down",
    "broker": "the broker was unreachable",
    "session": "the broker forgot the session: what waited in it is lost",
}
_MEMBERS = "SELECT * FROM ingest_member WHERE left_at IS NULL ORDER BY client_id"
_GAPS = """
    SELECT why, count(*) AS n, sum(ended_at - began_at) AS long FROM ingest_gap
    WHERE ended_at >= %s GROUP BY why ORDER BY why
"""
_QOS = "SELECT root, messages, last_at FROM qos_watch WHERE last_at >= %s ORDER BY messages DESC"
_HEALTH = "SELECT * FROM health_alert WHERE ended_at IS NULL AND NOT kind = ANY(%s) ORDER BY began_at"
_REJECTS = """
    SELECT reason, count(*) AS n FROM reject WHERE state = 'open' GROUP BY reason ORDER BY n DESC, reason
"""
_BEHIND = """
    SELECT f.name, count(*) AS batches, min(b.committed_at) AS oldest
    FROM follower f CROSS JOIN lane l
    LEFT JOIN follower_cursor c ON c.follower = f.name AND c.lane = l.id
    JOIN lane_batch b ON b.lane = l.id AND b.seq > coalesce(c.seq, 0)
    GROUP BY f.name ORDER BY f.name
"""


def check_ingest(context: Context) -> Iterator[Finding]:
    """Nothing when there is no database or schema to ask: that is told by `check_database`."""
    now = datetime.now(UTC)
    silent = timedelta(seconds=load(AlertSettings).member_silent)
    try:
        url = context.store().database_url
        with connect(url, application="quantrac doctor", autocommit=True) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            found = [
                *_members(cursor.execute(_MEMBERS).fetchall(), silent, now),
                *_gaps(cursor.execute(_GAPS, (now - _RECENT,)).fetchall()),
                *_qos(cursor.execute(_QOS, (now - _RECENT,)).fetchall()),
                *_health(cursor.execute(_HEALTH, (list(KINDS),)).fetchall()),
                *_rejects(cursor.execute(_REJECTS).fetchall()),
                *_backlog(cursor.execute(_BEHIND).fetchall(), now),
            ]
    except (QuantracError, psycopg.Error):
        return
    yield from found


def _members(rows: list[dict[str, Any]], silent: timedelta, now: datetime) -> Iterator[Finding]:
    fine = []
    for row in rows:
        name, ago = row["client_id"], now - row["seen_at"]
        if ago > silent:
            waits = f"its part of the share {row['share']} waits" if row["share"] else "its messages wait"
            yield Finding(
                "fault",
                "ingest member",
                f"{name} is silent for {_long(ago)}; {waits} at the broker for this client id",
                "Start it again. If it is gone for good: "
                f"QUANTRAC_MQTT_CLIENT_ID={name} quantrac ingest --leave",
            )
        elif not row["connected"]:
            text = f"{name} runs, but is not subscribed at its broker {row['broker']}"
            yield Finding(
                "fault", "ingest member", text, "See the log of ingest for what the broker answers."
            )
        else:
            fine.append(f"{name} (MQTT {row['mqtt']}{', share ' + row['share'] if row['share'] else ''})")
    if fine:
        yield Finding("ok", "ingest members", ", ".join(fine))
    elif not rows:
        yield Finding("ok", "ingest members", "none runs yet")


def _gaps(rows: list[dict[str, Any]]) -> Iterator[Finding]:
    for row in rows:
        lost = row["why"] == "session"
        text = f"{row['n']} in 24 hours, {_long(row['long'])} in all: {_WHY[row['why']]}"
        cure = (
            "The broker must keep sessions over its restarts (Mosquitto: persistence, autosave_interval) "
            "and for longer than ingest is away (QUANTRAC_MQTT_SESSION_EXPIRY)."
        )
        yield Finding("warning" if lost else "ok", "ingest gaps", text, cure if lost else "")
    if not rows:
        yield Finding("ok", "ingest gaps", "none in 24 hours")


def _qos(rows: list[dict[str, Any]]) -> Iterator[Finding]:
    for row in rows[:_MOST_ROOTS]:
        text = f"{row['root']}/… is published at QoS 0 ({row['messages']:,} messages so far): "
        text += "its publisher promises no delivery"
        yield Finding("warning", "publisher", text, qos_cure(row["root"]))
    if len(rows) > _MOST_ROOTS:
        text = f"{len(rows) - _MOST_ROOTS} more publish at QoS 0"
        yield Finding("warning", "publisher", text, "See the table qos_watch.")


def _health(rows: list[dict[str, Any]]) -> Iterator[Finding]:
    for row in rows:
        yield Finding("fault", row["kind"], row["detail"], row["cure"])


def _rejects(rows: list[dict[str, Any]]) -> Iterator[Finding]:
    if not rows:
        yield Finding("ok", "rejects", "none open")
        return
    text = ", ".join(f"{row['n']:,} {row['reason']}" for row in rows)
    cure = "docs/reference/messages.md has the cure of each; GET /api/v1/rejects shows their bytes."
    yield Finding("warning", "rejects", f"open: {text}", cure)


def _backlog(rows: list[dict[str, Any]], now: datetime) -> Iterator[Finding]:
    late = [row for row in rows if now - row["oldest"] > _LATE]
    for row in late:
        text = f"{row['name']} is {_long(now - row['oldest'])} behind ingest, {row['batches']:,} batches"
        cure = "See that `quantrac alert` runs, and what its log says."
        yield Finding("warning", "backlog", text, cure)
    if not late:
        yield Finding("ok", "backlog", "whatever was stored is evaluated within a minute")


def _long(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
