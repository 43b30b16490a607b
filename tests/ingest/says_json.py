"""A device whose frames carry the fields themselves, as JSON."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from decoders.registry import Registry
from telemetry.model import RawMessage
from tests.ingest.store import EUI, NOW, up


class SaysJson:
    id = "json"
    version = "1"

    def decode(self, f_port: int, payload: bytes) -> dict[Any, Any]:
        fields: dict[Any, Any] = json.loads(payload)
        return fields

    def encode(self, fields: Any) -> tuple[int, bytes]:
        raise NotImplementedError


CODECS = Registry({"json": SaysJson()}, ())


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def frame(key: str, minutes: float, fields: dict[str, Any], *, eui: str = EUI) -> RawMessage:
    """An uplink of that many minutes after `NOW`."""
    data = base64.b64encode(json.dumps(fields).encode()).decode()
    return up(key, eui=eui, time=at(minutes), at=at(100_000), data=data)


def register(
    database: psycopg.Connection[Any], *entries: dict[str, Any], eui: str = EUI, type_: str = "says-json"
) -> int:
    """An active device with this map; returns its id."""
    database.execute(
        "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
        " VALUES (%s, 'v', 'm', 'json', 60, %s) ON CONFLICT (id) DO NOTHING",
        (type_, Jsonb(list(entries))),
    )
    row = database.execute(
        "INSERT INTO device (dev_eui, status, device_type) VALUES (%s, 'active', %s) RETURNING id",
        (eui, type_),
    ).fetchone()
    assert row is not None
    return int(row["id"] if isinstance(row, dict) else row[0])
