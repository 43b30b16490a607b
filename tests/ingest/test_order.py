"""The same messages in any order, however split or repeated, give the same rows."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decoders.registry import load_codecs
from ingest.pipeline import parse
from ingest.transaction import BatchWriter
from quantrac.seed import seed
from telemetry.model import RawMessage
from telemetry.store.pool import connect
from tests.ingest.store import keep_latest
from tests.samples import formats, samples

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# The same events as in JSON, with the same keys: of both forms the first would stay.
PROTOBUF = "chirpstack_v4_protobuf"
SAMPLES = samples(*(name for name in formats() if name != PROTOBUF))
UP = next(s for s in SAMPLES if s.name == "chirpstack_v4/up_full")
TABLES = {
    "uplink": "time, dedup_key, device_id, f_cnt, f_port, payload, decoded_by, problem, fields, flags,"
    # LORIOT tells a frame twice, with one gateway and with all; the first stays.
    " CASE WHEN network <> 'loriot' THEN rssi END",
    "reading": "time, device_id, metric_id, channel, value, quality",
    "event": "time, dedup_key, kind, data, message",
    "reject": "key, reason, field, detail, message",
    "latest": "device_id, seen_at, newest, readings",
}


def _up(number: int) -> RawMessage:
    body = {
        **UP.body,
        "deduplicationId": f"00000000-0000-0000-0000-{number:012}",
        "time": (NOW - timedelta(minutes=7 * (number % 5) + number)).isoformat(),
        "fCnt": number,
        # Temperature alone in every third frame, so that `latest` has series of different ages.
        "data": "AWdzAA==" if number % 3 else "AXVcA2c0AQRoZQ==",
    }
    return RawMessage(UP.topic, json.dumps(body).encode(), NOW)


BINARY = [RawMessage(s.topic, s.payload, NOW) for s in samples(PROTOBUF)]
MESSAGES = [
    *(RawMessage(s.topic, s.payload, NOW) for s in SAMPLES),
    *(_up(n) for n in range(12)),
    RawMessage(UP.topic, b"{", NOW),
    RawMessage("elsewhere", b"\xff", NOW),
]
DEVICES = sorted({eui for m in [*MESSAGES, *BINARY] if (eui := parse(m, 262_144).dev_eui)})


class Store:
    """The tables, and two writers on them as two ingest processes have them."""

    def __init__(self, url: str) -> None:
        seed(url)
        self.url = url
        self.database = psycopg.connect(url, autocommit=True)
        codecs = load_codecs()
        self.writers = [
            BatchWriter(
                lambda: connect(url, application="test"), writer=name, codecs=codecs, keep_messages=True
            )
            for name in ("one", "two")
        ]

    def reset(self) -> None:
        self.database.execute(f"TRUNCATE {', '.join(TABLES)}, untimed, device RESTART IDENTITY CASCADE")  # type: ignore[arg-type]
        self.database.execute(
            "INSERT INTO device (dev_eui, status, device_type)"
            " VALUES ('24e124136b502217', 'active', 'milesight-em300')"
        )
        # Ids are given in order of appearance; here they must not depend on it.
        self.database.execute(
            "INSERT INTO device (dev_eui) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (DEVICES,)
        )

    def write(self, batches: list[tuple[int, list[RawMessage]]]) -> dict[str, list[Any]]:
        self.reset()
        for number, (writer, batch) in enumerate(batches):
            self.writers[writer].commit([(m, parse(m, 262_144)) for m in batch])
            if number == len(batches) // 2:
                asyncio.run(keep_latest(self.url))
        asyncio.run(keep_latest(self.url))
        return {
            table: self.database.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall()  # type: ignore[arg-type]
            for table, columns in TABLES.items()
        }

    def close(self) -> None:
        for writer in self.writers:
            writer.close()
        self.database.close()


@pytest.fixture
def store(database_url: str) -> Any:
    made = Store(database_url)
    yield made
    made.close()


@st.composite
def deliveries(draw: st.DrawFn, count: int) -> list[tuple[int, list[int]]]:
    """Each of so many numbers at least once, shuffled, some again, cut into batches of two writers."""
    numbers = range(count)
    repeats = draw(st.lists(st.sampled_from(numbers), max_size=15))
    left = draw(st.permutations([*numbers, *repeats]))
    batches = []
    while left:
        size = draw(st.integers(1, 20))
        batches.append((draw(st.integers(0, 1)), left[:size]))
        left = left[size:]
    return batches


@pytest.mark.parametrize(
    ("messages", "rows"),
    [
        (MESSAGES, {"uplink": 30, "reading": 35, "event": 21, "reject": 2, "latest": 10}),
        (BINARY, {"uplink": 3, "reading": 8, "event": 8, "reject": 0, "latest": 1}),
    ],
    ids=["every other format", "protobuf"],
)
def test_order_splits_and_repeats_do_not_matter(
    messages: list[RawMessage], rows: dict[str, int], store: Store
) -> None:
    expected = store.write([(0, messages)])
    assert {table: len(found) for table, found in expected.items()} == rows

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(deliveries(len(messages)))
    def check(batches: list[tuple[int, list[int]]]) -> None:
        assert store.write([(w, [messages[n] for n in some]) for w, some in batches]) == expected

    check()
