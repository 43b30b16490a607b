"""Frames of simulations: those of simulated devices, and those that a network server marked as simulated.

A mark may be on a frame of a real device's EUI. Such a frame has no readings, unless the device was
registered as simulated when it came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, LiteralString, NamedTuple

import numpy as np
import psycopg
from psycopg.rows import class_row

from ..clock import micros
from ..model import Quality, UplinkFlag
from . import lanes, messages, superseded

Connection = psycopg.Connection[tuple[Any, ...]]

_LANE = "purge"
_NO_READINGS = np.empty(0, lanes.READING_DTYPE)
_MARKED: LiteralString = f"(d.simulated OR u.flags & {int(UplinkFlag.SIMULATED)} > 0)"
_COUNT: LiteralString = f"SELECT count(*) FROM uplink u JOIN device d ON d.id = u.device_id WHERE {_MARKED}"  # noqa: S608
# Ids are looked for by the thousand, as messages are kept.
_BLOCKS: LiteralString = f"""
    SELECT DISTINCT (u.id - 1) / {messages.IDS} FROM uplink u JOIN device d ON d.id = u.device_id
    WHERE {_MARKED} ORDER BY 1
"""  # noqa: S608
_FIND: LiteralString = f"""
    SELECT u.id, u.time, u.device_id, u.dedup_key, NOT d.simulated AS is_stray,
           CASE WHEN NOT d.simulated THEN jsonb_path_query_array(u.gateways, '$[*].id') END AS gateways
    FROM uplink u JOIN device d ON d.id = u.device_id
    WHERE u.id > %(after)s AND u.id <= %(last)s AND {_MARKED}
"""  # noqa: S608
_DELETE: LiteralString = """
    DELETE FROM uplink WHERE id = ANY(%(ids)s) AND id > %(after)s AND id <= %(last)s
      AND time BETWEEN %(oldest)s AND %(newest)s
"""
# Of a real device; those of simulated ones go with these.
_EVENTS: LiteralString = """
    DELETE FROM event e USING device d
    WHERE d.id = e.device_id AND NOT d.simulated AND e.data @> '{"simulated": true}'
    RETURNING e.device_id, e.time
"""
# A real device's state as if the frames had not been; who keeps the link history makes its hours anew.
_LINK: LiteralString = """
    DELETE FROM link l USING unnest(%(device)s::int4[], %(time)s::timestamptz[]) AS s (device_id, time)
    WHERE l.device_id = s.device_id AND l.time = date_trunc('hour', s.time)
"""
_UNSEEN: LiteralString = """
    DELETE FROM latest l WHERE device_id = ANY(%(devices)s)
      AND NOT EXISTS (SELECT FROM uplink WHERE device_id = l.device_id)
"""
_SEEN: LiteralString = """
    UPDATE latest l SET seen_at = u.time
    FROM unnest(%(devices)s::int4[]) AS s (device_id) CROSS JOIN LATERAL (
        SELECT time FROM uplink WHERE device_id = s.device_id ORDER BY time DESC LIMIT 1) u
    WHERE l.device_id = s.device_id AND l.seen_at > u.time
"""


class _Frame(NamedTuple):
    id: int
    time: Any
    device_id: int
    dedup_key: Any
    is_stray: bool
    gateways: list[str] | None


def count(connection: Connection) -> int:
    """How many there are; it reads the whole table."""
    row = connection.execute(_COUNT).fetchone()
    return row[0] if row else 0


def remove(connection: Connection, gateways: set[str]) -> Iterator[Counter[str]]:
    """Delete them with their messages and all that is kept of them, one block of ids a transaction.

    Followers are told of real devices' frames: the link history and derived readings come right again. The
    gateways that such frames tell of are added to `gateways`.
    """
    with connection.transaction(), connection.cursor() as cursor:
        events = cursor.execute(_EVENTS).fetchall()
        if events:
            _tell(cursor, [(device, micros(time)) for device, time in events])
    yield Counter(event=len(events))
    for (block,) in connection.execute(_BLOCKS).fetchall():
        with connection.transaction():
            yield _remove_block(connection, block * messages.IDS, gateways)


def _remove_block(connection: Connection, after: int, gateways: set[str]) -> Counter[str]:
    bounds = {"after": after, "last": after + messages.IDS}
    with connection.cursor(row_factory=class_row(_Frame)) as finding:
        frames = finding.execute(_FIND, bounds).fetchall()
    if not frames:
        return Counter()
    ids = [frame.id for frame in frames]
    strays = [frame for frame in frames if frame.is_stray]
    gone: Counter[str] = Counter()
    with connection.cursor() as cursor:
        taken = [_take_readings(cursor, device, strays) for device in sorted({s.device_id for s in strays})]
        times = {"oldest": min(f.time for f in frames), "newest": max(f.time for f in frames)}
        gone["uplink"] = cursor.execute(_DELETE, {**bounds, **times, "ids": ids}).rowcount
        gone["superseded"] = cursor.execute(
            "DELETE FROM superseded WHERE uplink_id = ANY(%s)", (ids,)
        ).rowcount
        gone["logged_span"] = cursor.execute(
            "DELETE FROM logged_span WHERE uplink_id = ANY(%s)", (ids,)
        ).rowcount
        gone["untimed"] = cursor.execute(
            "DELETE FROM untimed WHERE dedup_key = ANY(%s)", ([f.dedup_key for f in frames],)
        ).rowcount
        messages.forget(cursor, after, set(ids))
        if strays:
            devices = {"devices": sorted({stray.device_id for stray in strays})}
            gateways.update(gateway for stray in strays for gateway in stray.gateways or ())
            hours = {"device": [s.device_id for s in strays], "time": [s.time for s in strays]}
            cursor.execute(_LINK, hours)
            cursor.execute(_UNSEEN, devices)
            cursor.execute(_SEEN, devices)
            readings = lanes.together(taken)
            gone["reading"] = len(readings)
            _tell(cursor, [(stray.device_id, micros(stray.time)) for stray in strays], readings)
    return gone


def _tell(cursor: psycopg.Cursor[Any], moments: lanes.Moments, gone: lanes.Readings = _NO_READINGS) -> None:
    """Let followers look at these moments of real devices again; readings of theirs are gone."""
    lanes.commit_batch(cursor, _LANE, gone, events=moments, replaced=len(gone))


def _take_readings(cursor: psycopg.Cursor[Any], device_id: int, strays: list[_Frame]) -> lanes.Readings:
    """Delete what a real device's series got from such frames, and tell it as readings that are gone."""
    metrics = [id_ for (id_,) in cursor.execute("SELECT id FROM metric").fetchall()]
    frames = {stray.id: stray.time for stray in strays if stray.device_id == device_id}
    readings = superseded.read_held(cursor, device_id, metrics, frames)
    superseded.remove(cursor, device_id, readings)
    readings["quality"] = int(Quality.MISSING)
    return readings
