"""What the link history is worked out from, and where it goes: SQL, on one connection in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Jsonb

from .link import JOIN_TOLERANCE, SILENCE, HourOf, Step

Connection = psycopg.AsyncConnection[Any]
_HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """The rows of one device from the hour `first` until before `until`; its frames count from `lo` on."""

    device_id: int
    lo: datetime
    first: datetime
    until: datetime


class Facts(NamedTuple):
    """Of the frames of one device and hour; `battery` with the moment it was told."""

    device_id: int
    hour: int
    frames: int
    rssi: float | None
    snr: float | None
    sf_min: int | None
    sf_max: int | None
    battery: float | None
    battery_at: datetime | None
    gateways: list[list[str]]


class LinkRow(msgspec.Struct, frozen=True):
    """A row of table `link`."""

    time: datetime
    device_id: int
    received: int
    lost_on_air: int
    lost_by_us: int
    resets: int
    rejoins: int
    rssi: float | None
    snr: float | None
    sf_min: int | None
    sf_max: int | None
    gateways: list[str]
    battery: float | None
    margin: int | None


# OFFSET 0 keeps each look-up an index scan: joined, the planner may prefer to read the whole table.
_EARLIER = """
    SELECT t.device_id, t.hour - 1 FROM unnest(%(devices)s::int4[], %(hours)s::int4[]) AS t (device_id, hour)
    WHERE EXISTS (
        SELECT FROM (SELECT kind FROM event e WHERE e.device_id = t.device_id
                       AND e.time >= to_timestamp(t.hour * 3600.0)
                       AND e.time < to_timestamp(t.hour * 3600.0) + %(tolerance)s OFFSET 0) e
        WHERE kind = 'join')
"""
_SPANS = """
    SELECT t.device_id, coalesce(p.time, t.time) AS lo,
           coalesce(date_trunc('hour', p.time) + interval '1 hour', t.time) AS first,
           date_trunc('hour', coalesce(n.time, t.time)) + interval '1 hour' AS until
    FROM (SELECT device_id, to_timestamp(hour * 3600.0) AS time
          FROM unnest(%(devices)s::int4[], %(hours)s::int4[]) AS u (device_id, hour)) t
    LEFT JOIN LATERAL (
        SELECT time FROM uplink u
        WHERE u.device_id = t.device_id AND u.time < t.time AND u.time >= t.time - %(silence)s
        ORDER BY time DESC LIMIT 1) p ON true
    LEFT JOIN LATERAL (
        SELECT time FROM uplink u
        WHERE u.device_id = t.device_id AND u.time >= t.time + interval '1 hour'
          AND u.time < t.time + interval '1 hour' + %(silence)s
        ORDER BY time LIMIT 1) n ON true
    ORDER BY 1, 2
"""
_SPAN = """
    span AS MATERIALIZED (
        SELECT * FROM unnest(%(devices)s::int4[], %(lo)s::timestamptz[], %(first)s::timestamptz[],
                             %(until)s::timestamptz[]) WITH ORDINALITY AS s (device_id, lo, first, until, n)
    )
"""
_STEPS = f"""
    WITH {_SPAN}, pair AS (
        SELECT s.device_id, s.first, j.joins, lag(u.time) OVER w AS before, u.time AS at,
               lag(u.f_cnt) OVER w AS f_before, u.f_cnt, lag(u.dev_addr) OVER w AS was, u.dev_addr
        FROM span s
        CROSS JOIN LATERAL (
            SELECT time, f_cnt, dev_addr FROM uplink u
            WHERE u.device_id = s.device_id AND u.time >= s.lo AND u.time < s.until OFFSET 0) u
        CROSS JOIN LATERAL (
            SELECT array_agg(e.time - %(tolerance)s) AS joins FROM (
                SELECT time, kind FROM event e WHERE e.device_id = s.device_id
                  AND e.time >= s.lo AND e.time < s.until + %(tolerance)s OFFSET 0) e
            WHERE kind = 'join') j
        WINDOW w AS (PARTITION BY s.n ORDER BY u.time, u.f_cnt, u.dev_addr COLLATE "C")
    )
    SELECT device_id, before, at, f_before, f_cnt, coalesce(was <> dev_addr, false) AS moved,
           was IS NOT NULL AND dev_addr IS NOT NULL AS known,
           EXISTS (SELECT FROM unnest(joins) AS j WHERE j > before AND j <= at) AS joined
    FROM pair
    WHERE at >= first AND f_before IS NOT NULL AND f_cnt IS NOT NULL
      AND (f_cnt <> f_before + 1 OR was <> dev_addr
           OR (joins IS NOT NULL AND (was IS NULL OR dev_addr IS NULL)))
