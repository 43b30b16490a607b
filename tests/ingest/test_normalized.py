"""Normalized payloads in the pipeline: real workers, the real database."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from decoders.javascript.workers import JsWorkers
from ingest.increments import IncrementJob
from ingest.javascript import JavaScript
from ingest.pipeline import parse
from ingest.redecode import Redecoder
from ingest.retry import Retrier
from ingest.transaction import BatchWriter
from telemetry.clock import ManualClock
from telemetry.model import RawMessage, Uplink
from telemetry.store.codecs import add_codec
from telemetry.store.pool import Pool, connect
from tests.ingest.redecoding import redecode
from tests.ingest.says_json import CODECS
from tests.ingest.store import NOW
from tests.samples import samples

Database = psycopg.Connection[dict[str, Any]]
EUI, OTHER = "70b3d52dd600035a", "70b3d52dd600035b"
(SAMPLE,) = (sample for sample in samples("tts_v3") if sample.name == "tts_v3/up")
STAMP = "normalized_payload@1"
AIR = [{"air": {"temperature": 21.5}, "battery": 3.4}]
DECODES = "function decodeUplink(i) { return {data: {t: i.bytes[0]}}; }"
HALVES = (
    f"{DECODES} function normalizeUplink(i) {{ return {{data: {{air: {{temperature: i.data.t / 2}}}}}}; }}"
)


@pytest.fixture
def workers() -> Iterator[JsWorkers]:
    with JsWorkers() as workers:
        yield workers


@pytest.fixture
def writer(database_url: str, workers: JsWorkers) -> Iterator[BatchWriter]:
    made = new_writer(database_url, workers)
    yield made
    made.close()


def new_writer(url: str, workers: JsWorkers) -> BatchWriter:
    return BatchWriter(
        lambda: connect(url, application="test"),
        writer="test",
        codecs=CODECS,
        keep_messages=True,
        javascript=JavaScript(workers),
    )


def adopt(database: Database, codec: str, *entries: dict[str, Any], eui: str = EUI) -> None:
    """A device of a type with this codec and map."""
    database.execute(
        "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
        " VALUES (%s, 'v', 'm', %s, 60, %s) ON CONFLICT (id) DO NOTHING",
        (f"{codec or 'no'}-type", codec, Jsonb(list(entries))),
    )
    database.execute(
        "INSERT INTO device (dev_eui, status, device_type) VALUES (%s, 'active', %s)"
        " ON CONFLICT (dev_eui) DO UPDATE SET status = 'active', device_type = excluded.device_type",
        (eui, f"{codec or 'no'}-type"),
    )


def add(database: Database, source: str) -> None:
    with database.transaction(), psycopg.Cursor(database) as cursor:
        cursor.row_factory = psycopg.rows.tuple_row  # type: ignore[assignment]
        add_codec(cursor, "acme", source)


def up(
    minutes: float, normalized: Any = None, payload: bytes = b"\x2a", *, eui: str = EUI, raw: str = ""
) -> RawMessage:
    """An uplink of The Things Stack; `raw` is the text of its normalized payload."""
    time = NOW + timedelta(minutes=minutes)
    message = {
        "session_key_id": "s",
        "f_port": 2,
        "f_cnt": 1,
        "frm_payload": base64.b64encode(payload).decode(),
        "received_at": time.isoformat(),
        **({} if normalized is None else {"normalized_payload": normalized}),
        **({"normalized_payload": "@"} if raw else {}),
    }
    ids = {"device_id": eui, "dev_eui": eui.upper(), "application_ids": {"application_id": "a"}}
    body = json.dumps({"end_device_ids": ids, "received_at": time.isoformat(), "uplink_message": message})
    return RawMessage(f"v3/a@t/devices/{eui}/up", body.replace('"@"', raw).encode(), time + timedelta(days=1))


def commit(writer: BatchWriter, *messages: RawMessage) -> None:
    batch = [(message, parse(message, 262_144)) for message in messages]
    assert all(isinstance(outcome, Uplink) for _, outcome in batch)
    writer.commit(batch, writer.prepare(batch))


def readings(database: Database, eui: str = EUI) -> list[tuple[float, str, int, float]]:
    """(minute, metric, channel, value)."""
    rows = database.execute(
        "SELECT r.time, m.key, r.channel, r.value FROM reading r JOIN metric m ON m.id = r.metric_id"
        " JOIN device d ON d.id = r.device_id WHERE d.dev_eui = %s ORDER BY 1, 2, 3, 4",
        (eui,),
    ).fetchall()
    return [((r["time"] - NOW).total_seconds() / 60, r["key"], r["channel"], r["value"]) for r in rows]


def frames(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    rows = database.execute(f"SELECT {', '.join(columns)} FROM uplink ORDER BY time, id").fetchall()
    return [tuple(_shown(*cell) for cell in row.items()) for row in rows]


def _shown(column: str, value: Any) -> Any:
    """Without the map's version."""
    return value.partition("/")[0] if column == "decoded_by" and value is not None else value


