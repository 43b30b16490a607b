"""What was raised in the store, against the answer sheet of a simulation."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

import psycopg

from alerting.watch import Watch, read_watch
from simulators.score import Change, Rules, Score, score
from simulators.sheet import AnswerLevel, AnswerSheet, Target
from telemetry.store.pool import async_connect

# What was withdrawn was never so; who closes an alert ends it.
_CHANGES = """
    SELECT a.rule_id, d.dev_eui, m.key, t.at, t.known_at,
           CASE WHEN t.kind = 'closed' THEN 0 ELSE t.to_level END AS to_level
    FROM alert a
    JOIN transition t ON t.alert_id = a.id
    JOIN device d ON d.id = a.device_id
    JOIN metric m ON m.id = a.metric_id
    WHERE d.dev_eui = ANY(%(euis)s) AND t.at >= %(since)s::timestamptz
      AND (t.machine IS NOT NULL OR t.kind = 'closed')
      AND NOT EXISTS (SELECT FROM transition w WHERE w.alert_id = t.alert_id AND w.withdraws = t.seq)
    ORDER BY t.at, t.written
"""


async def score_store(url: str, sheet: AnswerSheet, since: datetime | None = None) -> Score:
    """Of transitions since then: all by default."""
    sensors = {target.dev_eui for target in sheet.targets}
    euis = sorted(sensors.union(*(hazard.devices for hazard in sheet.hazards)))
    async with await async_connect(url, application="quantrac score", autocommit=True) as connection:
        rules = await _rules(connection, euis)
        values = {"euis": euis, "since": since or "-infinity"}
        rows = await (await connection.execute(_CHANGES, values)).fetchall()
    changes = (
        Change(row["rule_id"], row["dev_eui"], row["key"], row["to_level"], row["at"], row["known_at"])
        for row in rows
    )
    return score(sheet, changes, rules)


async def _rules(connection: psycopg.AsyncConnection[dict[str, Any]], euis: Collection[str]) -> Rules:
    """The rules as the evaluator chooses them: those that have this very level for the sensor."""
    watch = await read_watch(connection, version=0)
    rows = await (
        await connection.execute("SELECT id, dev_eui FROM device WHERE dev_eui = ANY(%s)", (list(euis),))
    ).fetchall()
    return _chosen(watch, {row["dev_eui"]: row["id"] for row in rows})


def _chosen(watch: Watch, devices: dict[str, int]) -> Callable[[Target, AnswerLevel], Collection[str]]:
    metrics = {key: id_ for id_, key in watch.metrics.items()}

    def rules(target: Target, level: AnswerLevel) -> Collection[str]:
        device, metric = devices.get(target.dev_eui), metrics.get(target.metric)
        if device is None or metric is None:
            return []
        return [
            rule.id
            for rule, ladder in watch.of(device, metric, 0)
            if rule.direction == "above"
            and any((step.level, step.value) == (level.level, level.value) for step in ladder.levels)
        ]

    return rules
