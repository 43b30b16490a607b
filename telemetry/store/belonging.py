"""Who belonged to whom when: docs/reference/store.md#who-belonged-to-whom."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg


class Followed(NamedTuple):
    """A station or facility that went with its unit; units as references."""

    what: str
    code: str
    old: str
    new: str


class Left(NamedTuple):
    """One whose unit ended and has no successor, or several."""

    what: str
    code: str
    old: str
    heirs: list[str]


_ENDED = """
    SELECT w.what, w.id, w.code, unit_reference(u) AS old, u.valid_to, u.successors,
           (SELECT s.id FROM admin_unit s
            WHERE cardinality(u.successors) = 1 AND s.code = u.successors[1]
              AND daterange(s.valid_from, s.valid_to) @> u.valid_to) AS heir
    FROM (SELECT 'station' AS what, id, code, unit_id FROM station
          UNION ALL SELECT 'facility', id, code, unit_id FROM facility) w
    JOIN admin_unit u ON u.id = w.unit_id
    WHERE u.valid_to <= vietnam_day(now())
    ORDER BY w.what DESC, w.code
"""
_STATION = """
    SELECT set_belonging('station_unit', %(id)s, %(heir)s,
                         %(since)s::date::timestamp AT TIME ZONE 'Asia/Ho_Chi_Minh', NULL)
"""
_FACILITY = "UPDATE facility SET unit_id = %(heir)s, updated_at = now() WHERE id = %(id)s"
_NAME = "SELECT unit_reference(u) FROM admin_unit u WHERE id = %s"


def follow_successors(cursor: psycopg.Cursor[Any]) -> tuple[list[Followed], list[Left]]:
    """Move stations and facilities of units that ended to the one successor, as of that day.

    A successor that ended meanwhile is followed too. What a station belonged to before stays in its history.
    """
    followed: list[Followed] = []
    while True:
        rows = cursor.execute(_ENDED).fetchall()
        moving = [row for row in rows if row[6] is not None]
        if not moving:
            return followed, [Left(what, code, old, heirs) for what, _, code, old, _, heirs, _ in rows]
        for what, id_, code, old, since, _, heir in moving:
            values = {"id": id_, "heir": heir, "since": since}
            cursor.execute(_STATION if what == "station" else _FACILITY, values)
            new = cursor.execute(_NAME, (heir,)).fetchone()
            assert new is not None
            followed.append(Followed(what, code, old, new[0]))