def decode_again(database: Database, url: str, workers: JsWorkers) -> None:
    database.execute(
        "INSERT INTO decode_job (device_id, requested_by) SELECT id, 'test' FROM device WHERE dev_eui = %s",
        (EUI,),
    )
    Redecoder(
        lambda: connect(url, application="test"),
        writer="again",
        codecs=CODECS,
        javascript=JavaScript(workers),
    ).run_waiting()
    assert not database.execute("SELECT FROM decode_job WHERE state <> 'done'").rowcount


def test_the_sample_without_a_codec(database: Database, writer: BatchWriter) -> None:
    adopt(database, "")
    message = RawMessage(SAMPLE.topic, SAMPLE.payload, NOW)
    commit(writer, message)
    assert [row[1:] for row in readings(database)] == [
        ("air.temperature", 0, 21.5),
        ("battery.voltage", 0, 3.4),
    ]
    assert frames(database, "decoded_by", "problem", "fields", "normalized") == [(STAMP, None, None, AIR)]
    commit(writer, message)
    assert len(readings(database)) == 2


def test_without_either(database: Database, writer: BatchWriter) -> None:
    adopt(database, "")
    commit(writer, up(0), up(1, []), up(2, AIR, b""))
    assert readings(database) == []
    assert frames(database, "decoded_by", "problem", "normalized") == [
        (None, "device type no-type has no codec", None),
        (None, "device type no-type has no codec", None),
        (STAMP, "payload: empty", AIR),
    ]


def test_the_map_goes_first(database: Database, writer: BatchWriter) -> None:
    log = {"list": "log", "time": "t", "clock": "iso"}
    adopt(
        database, "json",
        {"field": "a", "metric": "air.temperature", "channel": 3},
        {"field": "h", "metric": "air.humidity", "records": log},
    )  # fmt: skip
    normalized = [{"air": {"temperature": 1, "relativeHumidity": 2, "pressure": 1000}}]
    commit(writer, up(0, normalized, b'{"a": 20}'), up(1, normalized, b"{}"), up(2, normalized, b"no json"))
    assert readings(database) == [
        (0, "air.pressure", 0, 1000), (0, "air.temperature", 3, 20), (1, "air.pressure", 0, 1000)
    ]  # fmt: skip
    (_, problem), *_ = reversed(frames(database, "fields", "problem"))
    assert "codec failed" in problem


def test_the_codecs_own_goes_before_the_servers(database: Database, writer: BatchWriter) -> None:
    add(database, HALVES)
    adopt(database, "acme")
    commit(writer, up(0, AIR), up(1))
    assert readings(database) == [(0, "air.temperature", 0, 21), (1, "air.temperature", 0, 21)]
    assert frames(database, "fields", "problem", "normalized") == [
        ({"t": 42}, None, AIR), ({"t": 42}, None, None)
    ]  # fmt: skip
    add(database, DECODES)
    commit(writer, up(2, AIR))
    assert readings(database)[2:] == [(2, "air.temperature", 0, 21.5), (2, "battery.voltage", 0, 3.4)]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("throw new Error('no such mode');", "normalizeUplink: Error: no such mode (line 1)"),
        ("return {errors: ['worn out']};", "normalizeUplink: worn out"),
        ("return 7;", "normalizeUplink: normalizeUplink returned a number where an object is meant"),
        ("return {data: {}, warnings: ['w']};", "normalizeUplink: warning: w"),
        ("return {data: {air: 5, battery: 'low'}};", "normalizeUplink.0.battery: not a number: 'low'"),
    ],
)
def test_its_failure_is_its_own(database: Database, writer: BatchWriter, body: str, problem: str) -> None:
    add(database, f"{DECODES} function normalizeUplink() {{ {body} }}")
    adopt(database, "acme", {"field": "t", "metric": "water.temperature"})
    commit(writer, up(0, AIR))
    assert readings(database) == [(0, "water.temperature", 0, 42)]
    assert frames(database, "fields", "problem") == [({"t": 42}, problem)]
    assert not database.execute("SELECT FROM reject").rowcount


