"""Removing what simulations brought, in transactions so short that ingest goes on beside them.

Simulated is a device that is marked so, with all it ever sent, and a frame that its network server marked,
whoever's it claims to be. What hangs on a device goes first, and the device last, once nothing of it is left:
whatever interrupts a purge, the next one finds the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from . import marked
from .edition import UNPACK_ALL, Edition, detect
from .retention import BATCH, forget_alerts
from .rollups import DAY, HOUR, stored_as

Connection = psycopg.Connection[tuple[Any, ...]]

_DEVICES = 200  # whose rows are looked for together
_AT_ONCE = 2000  # devices that go in one transaction: each makes every writer read the registry again
_ALERTS = 200
_FIRST, _LONGEST = timedelta(hours=1), timedelta(days=400)
# Where a real device stands, or stood, is part of a real one's past: it stays, whatever its mark.
_FREE: LiteralString = """
    s.simulated AND NOT EXISTS (
        SELECT FROM device d LEFT JOIN device_station_period p ON p.device_id = d.id
        WHERE NOT d.simulated AND s.id IN (d.station_id, p.station_id))
    AND NOT EXISTS (
        SELECT FROM alert a JOIN device d ON d.id = a.device_id
        WHERE a.station_id = s.id AND NOT d.simulated AND NOT a.simulated)
"""
_ALERT: LiteralString = """
    (a.simulated OR EXISTS (SELECT FROM device d WHERE d.id = a.device_id AND d.simulated))
"""
_CASCADING = (
    *("decode_job", "calibration", "calibration_job", "quality_override", "quality_job"),
    "device_station_period",
)
_BY_TIME = ("reading", "event", "link")
_OF_DEVICES = (*_BY_TIME, "latest", "logged_span", *_CASCADING)
_OF_ALERTS: dict[str, LiteralString] = {
    "alert": "",
    "transition": "JOIN transition t ON t.alert_id = a.id",
    "message": "JOIN message m ON m.alert_id = a.id",
    "delivery": "JOIN message m ON m.alert_id = a.id JOIN delivery v ON v.message_id = m.id",
}
_TOLD: LiteralString = """
    SELECT g FROM link l JOIN device d ON d.id = l.device_id CROSS JOIN LATERAL unnest(l.gateways) AS g
    WHERE d.simulated
    UNION SELECT s.gateway_id FROM gateway_seen s JOIN device d ON d.id = s.device_id WHERE d.simulated
"""
_ONLY_TOLD: LiteralString = f"""
    SELECT count(*) FROM gateway_seen WHERE gateway_id IN ({_TOLD}) AND gateway_id NOT IN (
        SELECT g FROM link l JOIN device d ON d.id = l.device_id CROSS JOIN LATERAL unnest(l.gateways) AS g
        WHERE NOT d.simulated)
"""  # noqa: S608
# What lies before the oldest row of `link` was dropped by its age: of that the table knows better.
_FORGET_GATEWAYS: LiteralString = """
    WITH heard AS (
        SELECT DISTINCT ON (g) g, min(l.time) OVER (PARTITION BY g) AS first_seen, l.time AS seen_at,
               l.device_id
        FROM link l CROSS JOIN LATERAL unnest(l.gateways) AS g
        WHERE l.gateways && %(told)s::text[] AND g = ANY(%(told)s::text[])
        ORDER BY g, l.time DESC, l.device_id
    ), mended AS (
        UPDATE gateway_seen s SET
            first_seen = CASE WHEN s.first_seen < %(oldest)s THEN s.first_seen ELSE h.first_seen END,
            seen_at = h.seen_at, device_id = h.device_id
        FROM heard h WHERE h.g = s.gateway_id
    )
    DELETE FROM gateway_seen
    WHERE gateway_id = ANY(%(told)s::text[]) AND gateway_id NOT IN (SELECT g FROM heard)
"""
_REJECTS: LiteralString = """
    DELETE FROM reject WHERE id = ANY(ARRAY(
        SELECT r.id FROM reject r JOIN device d ON d.dev_eui = r.dev_eui WHERE d.simulated LIMIT %s))
"""
# Who was heard again meanwhile is for the next purge.
_FINISHED: LiteralString = """
    SELECT id FROM device d WHERE id = ANY(%s) AND simulated
      AND NOT EXISTS (SELECT FROM uplink WHERE device_id = d.id)
      AND NOT EXISTS (SELECT FROM reading WHERE device_id = d.id)
      AND NOT EXISTS (SELECT FROM event WHERE device_id = d.id)
"""
_ORDERS: LiteralString = """
    SELECT DISTINCT redecoding_id FROM decode_job
    WHERE device_id = ANY(%s) AND redecoding_id IS NOT NULL
"""
_ORDERS_GO: LiteralString = """
    DELETE FROM redecoding r WHERE id = ANY(%s)
      AND NOT EXISTS (SELECT FROM decode_job WHERE redecoding_id = r.id)
"""
_LAST_HEARD: LiteralString = """
    SELECT extract(epoch FROM now() - max(u.ingest_time))::float8 FROM device d
    CROSS JOIN LATERAL (SELECT ingest_time FROM uplink WHERE device_id = d.id ORDER BY time DESC LIMIT 3) u
    WHERE d.simulated
