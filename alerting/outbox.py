"""From a transition to its subscribers' messages, written in the transition's own transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec
import psycopg

_NAMESPACE = UUID("6c6f3c52-7c4e-5d0c-9a3e-5175616e7472")
_TYPES = {
    "opened": "alert.opened",
    "escalated": "alert.escalated",
    "deescalated": "alert.deescalated",
    "resolved": "alert.resolved",
    "acknowledged": "alert.acknowledged",
    "closed": "alert.closed",
    "assigned": "alert.updated",
    "commented": "alert.updated",
    "withdrawn": "alert.updated",
}
FAULT, RECOVERED = "system.fault", "system.recovered"
EVENT_TYPES = (*dict.fromkeys(_TYPES.values()), FAULT, RECOVERED)
_EVERY_LEVEL = 5

_FACTS = """
    SELECT a.id, a.rule_id, r.definition -> 'name' AS rule_name,
           a.state, a.level, a.peak_level, a.label, a.value,
           a.opened_at, a.ended_at, a.acked_at, a.acked_by, a.assignee, a.simulated, a.channel,
           d.dev_eui, d.name AS device_name, m.key AS metric, m.unit,
           s.code, s.name, s.name_en, s.river, s.basin, s.admin_unit, s.latitude, s.longitude,
           t.seq, t.at, t.known_at, t.kind, t.from_level, t.to_level, t.label AS transition_label,
           t.value AS transition_value, t.late, t.withdraws, t.actor, t.note
    FROM alert a
    JOIN transition t ON t.alert_id = a.id
    JOIN device d ON d.id = a.device_id
    JOIN metric m ON m.id = a.metric_id
    LEFT JOIN rule r ON r.id = a.rule_id
    LEFT JOIN station s ON s.id = a.station_id
    WHERE a.id = %s AND t.seq = %s
"""
_MESSAGE = """
    INSERT INTO message (id, type, alert_id, alert_seq, body, created_at) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (id) DO NOTHING
"""
# A disabled endpoint's messages are kept as failed, so that they can be recovered.
_DELIVERIES = """
    INSERT INTO delivery
        (message_id, endpoint_id, alert_id, alert_seq, next_at, created_at, state, last_error)
    SELECT %(message)s, e.id, %(alert)s, %(seq)s, %(now)s, %(now)s,
           CASE WHEN e.enabled THEN 'pending' ELSE 'failed' END,
           CASE WHEN e.enabled THEN NULL ELSE 'the endpoint is disabled' END
    FROM endpoint e
    WHERE (e.event_types = '{}' OR %(type)s = ANY(e.event_types))
      AND %(peak)s >= e.min_level
      AND (e.simulated OR NOT %(simulated)s)
    FOR KEY SHARE OF e
    ON CONFLICT (message_id, endpoint_id) DO NOTHING
"""


async def publish(connection: psycopg.AsyncConnection[Any], *, alert_id: UUID, seq: int) -> None:
    """Queue one transition for every endpoint that wants it, inside the caller's transaction.

    The message's id follows from alert and seq, so publishing the same transition again changes nothing.
    """
    row = await (await connection.execute(_FACTS, (alert_id, seq))).fetchone()
    assert row is not None, f"alert {alert_id} has no transition {seq}"
    type_ = _TYPES[row["kind"]]
    await _queue(
        connection,
        type_,
        alert_id,
        seq,
        _body(type_, row),
        peak=row["peak_level"],
        simulated=row["simulated"],
    )


async def publish_fault(
    connection: psycopg.AsyncConnection[Any], fault: dict[str, Any], *, recovered: bool
) -> None:
    """Queue the beginning or the end of a fault of the system itself (a row of `health_alert`).

    It goes to every endpoint that wants the type, whatever its least level. The fault has an id of its own
    in the place of an alert's, so that its two messages arrive in order.
    """
    type_, seq = (RECOVERED, 2) if recovered else (FAULT, 1)
    shown = {
        name: fault[name] for name in ("id", "kind", "subject", "detail", "cure", "began_at", "ended_at")
    }
    at = fault["ended_at"] if recovered else fault["began_at"]
    body = {"type": type_, "timestamp": at, "data": {"fault": shown}}
    ordered_by = uuid5(_NAMESPACE, f"fault/{fault['id']}")
    await _queue(connection, type_, ordered_by, seq, body, peak=_EVERY_LEVEL, simulated=False)


async def _queue(
    connection: psycopg.AsyncConnection[Any],
    type_: str,
    alert_id: UUID,
    seq: int,
    body: dict[str, Any],
    *,
    peak: int,
    simulated: bool,
) -> None:
    message_id = f"msg_{uuid5(_NAMESPACE, f'{alert_id}/{seq}').hex}"
    now = datetime.now(UTC)
    text = msgspec.json.encode(body).decode()
    await connection.execute(_MESSAGE, (message_id, type_, alert_id, seq, text, now))
    values = {
        "message": message_id,
        "alert": alert_id,
        "seq": seq,
        "now": now,
        "type": type_,
        "peak": peak,
        "simulated": simulated,
    }
    await connection.execute(_DELIVERIES, values)


def _body(type_: str, row: dict[str, Any]) -> dict[str, Any]:
    """Standard Webhooks' envelope: `timestamp` is the event's time, `data` the alert as it now stands."""
    station = {
        "code": row["code"],
        "name": row["name"],
        "name_en": row["name_en"],
        "river": row["river"],
        "basin": row["basin"],
        "admin_unit": row["admin_unit"],
        "latitude": row["latitude"],
        "longitude": row["longitude"],
    }
    return {
        "type": type_,
        "timestamp": row["at"],
        "data": {
            "alert": {
                "id": str(row["id"]),
                "rule": {"id": row["rule_id"], "name": row["rule_name"]},
                "state": row["state"],
                "level": row["level"],
                "peak_level": row["peak_level"],
                "label": row["label"],
                "value": row["value"],
                "unit": row["unit"],
                "metric": row["metric"],
                "channel": row["channel"],
                "opened_at": row["opened_at"],
                "ended_at": row["ended_at"],
                "acked_at": row["acked_at"],
                "acked_by": row["acked_by"],
                "assignee": row["assignee"],
                "simulated": row["simulated"],
            },
            "transition": {
                "seq": row["seq"],
                "at": row["at"],
                "known_at": row["known_at"],
                "kind": row["kind"],
                "from_level": row["from_level"],
                "to_level": row["to_level"],
                "label": row["transition_label"],
                "value": row["transition_value"],
                "late": row["late"],
                "withdraws": row["withdraws"],
                "actor": row["actor"],
                "note": row["note"],
            },
            "station": station if row["code"] is not None else None,
            "device": {"dev_eui": row["dev_eui"], "name": row["device_name"]},
        },
    }
