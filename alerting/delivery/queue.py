"""The rows of `delivery` as a queue that any number of workers share.

A worker claims a delivery by a lease, `leased_until`, which is also the token that proves the claim: of a
failure recorded after the lease went to somebody else only the try is noted. Of the pending deliveries of one
alert to one endpoint only the first, the head, may go. A later one that is due calls for its head, so a newer
transition retries what it waits for.

Whoever writes a result locks the endpoint's row first, and claims skip what is locked: nobody waits in a
circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from telemetry.store.pool import DictRow

from .schedule import Answer, Plan

Connection = psycopg.AsyncConnection[DictRow]


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed delivery with all that is needed to try it."""

    id: int
    message_id: str
    type: str
    body: str
    endpoint_id: int
    url: str
    secret: bytes
    old_secret: bytes | None
    old_until: datetime | None
    alert_id: UUID | None
    alert_seq: int | None
    attempts: int
    first_at: datetime | None
    created_at: datetime
    leased_until: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """What came of one try: begun `at`, done `now`; `duration_ms` by a clock that never jumps."""

    at: datetime
    now: datetime
    duration_ms: int
    answer: Answer
    plan: Plan


# By rank, so that when slots are short the first delivery of each endpoint comes before anybody's second.
_CLAIM = """
    WITH room AS (
        SELECT e.id, coalesce(r.free, %(each)s) AS free
        FROM endpoint e LEFT JOIN unnest(%(ids)s::int[], %(free)s::int[]) AS r (id, free) USING (id)
        WHERE e.enabled AND coalesce(r.free, %(each)s) > 0
    ), called AS (
        SELECT room.free, one.* FROM room CROSS JOIN LATERAL (
            SELECT coalesce(head.id, d.id) AS id, d.next_at, row_number() OVER (ORDER BY d.next_at) AS rank
            FROM delivery d LEFT JOIN LATERAL (
                SELECT o.id, o.leased_until, o.last_status, o.next_at FROM delivery o
                WHERE o.state = 'pending' AND o.endpoint_id = d.endpoint_id AND o.alert_id = d.alert_id
                ORDER BY o.alert_seq, o.id LIMIT 1
            ) head ON true
            WHERE d.endpoint_id = room.id AND d.state = 'pending' AND d.next_at <= %(now)s
              AND (d.leased_until IS NULL OR d.leased_until <= %(now)s)
              AND (head.leased_until IS NULL OR head.leased_until <= %(now)s)
              AND (head.last_status IS DISTINCT FROM 429 OR head.next_at <= %(now)s)
            ORDER BY d.next_at LIMIT %(each)s
        ) one
    ), taken AS (
        SELECT d.id FROM called c JOIN delivery d ON d.id = c.id
        WHERE c.rank <= c.free AND d.state = 'pending'
          AND (d.leased_until IS NULL OR d.leased_until <= %(now)s)
        ORDER BY c.rank, c.next_at LIMIT %(limit)s
        FOR UPDATE OF d SKIP LOCKED
    )
    UPDATE delivery d SET leased_until = %(until)s
    FROM message m, endpoint e
    WHERE d.id IN (SELECT id FROM taken) AND m.id = d.message_id AND e.id = d.endpoint_id
    RETURNING d.id, d.message_id, m.type, m.body, d.endpoint_id, e.url, e.secret, e.old_secret, e.old_until,
        d.alert_id, d.alert_seq, d.attempts, d.created_at, d.leased_until,
        -- the first try since the delivery was made or sent again; `settle` may have left it unnoted
        CASE WHEN d.attempts > 0 THEN coalesce((
            SELECT a.at FROM attempt a WHERE a.delivery_id = d.id
            ORDER BY a.id DESC OFFSET d.attempts - 1 LIMIT 1
        ), d.created_at) END AS first_at
"""

# Not before half a second per try since its last one, at most a minute: a message its receiver can never take
# must not be tried at each of its other messages' successes. One that was told to wait (429) waits.
_WAKE = """
    UPDATE delivery d SET next_at = w.at
    FROM (
        SELECT o.id, greatest(%(now)s, (
            SELECT a.at + least(o.attempts, 120) * interval '500 ms'
            FROM attempt a WHERE a.delivery_id = o.id AND o.attempts > 0 ORDER BY a.id DESC LIMIT 1
        )) AS at
        FROM delivery o
        WHERE o.endpoint_id = %(endpoint)s AND o.state = 'pending' AND o.next_at > %(now)s
          AND (%(alert)s::uuid IS NULL OR o.alert_id = %(alert)s)
          AND (o.leased_until IS NULL OR o.leased_until <= %(now)s)
          AND o.last_status IS DISTINCT FROM 429
          AND NOT EXISTS (
              SELECT FROM delivery e WHERE e.state = 'pending' AND e.endpoint_id = o.endpoint_id
                AND e.alert_id = o.alert_id AND (e.alert_seq, e.id) < (o.alert_seq, o.id)
          )
    ) w
    WHERE d.id = w.id AND w.at < d.next_at
"""

_NOTE = """
    INSERT INTO attempt (delivery_id, at, duration_ms, status, error, response)
    SELECT %(id)s, %(at)s, %(duration_ms)s, %(status)s, %(error)s, %(response)s
    WHERE NOT EXISTS (SELECT FROM attempt WHERE delivery_id = %(id)s AND at = %(at)s)
"""

_DELIVERED = """
    UPDATE delivery SET state = 'delivered', attempts = attempts + 1, leased_until = NULL,
        delivered_at = %(now)s, last_status = %(status)s, last_error = NULL
    WHERE id = %(id)s AND state <> 'delivered'
"""