HOSTILE = [
    '"air"', "5", "true", "[1, null, \"x\"]", "[[[[{}]]]]", '{"air": "x"}', '{"air": {"temperature": 1e400}}',
    '{"air": {"temperature": 1' + "0" * 400 + "}}", '{"air": {"temperature": "NaN"}}',
    '{"battery": 1' + "0" * 5000 + "}", '{"air": {"temperature": "\\u0000"}, "\\u0000": "\\u0000x"}',
    '{"air": ' + "[" * 300 + "]" * 300 + "}", '{"time": "\\u0000", "battery": 1}',
    '[{"soil": {"depth": -1e308, "moisture": 1}}]',
    "[" + ",".join(['{"rain": {"intensity": "x"}}'] * 5000) + "]",
]  # fmt: skip


@pytest.mark.parametrize("codec", ["", "json"])
def test_hostile_ones_cost_only_themselves(
    database: Database, database_url: str, writer: BatchWriter, workers: JsWorkers, codec: str
) -> None:
    messages = [up(n, raw=raw, payload=b"{}") for n, raw in enumerate(HOSTILE)]
    commit(writer, *messages, up(100, AIR, b"{}"))
    adopt(database, codec)
    decode_again(database, database_url, workers)
    later = frames(database, "problem", "normalized")
    database.execute("TRUNCATE uplink, reading")
    commit(writer, *messages, up(100, AIR, b"{}"))
    assert readings(database) == [(100, "air.temperature", 0, 21.5), (100, "battery.voltage", 0, 3.4)]
    assert not database.execute("SELECT FROM reject").rowcount
    told = frames(database, "problem", "normalized")
    assert [normalized for _, normalized in told] == [normalized for _, normalized in later]
    silent = [HOSTILE.index(raw) for raw in HOSTILE if raw.startswith(('{"air": "x"', '{"air": ['))]
    assert [n for n, (problem, _) in enumerate(told) if problem is None] == [*silent, len(HOSTILE)]
    assert all(len(problem or "") <= 2000 for problem, _ in told)


def test_measurements_of_other_times(database: Database, writer: BatchWriter) -> None:
    adopt(database, "")

    def at(minutes: float, value: float) -> dict[str, Any]:
        return {"time": (NOW + timedelta(minutes=minutes)).isoformat(), "air": {"temperature": value}}

    first = up(60, [{"air": {"temperature": 6}}, at(10, 1), at(20, 2)])
    second = up(120, [{"air": {"temperature": 12}}, at(20, 2.5), at(30, 3), at(60, 6.5), at(999, 9)])
    expected = [(10, 1), (20, 2), (30, 3), (60, 6), (120, 12)]
    for order in ([first, second], [second, first]):
        database.execute("TRUNCATE uplink, reading")
        for message in order:
            commit(writer, message)
        assert readings(database) == [(minute, "air.temperature", 0, value) for minute, value in expected]
    (_, (problem,)) = frames(database, "problem")
    assert (
        problem == "normalized_payload.4.time: 2026-11-22T04:39:00Z is later than the uplink that carries it"
    )


