"""An alert as readers see it; the list, the actions and the live stream show the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, LiteralString
from uuid import UUID

from pydantic import BaseModel

from .paging import Row

AlertState = Literal["firing", "resolved", "closed", "withdrawn"]

SELECT_ALERT: LiteralString = """
    SELECT a.id, a.rule_id, r.definition -> 'name' AS rule_name, s.code AS station_code,
           s.name AS station_name, d.dev_eui, m.key AS metric, m.unit, a.channel, a.state, a.level,
           a.peak_level, a.label, a.value, a.opened_at, a.ended_at, a.updated_at, a.acked_at, a.acked_by,
           a.assignee, a.late, a.simulated, a.seq
    FROM alert a
    LEFT JOIN rule r ON r.id = a.rule_id
    LEFT JOIN station s ON s.id = a.station_id
    LEFT JOIN device d ON d.id = a.device_id
    LEFT JOIN metric m ON m.id = a.metric_id
"""


class BothNames(BaseModel):
    """A name in both languages of the page."""

    vi: str
    en: str


class AlertRule(BaseModel):
    id: str
    name: BothNames


class AlertStation(BaseModel):
    code: str
    name: str


class AlertView(BaseModel):
    """One episode of a rule at one target; `level` is 0 once it ended, `seq` its newest transition's."""

    id: UUID
    rule: AlertRule
    station: AlertStation | None
    dev_eui: str | None
    metric: str | None
    channel: int
    unit: str | None
    state: AlertState
    level: int
    peak_level: int
    label: str
    value: float
    opened_at: datetime
    ended_at: datetime | None
    updated_at: datetime
    acked_at: datetime | None
    acked_by: str | None
    assignee: str | None
    late: bool
    simulated: bool
    seq: int


def alert_view(row: Row) -> AlertView:
    """The view of a row of `SELECT_ALERT`; a rule that is gone lends its id as name."""
    station = (
        AlertStation(code=row["station_code"], name=row["station_name"]) if row["station_code"] else None
    )
    rule = AlertRule(id=row["rule_id"], name=_names(row["rule_name"], row["rule_id"]))
    return AlertView.model_validate({**row, "rule": rule, "station": station})


def _names(name: Any, fallback: str) -> BothNames:
    if isinstance(name, dict):
        vi, en = name.get("vi"), name.get("en")
        return BothNames(vi=str(vi or en or fallback), en=str(en or vi or fallback))
    return BothNames(vi=str(name or fallback), en=str(name or fallback))