_NOT_DELIVERED = """
    UPDATE delivery SET state = %(state)s, attempts = attempts + 1, leased_until = NULL,
        next_at = coalesce(%(next_at)s, next_at), last_status = %(status)s, last_error = %(error)s
    WHERE id = %(id)s AND state = 'pending' AND leased_until = %(lease)s
"""

# What waits behind the head need not be looked at before the head is due; what came during the try may.
_FOLLOW = """
    UPDATE delivery SET next_at = %(next_at)s
    WHERE state = 'pending' AND endpoint_id = %(endpoint)s AND alert_id = %(alert)s AND alert_seq > %(seq)s
      AND next_at < %(next_at)s AND created_at <= %(at)s
"""


async def claim(
    conn: Connection, *, now: datetime, until: datetime, limit: int, each: int, room: Mapping[int, int]
) -> list[Job]:
    """Lease at most `limit` due deliveries until `until`.

    Of one endpoint at most `each` less what is under way: `room` names the endpoints that have less than
    `each` left, none at all included.
    """
    async with conn.cursor(row_factory=class_row(Job)) as cursor:
        await cursor.execute(
            _CLAIM,
            {
                "now": now,
                "until": until,
                "limit": limit,
                "each": each,
                "ids": list(room),
                "free": list(room.values()),
            },
        )
        return await cursor.fetchall()


async def record(conn: Connection, job: Job, result: Try) -> None:
    """Write one try and what follows from it, in one transaction; doing it twice does no harm."""
    plan, values = result.plan, _values(job, result)
    async with conn.transaction():
        if not await _lock_endpoint(conn, job.endpoint_id):
            return  # deleted meanwhile, and its deliveries with it
        await conn.execute(_NOTE, values)
        await conn.execute(_DELIVERED if plan.delivered else _NOT_DELIVERED, values)
        if plan.delivered:
            await conn.execute("UPDATE endpoint SET last_success = %(now)s WHERE id = %(endpoint)s", values)
        if plan.disable is not None:
            await disable(conn, job.endpoint_id, plan.disable)
        elif plan.delivered:
            await conn.execute(_WAKE, {**values, "alert": None})
        elif plan.next_at is None:
            if job.alert_id is not None:
                await conn.execute(_WAKE, values)
        else:
            await conn.execute(_FOLLOW, values)


async def settle(conn: Connection, job: Job, result: Try) -> None:
    """Write of a try that `record` cannot write what keeps it from being repeated: its delivery's row.

    The texts that came with it are left out, and it is noted only if that can be done.
    """
    why = None if result.plan.delivered else "the result of the try could not be stored whole; see the log"
    values = {**_values(job, result), "error": why, "response": None}
    with suppress(psycopg.Error):
        await conn.execute(_NOTE, values)
    await conn.execute(_DELIVERED if result.plan.delivered else _NOT_DELIVERED, values)


def _values(job: Job, result: Try) -> dict[str, Any]:
    plan, answer = result.plan, result.answer
    return {
        "id": job.id,
        "endpoint": job.endpoint_id,
        "alert": job.alert_id,
        "seq": job.alert_seq,
        "lease": job.leased_until,
        "at": result.at,
        "now": result.now,
        "duration_ms": result.duration_ms,
        "status": answer.status,
        "error": plan.error,
        "response": answer.text,
        "next_at": plan.next_at,
        "state": "failed" if plan.next_at is None else "pending",
    }


async def release(conn: Connection, jobs: Sequence[Job]) -> None:
    """Give claims back untried."""
    await conn.execute(
        "UPDATE delivery d SET leased_until = NULL "
        "FROM unnest(%s::bigint[], %s::timestamptz[]) AS j (id, lease) "
        "WHERE d.id = j.id AND d.leased_until = j.lease",
        ([job.id for job in jobs], [job.leased_until for job in jobs]),
    )


async def disable(conn: Connection, endpoint_id: int, why: str) -> None:
    """Stop an endpoint; what it still had to get is kept as failed, for `recover`."""
    async with conn.transaction():
        await conn.execute(
            "UPDATE endpoint SET enabled = false, disabled_why = %s WHERE id = %s", (why, endpoint_id)
        )
        await conn.execute(
            "UPDATE delivery SET state = 'failed', last_error = coalesce(last_error || '; ', '') || %s "
            "WHERE endpoint_id = %s AND state = 'pending'",
            (f"endpoint disabled: {why}", endpoint_id),
        )


async def recover(conn: Connection, endpoint_id: int, *, since: datetime, now: datetime) -> int:
    """Queue again what an endpoint failed to get since `since`, on a fresh schedule; returns how many."""
    async with conn.transaction():
        await _lock_endpoint(conn, endpoint_id)
        cursor = await conn.execute(
            "UPDATE delivery SET state = 'pending', attempts = 0, next_at = %s "
            "WHERE endpoint_id = %s AND state = 'failed' AND created_at >= %s",
            (now, endpoint_id, since),
        )
        return cursor.rowcount


async def resend(conn: Connection, delivery_id: int, *, now: datetime) -> bool:
    """Queue one delivery again whatever became of it, with its webhook-id; False when there is none."""
    cursor = await conn.execute(
        "UPDATE delivery SET state = 'pending', next_at = %(now)s, delivered_at = NULL, "
        "attempts = CASE WHEN state = 'pending' THEN attempts ELSE 0 END WHERE id = %(id)s",
        {"now": now, "id": delivery_id},
    )
    return cursor.rowcount > 0


async def _lock_endpoint(conn: Connection, endpoint_id: int) -> bool:
    # NO KEY UPDATE: whoever enqueues a delivery holds a key share of this row and is not kept waiting.
    cursor = await conn.execute("SELECT FROM endpoint WHERE id = %s FOR NO KEY UPDATE", (endpoint_id,))
    return cursor.rowcount > 0
