"""Transitions of alerts as a source: what was known, when, and who did what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from .selection import Selection
from .table import Block, Field, Key

WINDOW = 10_000

_FIELDS = (
    Field("alert", "text", "id of the alert"),
    Field("seq", "whole", "number of the transition within its alert"),
    Field("rule", "text", "id of the rule"),
    Field("station", "text", "code of the station"),
    Field("station_name", "text", "its name"),
    Field("dev_eui", "text", "DevEUI of the device"),
    Field("metric", "text", "quantity"),
    Field("channel", "whole", "which of several sensors of one kind"),
    Field("unit", "text", "unit of the value, UCUM"),
    Field("kind", "text", "what happened"),
    Field("at", "time", "when it happened"),
    Field("known_at", "time", "when it was known"),
    Field("from_level", "whole", "level before"),
    Field("to_level", "whole", "level after"),
    Field("label", "text", "name of the level"),
    Field("value", "number", "of the reading that decided"),
    Field("late", "flag", "whether it was found out from late data"),
    Field("withdraws", "whole", "seq of the transition that it takes back"),
    Field("actor", "text", "who did it, where somebody did"),
    Field("note", "text", "what they wrote"),
    Field("simulated", "flag", "whether a simulation raised the alert"),
)
_READ = """
    SELECT a.id::text, t.seq, a.rule_id, s.code, s.name, d.dev_eui, m.key, a.channel, m.unit, t.kind,
           (extract(epoch FROM t.at) * 1000000)::bigint, (extract(epoch FROM t.known_at) * 1000000)::bigint,
           t.from_level, t.to_level, t.label, t.value, t.late, t.withdraws, t.actor, t.note, a.simulated
    FROM transition t JOIN alert a ON a.id = t.alert_id
    JOIN device d ON d.id = a.device_id JOIN metric m ON m.id = a.metric_id
    LEFT JOIN station s ON s.id = a.station_id
    WHERE t.at >= %(start)s AND t.at < %(end)s AND (t.alert_id, t.seq) > (%(alert)s::uuid, %(seq)s)
      AND (%(euis)s::text[] IS NULL OR d.dev_eui = ANY(%(euis)s))
      AND (%(stations)s::text[] IS NULL OR s.code = ANY(%(stations)s))
      AND (%(metrics)s::text[] IS NULL OR m.key = ANY(%(metrics)s))
    ORDER BY t.alert_id, t.seq LIMIT %(window)s
"""
_FIRST: Key = ("00000000-0000-0000-0000-000000000000", 0)


class TransitionSource:
    """Alert by alert, each in its own order."""

    def __init__(self, connection: psycopg.Connection[Any], selection: Selection) -> None:
        self._connection = connection
        self._values = {
            "start": selection.since,
            "end": selection.end,
            "euis": list(selection.devices) or None,
            "stations": list(selection.stations) or None,
            "metrics": list(selection.metrics) or None,
            "window": WINDOW,
        }
        self.fields = _FIELDS

    def blocks(self, after: Key | None) -> Iterator[Block]:
        """See `Source`; a key is the alert's id and seq."""
        alert, seq = after or _FIRST
        while True:
            with self._connection.cursor(row_factory=tuple_row) as cursor:
                rows = cursor.execute(_READ, {**self._values, "alert": alert, "seq": seq}).fetchall()
            if not rows:
                return
            columns = dict(zip([f.name for f in _FIELDS], map(list, zip(*rows, strict=True)), strict=True))
            alert, seq = rows[-1][:2]
            yield Block(columns, len(rows), (alert, seq), 0.0)