"""  # noqa: S608
_FACTS = f"""
    WITH {_SPAN}, seen AS (
        SELECT s.device_id, floor(extract(epoch FROM u.time) / 3600)::int4 AS hour, count(*)::int4 AS frames,
               max(u.rssi) AS rssi, max(u.snr) AS snr,
               min(u.spreading_factor) AS sf_min, max(u.spreading_factor) AS sf_max,
               max(ARRAY[extract(epoch FROM u.time)::float8, u.battery::float8])
                   FILTER (WHERE u.battery IS NOT NULL) AS told,
               array_agg(DISTINCT jsonb_path_query_array(u.gateways, '$[*].id'))
                   FILTER (WHERE u.gateways IS NOT NULL) AS gateways
        FROM span s
        CROSS JOIN LATERAL (
            SELECT time, rssi, snr, spreading_factor, battery, gateways FROM uplink u
            WHERE u.device_id = s.device_id AND u.time >= s.first AND u.time < s.until OFFSET 0) u
        GROUP BY 1, 2
    )
    SELECT device_id, hour, frames, rssi, snr, sf_min, sf_max, told[2]::float4 AS battery,
           to_timestamp(told[1]) AS battery_at, coalesce(to_jsonb(gateways), '[]') AS gateways
    FROM seen
"""  # noqa: S608
_STATUSES = f"""
    WITH {_SPAN}
    SELECT s.device_id, e.time, e.data FROM span s
    CROSS JOIN LATERAL (
        SELECT time, kind, data, dedup_key FROM event e
        WHERE e.device_id = s.device_id AND e.time >= s.first AND e.time < s.until OFFSET 0) e
    WHERE e.kind = 'status'
    ORDER BY s.device_id, e.time, e.dedup_key
"""  # noqa: S608
_SAVE = f"""
    WITH {_SPAN}, fresh AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(%(rows)s) AS t (
            time timestamptz, device_id int, received int, lost_on_air int, lost_by_us int, resets int,
            rejoins int, rssi real, snr real, sf_min smallint, sf_max smallint, gateways text[],
            battery real, margin smallint)
    ), gone AS (
        DELETE FROM link l USING span s
        WHERE l.device_id = s.device_id AND l.time >= s.first AND l.time < s.until
          AND NOT EXISTS (SELECT FROM fresh f WHERE f.device_id = l.device_id AND f.time = l.time)
    )
    INSERT INTO link (time, device_id, received, lost_on_air, lost_by_us, resets, rejoins, rssi, snr, sf_min,
                      sf_max, gateways, battery, margin)
    SELECT time, device_id, received, lost_on_air, lost_by_us, least(resets, 32767), least(rejoins, 32767),
           rssi, snr, sf_min, sf_max, gateways, battery, margin
    FROM fresh
    ON CONFLICT (time, device_id) DO UPDATE SET
        (received, lost_on_air, lost_by_us, resets, rejoins, rssi, snr, sf_min, sf_max, gateways, battery,
         margin)
      = (excluded.received, excluded.lost_on_air, excluded.lost_by_us, excluded.resets, excluded.rejoins,
         excluded.rssi, excluded.snr, excluded.sf_min, excluded.sf_max, excluded.gateways, excluded.battery,
         excluded.margin)
    WHERE link IS DISTINCT FROM excluded
"""  # noqa: S608
# Each gateway's newest hour; what was never registered may come in any number, so the oldest is forgotten.
GATEWAYS = 10_000
_SEEN = """
    INSERT INTO gateway_seen AS s (gateway_id, first_seen, seen_at, device_id)
    SELECT DISTINCT ON (g) g, min(f.time) OVER (PARTITION BY g), f.time, f.device_id
    FROM jsonb_to_recordset(%s) AS f (time timestamptz, device_id int, gateways text[])
    CROSS JOIN LATERAL unnest(f.gateways) AS g
    ORDER BY g, f.time DESC, f.device_id
    ON CONFLICT (gateway_id) DO UPDATE SET
        first_seen = least(s.first_seen, excluded.first_seen),
        device_id = CASE WHEN excluded.seen_at > s.seen_at THEN excluded.device_id ELSE s.device_id END,
        seen_at = greatest(s.seen_at, excluded.seen_at)
    WHERE excluded.seen_at > s.seen_at OR excluded.first_seen < s.first_seen
    RETURNING xmax = 0 AS added
