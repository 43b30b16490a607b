"""Which rules look at which series: rules and devices as of one registry version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
import structlog

from telemetry.errors import UsageError

from .log import Place
from .rules import Rule, ladder_of, parse_rule
from .timeline import Ladder, make_ladder

_log = structlog.get_logger()


class Watched(NamedTuple):
    rule: Rule
    ladder: Ladder


class _Device(NamedTuple):
    device_type: str
    station: str | None
    kind: str
    basin: str
    thresholds: dict[str, Any]
    place: Place


_DEVICES = """
    SELECT d.id, d.device_type, d.simulated, d.station_id, s.code, s.kind, s.basin, s.thresholds
    FROM device d LEFT JOIN station s ON s.id = d.station_id
    WHERE d.status = 'active'
"""


@dataclass(slots=True)
class Watch:
    """Looks up the rules of a series; answers are kept, since the same series come again and again."""

    version: int = -1
    rules: list[Rule] = field(default_factory=list)
    unusable: frozenset[str] = frozenset()
    """Stored rules that no longer read; what they fire is left alone until somebody mends them."""
    metrics: dict[int, str] = field(default_factory=dict)
    devices: dict[int, _Device] = field(default_factory=dict)
    _known: dict[tuple[int, int, int], list[Watched]] = field(default_factory=dict)

    @property
    def metric_ids(self) -> list[int]:
        """Metrics that some rule looks at."""
        wanted = {rule.metric for rule in self.rules}
        return [metric_id for metric_id, key in self.metrics.items() if key in wanted]

    def place(self, device_id: int) -> Place:
        device = self.devices.get(device_id)
        return device.place if device else Place(None, False)

    def of(self, device_id: int, metric_id: int, channel: int) -> list[Watched]:
        key = (device_id, metric_id, channel)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._look_up(*key)
        return found

    def looks_at(self, rule_id: str, device_id: int, metric_id: int, channel: int) -> bool:
        """Whether this rule is evaluated on this series, or nobody can tell."""
        watched = self.of(device_id, metric_id, channel)
        return rule_id in self.unusable or any(w.rule.id == rule_id for w in watched)

    def _look_up(self, device_id: int, metric_id: int, channel: int) -> list[Watched]:
        device, metric = self.devices.get(device_id), self.metrics.get(metric_id)
        if device is None:
            return []
        watched = []
        for rule in self.rules:
            if rule.metric == metric and rule.channel in (None, channel) and _chosen(rule, device):
                levels = rule.levels
                if levels is None:
                    levels = _station_levels(rule, device)
                if levels:
                    watched.append(Watched(rule, make_ladder(rule, levels)))
        return watched


def _chosen(rule: Rule, device: _Device) -> bool:
    where = rule.where
    return (
        (not where.stations or device.station in where.stations)
        and (not where.kinds or device.kind in where.kinds)
        and (not where.basins or device.basin in where.basins)
        and (not where.device_types or device.device_type in where.device_types)
    )


def _station_levels(rule: Rule, device: _Device) -> tuple[Any, ...]:
    try:
        return ladder_of(device.thresholds.get(rule.metric, ()), rule.direction)
    except UsageError as error:
        _log.error(
            "station_thresholds_unusable", station=device.station, metric=rule.metric, problem=str(error)
        )
        return ()


async def read_watch(connection: psycopg.AsyncConnection[Any], version: int) -> Watch:
    """Everything at once; a stored rule that no longer reads is said and skipped."""
    rules, unusable = [], set()
    rows = await (
        await connection.execute("SELECT id, definition FROM rule WHERE enabled ORDER BY id")
    ).fetchall()
    for row in rows:
        try:
            rules.append(parse_rule(row["definition"]))
        except UsageError as error:
            unusable.add(row["id"])
            _log.error("rule_unusable", rule=row["id"], problem=str(error))
    metrics = await (await connection.execute("SELECT id, key FROM metric")).fetchall()
    devices = await (await connection.execute(_DEVICES)).fetchall()
    return Watch(
        version,
        rules,
        frozenset(unusable),
        {row["id"]: row["key"] for row in metrics},
        {
            row["id"]: _Device(
                row["device_type"],
                row["code"],
                row["kind"] or "",
                row["basin"] or "",
                row["thresholds"] or {},
                Place(row["station_id"], row["simulated"]),
            )
            for row in devices
        },
    )
