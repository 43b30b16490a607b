"""Uplinks: the frames as they came, and what became of them."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from psycopg.sql import SQL
from pydantic import BaseModel

from telemetry.model import UplinkFlag
from telemetry.store import messages

from ..auth import require
from ..fields import DevEui, From, RowId, To, check_span
from ..paging import Keyset, Page, Paging, Row, moment, uuid
from ..problems import not_found
from ..services import Db
from ..where import Where
from . import BASE

router = APIRouter(prefix=f"{BASE}/uplinks", tags=["uplinks"])

_KEYSET = Keyset("uplinks", time=moment, dedup_key=uuid)
# `message` may be large and is shown with one uplink only.
_LIST = SQL("""
    SELECT u.id, d.dev_eui, u.time, u.ns_time, u.ingest_time, u.flags, u.dedup_key, u.f_cnt, u.f_port,
           u.payload, u.network, u.dev_addr, u.frequency, u.spreading_factor, u.rssi, u.snr, u.gateways,
           u.decoded_by, u.problem, u.fields, u.normalized, u.topic
    FROM uplink u LEFT JOIN device d ON d.id = u.device_id
    WHERE {where} ORDER BY u.time DESC, u.dedup_key DESC LIMIT %(fetch)s
""")
_ONE = """
    SELECT u.*, d.dev_eui FROM uplink u LEFT JOIN device d ON d.id = u.device_id WHERE u.id = %s
"""
# By series and time, which are indexed: a reading lies at its frame's time, one of a data log before it.
_READINGS = """
    SELECT m.key AS metric, m.unit, r.channel, r.time, r.value, r.raw, r.quality
    FROM metric m CROSS JOIN LATERAL (
        SELECT * FROM reading
        WHERE device_id = %(device_id)s AND metric_id = m.id AND uplink_id = %(id)s
          AND time BETWEEN %(time)s - interval '31 days' AND %(time)s + interval '1 day'
    ) r
    ORDER BY r.time, m.key, r.channel LIMIT 1000
"""
_SUPERSEDED = """
    SELECT s.replaced_at, s.decoded_by, s.problem, coalesce(
        (SELECT jsonb_agg(jsonb_build_object(
                    'metric', m.key, 'unit', m.unit, 'channel', one -> 1,
                    'time', to_timestamp((one ->> 2)::numeric / 1000000), 'value', one -> 3, 'raw', one -> 4,
                    'quality', one -> 5))
         FROM jsonb_array_elements(s.readings) AS one JOIN metric m ON m.id = (one ->> 0)::int), '[]'
    ) AS readings
    FROM superseded s WHERE s.uplink_id = %s ORDER BY s.replaced_at DESC LIMIT 100
"""


class UplinkView(BaseModel):
    """One frame. `time_source` tells whose clock `time` is; rssi in dBm, snr in dB, frequency in Hz.

    `normalized` is what the network server made of the payload, `fields` what our codec did.
    """

    id: str
    dev_eui: str | None
    time: datetime
    ns_time: datetime | None
    ingest_time: datetime
    time_source: Literal["device", "network", "assigned"]
    dedup_key: UUID
    f_cnt: int | None
    f_port: int | None
    payload: str
    payload_hex: str
    network: str
    dev_addr: str | None
    confirmed: bool
    simulated: bool
    frequency: int | None
    spreading_factor: int | None
    rssi: float | None
    snr: float | None
    gateways: list[dict[str, Any]]
    decoded_by: str | None
    problem: str | None
    fields: Any
    normalized: Any
    topic: str | None


class UplinkReading(BaseModel):
    metric: str
    channel: int
    time: datetime
    value: float
    raw: float | None
    quality: int
    unit: str


class Superseded(BaseModel):
    """What an uplink said until it was decoded again: by whom, and those readings that gave way."""

    replaced_at: datetime
    decoded_by: str | None
    problem: str | None
    readings: list[UplinkReading]


class UplinkDetail(UplinkView):
    """With the network server's message as it came (base64, null when not kept), what was read from it, and
    what was read from it before, newest first."""

    message: str | None
    readings: list[UplinkReading]
    superseded: list[Superseded]


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_uplinks(
    page: Paging, db: Db, start: From = None, end: To = None, device: DevEui | None = None
) -> Page[UplinkView]:
    """Uplinks, newest first."""
    check_span(start, end)
    where = Where(fetch=page.fetch)
    where.add("u.device_id = (SELECT id FROM device WHERE dev_eui = %(device)s)", device=device)
    where.add("u.time >= %(start)s", start=start)
    where.add("u.time < %(end)s", end=end)
    where.after(
        "u.time <= %(after_time)s AND (u.time, u.dedup_key) < (%(after_time)s, %(after_dedup_key)s)",
        _KEYSET.after(page.cursor),
    )
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[UplinkView.model_validate(_shown(row)) for row in shown], next=following)


@router.get("/{id}", dependencies=[Depends(require("viewer"))])
async def get_uplink(id: RowId, db: Db) -> UplinkDetail:
    """One uplink with its readings."""
    row = await (await db.execute(_ONE, (id,))).fetchone()
    if row is None:
        raise not_found("uplink", id)
    readings = await (await db.execute(_READINGS, row)).fetchall()
    superseded = await (await db.execute(_SUPERSEDED, (id,))).fetchall()
    message = row["message"] if row["message"] is not None else await messages.find(db, row["id"])
    told = None if message is None else base64.b64encode(message).decode()
    return UplinkDetail.model_validate(
        {**_shown(row), "message": told, "readings": readings, "superseded": superseded}
    )


def _shown(row: Row) -> Row:
    flags = UplinkFlag(row["flags"])
    source = "device"
    if UplinkFlag.ASSIGNED_TIME in flags:
        source = "assigned"
    elif UplinkFlag.NETWORK_TIME in flags:
        source = "network"
    return {
        **row,
        "id": str(row["id"]),
        "time_source": source,
        "payload": base64.b64encode(row["payload"]).decode(),
        "payload_hex": row["payload"].hex(),
        "confirmed": UplinkFlag.CONFIRMED in flags,
        "simulated": UplinkFlag.SIMULATED in flags,
        "gateways": row["gateways"] or [],
    }
