"""A station as readers see it, put together from a fixed number of queries however many are shown."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from psycopg.rows import tuple_row
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationInfo

from alerting.rules import ladder_faults
from telemetry.catalogue import CATALOGUE
from telemetry.checks import parse_station_checks
from telemetry.errors import UsageError
from telemetry.threshold_checks import hushing, unreachable

from .database import Connection
from .fields import Body, Code, JsonObject, Latitude, Longitude, LongText, Name, Text, UnitReference
from .latest import LatestReading, Newest, NewestValue
from .names import MetricName, metric_names
from .paging import Row

# So many missed uplinks make a station late.
LATE_INTERVALS = 3


class ThresholdView(BaseModel):
    """A threshold as it is stored."""

    level: int
    label: str
    value: float
    source: str = ""
    certainty: str = ""


class Threshold(BaseModel):
    """One legal or agreed level of a metric at a station, in the metric's unit."""

    model_config = ConfigDict(extra="forbid")

    level: int = Field(ge=1, le=5)
    label: Name
    value: FiniteFloat
    source: LongText = ""
    certainty: Text = ""


def _check_ladder(thresholds: list[Threshold]) -> list[Threshold]:
    faults = ladder_faults([threshold.model_dump() for threshold in thresholds])
    if faults:
        raise ValueError("; ".join(line.removeprefix(": ") for line in faults))
    return thresholds


Ladder = Annotated[list[Threshold], AfterValidator(_check_ladder)]


def _check_metrics(thresholds: dict[str, list[Threshold]]) -> dict[str, list[Threshold]]:
    for metric in thresholds:
        if metric not in CATALOGUE:
            raise ValueError(f"unknown metric {metric[:60]!r}")
    return thresholds