"""
_FORGET = """
    DELETE FROM gateway_seen WHERE gateway_id IN (
        SELECT gateway_id FROM gateway_seen s
        WHERE NOT EXISTS (SELECT FROM gateway g WHERE g.gateway_id = s.gateway_id)
        ORDER BY seen_at DESC, gateway_id OFFSET %s)
"""
_LOST_WITHIN = """
    SELECT DISTINCT l.device_id, floor(extract(epoch FROM l.time) / 3600)::int4
    FROM unnest(%s::timestamptz[], %s::timestamptz[]) AS g (began, ended)
    JOIN link l ON l.time >= date_trunc('hour', g.began) AND l.time <= g.ended + interval '1 hour'
    WHERE l.lost_on_air > 0
"""


def hour_start(hour: int) -> datetime:
    """The moment an hour since 1970-01-01 UTC begins."""
    return _EPOCH + hour * _HOUR


async def read_spans(connection: Connection, hours: Sequence[HourOf]) -> list[Span]:
    """The rows that may change with what came in these hours; spans of one device do not overlap.

    Those are the hours themselves, and from the frame before to the frame after, what is missing between.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_EARLIER, {**_asked(hours), "tolerance": JOIN_TOLERANCE})
    every = sorted({*hours, *await cursor.fetchall()})
    await cursor.execute(_SPANS, {**_asked(every), "silence": SILENCE})
    spans: list[Span] = []
    for span in map(Span._make, await cursor.fetchall()):
        last = spans[-1] if spans else None
        if last is not None and last.device_id == span.device_id and span.lo < last.until:
            spans[-1] = last._replace(first=min(last.first, span.first), until=max(last.until, span.until))
        else:
            spans.append(span)
    return spans


async def read_steps(connection: Connection, spans: Sequence[Span]) -> list[Step]:
    """The steps between frames of these spans from which something follows."""
    async with connection.cursor(row_factory=class_row(Step)) as cursor:
        await cursor.execute(_STEPS, {**_bounds(spans), "tolerance": JOIN_TOLERANCE})
        return await cursor.fetchall()


async def read_facts(connection: Connection, spans: Sequence[Span]) -> list[Facts]:
    async with connection.cursor(row_factory=class_row(Facts)) as cursor:
        await cursor.execute(_FACTS, _bounds(spans))
        return await cursor.fetchall()


async def read_statuses(
    connection: Connection, spans: Sequence[Span]
) -> list[tuple[int, datetime, dict[str, Any]]]:
    """(device_id, time, data) of the status events in these spans, oldest first."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_STATUSES, _bounds(spans))
        return await cursor.fetchall()


async def read_outages(connection: Connection, since: datetime) -> list[tuple[int, datetime, datetime]]:
    """(id, began, ended) of our own gaps that ended since."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT id, began_at, ended_at FROM ingest_gap WHERE ended_at >= %s ORDER BY id", (since,)
        )
        return await cursor.fetchall()


async def read_lost_within(
    connection: Connection, spans: Sequence[tuple[datetime, datetime]]
) -> list[HourOf]:
    """The devices and hours with frames lost on air that may have been lost by us in these spans."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_LOST_WITHIN, ([began for began, _ in spans], [ended for _, ended in spans]))
        return await cursor.fetchall()


async def save(connection: Connection, spans: Sequence[Span], rows: Iterable[LinkRow]) -> None:
    """Make these the rows of the spans, and note which gateways were heard when."""
    encoded = Jsonb(list(rows), dumps=msgspec.json.encode)
    await connection.execute(_SAVE, {**_bounds(spans), "rows": encoded})
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SEEN, (encoded,))
        if any(added for (added,) in await cursor.fetchall()):
            await cursor.execute(_FORGET, (GATEWAYS,))


def _asked(hours: Sequence[HourOf]) -> dict[str, list[int]]:
    return {"devices": [device for device, _ in hours], "hours": [hour for _, hour in hours]}


def _bounds(spans: Sequence[Span]) -> dict[str, list[Any]]:
    return {
        "devices": [span.device_id for span in spans],
        "lo": [span.lo for span in spans],
        "first": [span.first for span in spans],
        "until": [span.until for span in spans],
    }
