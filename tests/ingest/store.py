"""A batch writer on the test's database, with codecs and messages made for the occasion."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from decoders.registry import Registry
from ingest.pipeline import parse
from ingest.transaction import BatchWriter, Committed
from telemetry.model import RawMessage
from telemetry.store import latest
from telemetry.store.pool import connect

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EUI = "aabbccddeeff0011"


class Says:
    """A codec that returns what it was made with."""

    version = "1"

    def __init__(self, codec_id: str, fields: Callable[[], dict[Any, Any]]) -> None:
        self.id = codec_id
        self._fields = fields

    def decode(self, f_port: int, payload: bytes) -> dict[Any, Any]:
        return self._fields()

    def encode(self, fields: Any) -> tuple[int, bytes]:
        raise NotImplementedError


def registry(**codecs: Callable[[], dict[Any, Any]]) -> Registry:
    return Registry({name: Says(name, fields) for name, fields in codecs.items()}, ())


@contextmanager
def writer(url: str, codecs: Registry | None = None) -> Iterator[Callable[..., Committed]]:
    """`commit(message, …)` writes one batch."""
    made = BatchWriter(
        lambda: connect(url, application="test"),
        writer="test",
        codecs=codecs or registry(),
        keep_messages=True,
    )
    try:
        yield lambda *messages: made.commit([(m, parse(m, 262_144)) for m in messages])
    finally:
        made.close()


def up(
    key: str, *, eui: str = EUI, at: datetime = NOW, time: datetime | str = NOW, **more: Any
) -> RawMessage:
    """A ChirpStack uplink that arrived `at`."""
    body = {
        "deduplicationId": key,
        "time": time if isinstance(time, str) else time.isoformat(),
        "deviceInfo": {"devEui": eui},
        "fPort": 2,
        "data": "AQIDBA==",
        **more,
    }
    return RawMessage(f"application/1/device/{eui}/event/up", json.dumps(body).encode(), at)


def adopt(database: psycopg.Connection[Any], eui: str, codec: str) -> None:
    """The device as one whose codec's field `x` is a water level."""
    database.execute(
        "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
        " VALUES (%s, 'v', 'm', %s, 60, %s)",
        (codec, codec, Jsonb([{"field": "x", "metric": "water.level"}])),
    )
    database.execute(
        "INSERT INTO device (dev_eui, status, device_type) VALUES (%s, 'active', %s)"
        " ON CONFLICT (dev_eui) DO UPDATE SET status = 'active', device_type = excluded.device_type",
        (eui, codec),
    )


async def keep_latest(url: str) -> None:
    """Bring table `latest` up to date, as the service does beside the writers."""
    connecting = psycopg.AsyncConnection.connect(url, row_factory=dict_row, autocommit=True)
    async with await connecting as connection:
        while await latest.step(connection):
            pass
