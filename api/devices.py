"""A device as readers see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, LiteralString

from pydantic import BaseModel

from .database import Connection
from .latest import LatestReading, latest_readings
from .names import metric_names
from .paging import Row

DeviceStatus = Literal["unregistered", "active", "retired"]

SELECT_DEVICE: LiteralString = """
    SELECT d.id, d.dev_eui, d.name, d.status, d.device_type, s.code AS station, d.variables, d.firmware,
           d.origin, d.simulated, l.seen_at, l.readings, unit_reference(u) AS unit, o.code AS owner,
           f.code AS facility
    FROM device d LEFT JOIN station s ON s.id = d.station_id LEFT JOIN latest l ON l.device_id = d.id
    LEFT JOIN admin_unit u ON u.id = s.unit_id LEFT JOIN owner o ON o.id = s.owner_id
    LEFT JOIN facility f ON f.id = s.facility_id
"""


class DeviceView(BaseModel):
    """A device; `origin` is what the network server calls it, `seen_at` the time of its newest uplink.

    `unit`, `owner` and `facility` are its station's.
    """

    dev_eui: str
    name: str
    status: DeviceStatus
    device_type: str | None
    station: str | None
    unit: str | None
    owner: str | None
    facility: str | None
    variables: dict[str, Any]
    firmware: str | None
    origin: dict[str, Any]
    simulated: bool
    seen_at: datetime | None
    latest: list[LatestReading]


class DecodeJobView(BaseModel):
    """A wish that a device's stored frames be decoded anew.

    Of `frames` looked at the readings of some `changed`; `readings` were stored. `untouched` ones are as they
    were: no codec answered, or the store refused what it said. Without `redecoding_id` it is for frames that
    nobody decoded yet.
    """

    id: int
    redecoding_id: int | None
    state: Literal["waiting", "done", "failed", "cancelled"]
    requested_at: datetime
    requested_by: str
    frames: int
    expected: int | None
    readings: int
    changed: int
    untouched: int
    finished_at: datetime | None
    error: str | None


async def device_views(db: Connection, rows: Sequence[Row]) -> list[DeviceView]:
    """The views of these rows of `SELECT_DEVICE`, in their order."""
    names = await metric_names(db)
    return [
        DeviceView.model_validate({**row, "latest": latest_readings(row["dev_eui"], row["readings"], names)})
        for row in rows
    ]


async def find_device(db: Connection, dev_eui: str) -> DeviceView | None:
    rows = await (await db.execute(SELECT_DEVICE + " WHERE d.dev_eui = %s", (dev_eui,))).fetchall()
    return (await device_views(db, rows))[0] if rows else None


async def ask_for_decoding(db: Connection, device_id: int, actor: str) -> DecodeJobView:
    """Ask ingest to decode a device's stored frames, inside the caller's transaction."""
    cursor = await db.execute(
        "INSERT INTO decode_job (device_id, requested_by) VALUES (%s, %s) RETURNING *", (device_id, actor)
    )
    return DecodeJobView.model_validate(await cursor.fetchone())