def test_decoded_again_is_as_live(
    database: Database, database_url: str, writer: BatchWriter, workers: JsWorkers
) -> None:
    then = (NOW - timedelta(hours=1)).isoformat()
    normalized = [
        {
            "water": {"temperature": {"avg": 1.5, "current": 2}, "leak": "true"},
            "metering": {"water": {"total": 1e3}},
        },
        {"soil": {"depth": 10.0, "ec": 0.1, "pH": 7}, "time": then},
        {"soil": {"ec": 1e-7, "pH": -0.0}},
        {"battery": 1e308, "wind": {"speed": 12345678901234567890}},
    ]
    commit(writer, up(0, normalized))
    assert readings(database) == []
    adopt(database, "")
    decode_again(database, database_url, workers)
    later, told = readings(database), frames(database, "decoded_by", "problem", "normalized")
    assert len(later) == 9
    database.execute("TRUNCATE uplink, reading")
    commit(writer, up(0, normalized))
    assert (readings(database), frames(database, "decoded_by", "problem", "normalized")) == (later, told)
    decode_again(database, database_url, workers)
    assert readings(database) == later


@pytest.mark.parametrize("source", [HALVES, DECODES])
def test_a_retry_is_as_live(
    database: Database, database_url: str, writer: BatchWriter, workers: JsWorkers, source: str
) -> None:
    add(database, source)
    adopt(database, "acme")
    commit(writer, up(0, AIR))
    live, told = readings(database), frames(database, "decoded_by", "problem", "fields", "normalized")
    assert live
    database.execute("TRUNCATE uplink, reading")
    with JsWorkers() as gone:
        gone.close()
        unable = new_writer(database_url, gone)
        commit(unable, up(0, AIR))
        unable.close()
    assert readings(database) == []
    database.execute("UPDATE reject SET state = 'waiting'")
    Retrier(
        lambda: connect(database_url, application="test"),
        writer="retry",
        codecs=CODECS,
        keep_messages=True,
        max_message=262_144,
        clock=ManualClock(NOW),
        javascript=JavaScript(workers),
    ).run_waiting()
    assert readings(database) == live
    assert frames(database, "decoded_by", "problem", "fields", "normalized") == told


async def test_counters_beside_the_map_give_increments(
    database: Database, database_url: str, workers: JsWorkers, writer: BatchWriter, pool: Pool
) -> None:
    def rain(minutes: float, mm: float, eui: str = EUI) -> RawMessage:
        return up(minutes, [{"rain": {"cumulative": mm}}], eui=eui)

    job = IncrementJob(pool, writer="increments")
    adopt(database, "")
    adopt(database, "", eui=OTHER)
    for message in (up(0, AIR), rain(1, 10), rain(2, 12.5), rain(3, 12.5)):
        await asyncio.to_thread(commit, writer, message)
        while await job.step():
            pass
    grown = [row for row in readings(database) if row[1] == "rain.increment"]
    assert grown == [(2, "rain.increment", 0, 2.5), (3, "rain.increment", 0, 0)]
    version = database.execute("SELECT version FROM registry_version").fetchone()
    await asyncio.to_thread(commit, writer, rain(1, 5, OTHER), rain(2, 6, OTHER))
    while await job.step():
        pass
    assert (2, "rain.increment", 0, 1) in readings(database, OTHER)
    assert database.execute("SELECT version FROM registry_version").fetchone() == version
    database.execute("UPDATE metric SET normalized = false")
    database.execute("UPDATE uplink SET decoded_by = NULL")
    database.execute("DELETE FROM reading")
    decode_again(database, database_url, workers)
    while await job.step():
        pass
    assert [row for row in readings(database) if row[1] == "rain.increment"] == grown


async def test_a_map_written_later_takes_over(
    database: Database, database_url: str, writer: BatchWriter, pool: Pool
) -> None:
    job = IncrementJob(pool, writer="increments")
    adopt(database, "json")
    for minutes, mm in ((1, 10), (2, 12.5)):
        payload = [{"rain": {"cumulative": mm}, "air": {"temperature": 20}}]
        await asyncio.to_thread(commit, writer, up(minutes, payload, b'{"t": 21}'))
    while await job.step():
        pass
    before = readings(database)
    assert len(before) == 5
    database.execute(
        "UPDATE device_type SET mapping = %s", (Jsonb([{"field": "t", "metric": "air.temperature"}]),)
    )
    await asyncio.to_thread(redecode, database_url, "json-type")
    while await job.step():
        pass
    changed = [(*row[:3], 21) if row[1] == "air.temperature" else row for row in before]
    assert readings(database) == changed