"""


def last_heard(connection: Connection) -> float | None:
    """Seconds since a frame of a simulated device was stored; None: there is none."""
    seconds: float | None = _one(connection, _LAST_HEARD)
    return seconds


def devices(connection: Connection) -> int:
    """How many are simulated."""
    return int(_one(connection, "SELECT count(*) FROM device WHERE simulated"))


def count(connection: Connection) -> dict[str, int]:
    """What a purge would remove now, by relation; changes nothing."""
    found = {
        "station": _one(connection, f"SELECT count(*) FROM station s WHERE {_FREE}"),  # noqa: S608
        "device": devices(connection),
        "uplink": marked.count(connection),
    }
    for relation, table in _tables(connection, _OF_DEVICES).items():
        query = sql.SQL("SELECT count(*) FROM {} JOIN device d ON d.id = device_id WHERE d.simulated")
        found[relation] = _one(connection, query.format(table))
    for relation, join in _OF_ALERTS.items():
        found[relation] = _one(connection, f"SELECT count(*) FROM alert a {join} WHERE {_ALERT}")  # noqa: S608
    found["reject"] = _one(
        connection, "SELECT count(*) FROM reject r JOIN device d ON d.dev_eui = r.dev_eui WHERE d.simulated"
    )
    found["gateway_seen"] = _one(connection, _ONLY_TOLD)
    return found


def purge(connection: Connection) -> Iterator[Counter[str]]:
    """Remove it, and yield after each transaction how many rows that took, by relation.

    The connection must be in autocommit mode.
    """
    ids = [id_ for (id_,) in connection.execute("SELECT id FROM device WHERE simulated ORDER BY id")]
    told = {gateway for (gateway,) in connection.execute(_TOLD)}
    oldest = _one(connection, "SELECT min(time) FROM link")
    yield from _alerts(connection)
    for some in _parts(ids, _DEVICES):
        for relation, table in _tables(connection, _BY_TIME).items():
            for gone in _by_time(connection, table, some):
                yield Counter({relation: gone})
    yield from marked.remove(connection, told)
    gateways = {"told": sorted(told), "oldest": oldest}
    yield Counter(gateway_seen=connection.execute(_FORGET_GATEWAYS, gateways).rowcount)
    while gone := connection.execute(_REJECTS, (BATCH,)).rowcount:
        yield Counter(reject=gone)
    for some in _parts(ids, _AT_ONCE):
        yield _devices(connection, some)
    yield Counter(station=connection.execute(f"DELETE FROM station s WHERE {_FREE}").rowcount)  # noqa: S608


def _tables(connection: Connection, relations: Sequence[str]) -> dict[str, sql.Composable]:
    """Relations and where they are stored; on Community the rollups beside."""
    tables: dict[str, sql.Composable] = {name: sql.Identifier(name) for name in relations}
    if detect(connection) is Edition.COMMUNITY:
        tables |= {rollup.name: stored_as(connection, rollup) for rollup in (HOUR, DAY)}
    return tables


def _alerts(connection: Connection) -> Iterator[Counter[str]]:
    """With what was told of them."""
    find = f"SELECT a.id FROM alert a WHERE {_ALERT} LIMIT %s FOR UPDATE OF a"  # noqa: S608
    while True:
        with connection.transaction(), connection.cursor() as cursor:
            ids = [id_ for (id_,) in cursor.execute(find, (_ALERTS,)).fetchall()]
            gone = forget_alerts(cursor, ids)
        if not ids:
            return
        yield Counter(gone)


def _by_time(connection: Connection, table: sql.Composable, ids: list[int]) -> Iterator[int]:
    """Delete these devices' rows from the oldest on, a span of time in each transaction.

    Hypertables know no place of a row that is one in all their chunks, but leave out chunks by time. How long
    the next span is follows from how many rows the last one had.
    """
    bounds = sql.SQL("SELECT min(time), max(time) FROM {} WHERE device_id = ANY(%s)").format(table)
    delete = sql.SQL("DELETE FROM {} WHERE device_id = ANY(%s) AND time >= %s AND time < %s").format(table)
    begin, last = connection.execute(bounds, (ids,)).fetchone() or (None, None)
    span = _FIRST
    while begin is not None and begin <= last:
        gone = _delete(connection, delete, (ids, begin, begin + span))
        begin += span
        if gone > BATCH:
            span /= 2
        elif gone < BATCH / 4:
            span = min(2 * span, _LONGEST)
        if gone:
            yield gone


def _delete(connection: Connection, query: sql.Composed, values: Any) -> int:
    """In a transaction of its own, after those who wait for it crosswise: a job may rewrite the same rows."""
    while True:
        with suppress(psycopg.errors.DeadlockDetected), connection.transaction():
            connection.execute(UNPACK_ALL)
            return connection.execute(query, values).rowcount


def _devices(connection: Connection, ids: list[int]) -> Counter[str]:
    """The devices themselves, with what stands beside them and what the database deletes with them."""
    gone: Counter[str] = Counter()
    with connection.transaction():
        going = [id_ for (id_,) in connection.execute(_FINISHED, (ids,)).fetchall()]
        orders = [id_ for (id_,) in connection.execute(_ORDERS, (going,)).fetchall()]
        for relation in _CASCADING:
            held = sql.SQL("SELECT count(*) FROM {} WHERE device_id = ANY(%s)")
            gone[relation] = _one(connection, held.format(sql.Identifier(relation)), (going,))
        for relation in ("latest", "logged_span", "link"):  # a job may have written the last ones meanwhile
            delete = sql.SQL("DELETE FROM {} WHERE device_id = ANY(%s)").format(sql.Identifier(relation))
            gone[relation] = connection.execute(delete, (going,)).rowcount
        gone["device"] = connection.execute(
            "DELETE FROM device WHERE id = ANY(%s) AND simulated", (going,)
        ).rowcount
        gone["redecoding"] = connection.execute(_ORDERS_GO, (orders,)).rowcount
    return gone


def _parts(ids: list[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(ids), size):
        yield ids[first : first + size]


def _one(connection: Connection, query: Any, values: Any = None) -> Any:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]