def _check_quality(checks: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    try:
        parsed = parse_station_checks(checks, CATALOGUE)
    except UsageError as error:
        raise ValueError("; ".join(str(error).splitlines())) from error
    if faults := unreachable(parsed, _told(info.data.get("thresholds", {}))):
        raise ValueError("; ".join(faults))
    return checks


def _told(ladders: dict[str, list[Threshold]]) -> dict[str, list[dict[str, Any]]]:
    return {metric: [step.model_dump() for step in ladder] for metric, ladder in ladders.items()}


class StationBody(Body):
    """Master data of a station; coordinates in WGS 84.

    `unit` is an administrative unit's code, `admin_unit` the words for the place: left empty, the unit's
    name. `unit`, `owner` and `facility` left out stay as they are; a change holds from now on. `quality`: its
    group of neighbours, and by metric the tests of readings that differ from the catalogue's.
    """

    read_only = frozenset({"code", "state", "latest", "warnings"})
    belonging: ClassVar = ("unit", "owner", "facility")

    name: Name
    name_en: Text = ""
    kind: Text = "other"
    river: Text = ""
    basin: Text = ""
    admin_unit: Text = ""
    latitude: Latitude
    longitude: Longitude
    thresholds: Annotated[dict[str, Ladder], AfterValidator(_check_metrics)] = Field(default_factory=dict)
    quality: Annotated[JsonObject, AfterValidator(_check_quality)] = Field(default_factory=dict)
    source: LongText = ""
    certainty: Text = ""
    public: bool = False
    simulated: bool = False
    unit: UnitReference | None = None
    owner: Code | None = None
    facility: Code | None = None

    @property
    def warnings(self) -> list[str]:
        """What may be meant, but has a price."""
        checks = parse_station_checks(self.quality, CATALOGUE)
        return [f"quality.{line}" for line in hushing(checks, _told(self.thresholds))]


class StationState(BaseModel):
    """`level` and `label` of the worst firing alert, 0 and null without one; `acknowledged` when all are.

    `health`: late when the newest uplink is older than three of the shortest expected intervals, no_data
    when there never was one.
    """

    level: int
    label: str | None
    acknowledged: bool
    health: Literal["ok", "late", "no_data"]
    seen_at: datetime | None


class StationView(BaseModel):
    """Master data, state and the newest reading of each series of the station's active devices."""

    code: str
    name: str
    name_en: str
    kind: str
    river: str
    basin: str
    admin_unit: str
    latitude: float
    longitude: float
    thresholds: dict[str, list[ThresholdView]]
    quality: dict[str, Any]
    source: str
    certainty: str
    public: bool
    simulated: bool
    unit: str | None
    owner: str | None
    facility: str | None
    state: StationState
    latest: list[LatestReading]


class StationPutView(StationView):
    """The station as it is now."""

    warnings: list[str] = Field(description="Quality tests of this station that may silence an alarm.")


_DEVICES = """
    SELECT d.station_id, d.dev_eui, t.expected_interval, l.seen_at, l.readings::text AS readings
    FROM device d JOIN device_type t ON t.id = d.device_type LEFT JOIN latest l ON l.device_id = d.id
    WHERE d.station_id = ANY(%s) AND d.status = 'active'
    ORDER BY d.dev_eui
"""
_BELONGING = """
    SELECT s.id, unit_reference(u) AS unit, o.code AS owner, f.code AS facility
    FROM station s LEFT JOIN admin_unit u ON u.id = s.unit_id LEFT JOIN owner o ON o.id = s.owner_id
    LEFT JOIN facility f ON f.id = s.facility_id
    WHERE s.id = ANY(%s)
"""
_FIRING = """
    SELECT DISTINCT ON (station_id) station_id, level, label,
           bool_and(acked_at IS NOT NULL) OVER (PARTITION BY station_id) AS acknowledged
    FROM alert WHERE state = 'firing' AND station_id = ANY(%s)
    ORDER BY station_id, level DESC, opened_at
"""


class _Device(NamedTuple):
    """A row of `_DEVICES`."""

    station_id: int
    dev_eui: str
    expected_interval: int
    seen_at: datetime | None
    readings: str | None


class _Known(NamedTuple):
    """What else is known of stations, by their ids."""

    devices: Mapping[int, Sequence[_Device]]
    alerts: Mapping[int, Row]
    belonging: Mapping[int, Row]
    names: Mapping[int, MetricName]


async def station_views(db: Connection, rows: Sequence[Row], now: datetime) -> list[Row]:
    """What a `StationView` tells of these rows of `station`, in their order.

    No models: checking every value once more takes longer than all the rest.
    """
    ids = [row["id"] for row in rows]
    devices: dict[int, list[_Device]] = defaultdict(list)
    cursor = db.cursor(row_factory=tuple_row)
    for one in await (await cursor.execute(_DEVICES, (ids,))).fetchall():
        device = _Device(*one)
        devices[device.station_id].append(device)
    alerts = {row["station_id"]: row for row in await (await db.execute(_FIRING, (ids,))).fetchall()}
    belonging = {row["id"]: row for row in await (await db.execute(_BELONGING, (ids,))).fetchall()}
    known = _Known(devices, alerts, belonging, await metric_names(db))
    return await asyncio.to_thread(_views, rows, known, now)


def _views(rows: Sequence[Row], known: _Known, now: datetime) -> list[Row]:
    newest = Newest(NewestValue, known.names)
    views = []
    for row in rows:
        id_ = row["id"]
        own = known.devices.get(id_, ())
        view = {
            **row,
            **known.belonging[id_],
            "thresholds": {
                metric: [{key: step.get(key, "") for key in ThresholdView.model_fields} for step in ladder]
                for metric, ladder in row["thresholds"].items()
            },
            "state": _state(own, known.alerts.get(id_), now),
            "latest": [value for d in own if d.readings for value in newest.of(d.readings, d.dev_eui)],
        }
        views.append({field: view[field] for field in StationView.model_fields})
    return views


def _state(devices: Sequence[_Device], alert: Row | None, now: datetime) -> Row:
    seen_at = max((d.seen_at for d in devices if d.seen_at), default=None)
    health = "no_data"
    if seen_at is not None:
        interval = timedelta(seconds=min(d.expected_interval for d in devices))
        health = "late" if now - seen_at > LATE_INTERVALS * interval else "ok"
    return {
        "level": alert["level"] if alert else 0,
        "label": alert["label"] if alert else None,
        "acknowledged": bool(alert and alert["acknowledged"]),
        "health": health,
        "seen_at": seen_at,
    }
