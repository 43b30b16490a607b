"""Vendors' JavaScript codecs in the pipeline: real workers, the real database."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg.types.json import Jsonb

from decoders.javascript.workers import JsWorkers
from decoders.registry import Registry
from ingest.batcher import Batcher
from ingest.codecs import open_codecs
from ingest.javascript import JavaScript
from ingest.layout import Item
from ingest.pipeline import parse
from ingest.redecode import Redecoder
from ingest.retry import Retrier
from ingest.settings import IngestSettings
from ingest.transaction import BatchWriter
from telemetry.clock import ManualClock
from telemetry.codec_version import codec_version
from telemetry.model import RawMessage
from telemetry.store.codecs import add_codec
from telemetry.store.pool import connect
from tests.ingest.conftest import Running
from tests.ingest.store import EUI, NOW, registry, up
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
ONE, TWO, NATIVE = "0000000000000001", "0000000000000002", "00000000000000aa"
FIRST = "function decodeUplink(i) { return {data: {x: i.bytes[0]}}; }"
TENFOLD = "function decodeUplink(i) { return {data: {x: i.bytes[0] * 10}}; }"
HANGS = "function decodeUplink(i) { while (i.bytes[0] === 255) {} return {data: {x: i.bytes[0]}}; }"
LEVEL = [{"field": "x", "metric": "water.level"}]


@pytest.fixture
def workers() -> Iterator[JsWorkers]:
    with JsWorkers() as workers:
        yield workers


@pytest.fixture
def javascript(workers: JsWorkers) -> JavaScript:
    return JavaScript(workers)


@pytest.fixture
def writer(database_url: str, javascript: JavaScript) -> Iterator[BatchWriter]:
    made = new_writer(database_url, javascript)
    yield made
    made.close()


def new_writer(url: str, javascript: JavaScript, codecs: Registry | None = None) -> BatchWriter:
    return BatchWriter(
        lambda: connect(url, application="test"),
        writer="test",
        codecs=codecs or registry(native=lambda: {"x": 1.5}),
        keep_messages=True,
        javascript=javascript,
    )


def add(database: Database, source: str, id_: str = "acme") -> str:
    """Returns the stamp of frames it decodes."""
    with database.transaction(), psycopg.Cursor(database) as cursor:
        cursor.row_factory = psycopg.rows.tuple_row  # type: ignore[assignment]
        add_codec(cursor, id_, source)
    return f"{id_}@{codec_version(source)}"


def adopt(database: Database, *euis: str, type_: str = "acme", mapping: Any = LEVEL, **columns: Any) -> None:
    """Devices of a type that names the codec of the same id."""
    values = {"id": type_, "codec": type_, "mapping": Jsonb(mapping), "codecs": Jsonb([]), **columns}
    database.execute(
        f"INSERT INTO device_type (vendor, model, expected_interval, {', '.join(values)})"
        f" VALUES ('v', 'm', 60, {', '.join(f'%({name})s' for name in values)})",
        values,
    )
    for eui in euis:
        database.execute(
            "INSERT INTO device (dev_eui, status, device_type) VALUES (%s, 'active', %s)"
            " ON CONFLICT (dev_eui) DO UPDATE SET status = 'active', device_type = excluded.device_type",
            (eui, type_),
        )


def frame(number: int, byte: int | None = None, *, eui: str = ONE, **more: Any) -> RawMessage:
    """Frame `number`, whose payload is one byte."""
    data = base64.b64encode(bytes([number % 250 if byte is None else byte])).decode()
    return up(
        f"{eui}-{number}", eui=eui, time=NOW + timedelta(seconds=number), fCnt=number, data=data, **more
    )


def items(*messages: RawMessage) -> list[Item]:
    return [(message, parse(message, 262_144)) for message in messages]


def frames(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    rows = database.execute(f"SELECT {', '.join(columns)} FROM uplink ORDER BY time, id").fetchall()
    return [tuple(_codec(name, value) for name, value in row.items()) for row in rows]


def _codec(column: str, value: Any) -> Any:
    """Of a stamp only the codec and its version."""
    return value.partition("/")[0] if column == "decoded_by" and value is not None else value


def values(database: Database) -> list[float]:
    return [row["value"] for row in database.execute("SELECT value FROM reading ORDER BY time").fetchall()]


def rejects(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    rows = database.execute(f"SELECT {', '.join(columns)} FROM reject ORDER BY id").fetchall()
    return [tuple(row.values()) for row in rows]


def retry(database: Database, url: str, javascript: JavaScript) -> None:
    database.execute("UPDATE reject SET state = 'waiting'")
    Retrier(
        lambda: connect(url, application="test"),
        writer="retry",
        codecs=registry(),
        keep_messages=True,
        max_message=262_144,
        clock=ManualClock(NOW),
        javascript=javascript,
    ).run_waiting()


def decode_again(database: Database, url: str, javascript: JavaScript, eui: str = ONE) -> None:
    database.execute(
        "INSERT INTO decode_job (device_id, requested_by) SELECT id, 'test' FROM device WHERE dev_eui = %s",
        (eui,),
    )
    Redecoder(
        lambda: connect(url, application="test"), writer="again", codecs=registry(), javascript=javascript
    ).run_waiting()


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_frames_are_decoded_as_they_come(database: Database, writer: BatchWriter) -> None:
    stamp = add(database, FIRST)
    adopt(database, ONE)
    calls = metric("quantrac_codec_calls_total")
    assert writer.commit(items(frame(1), frame(2))).written == (2, 2, 0, 0)
    batch = items(frame(3), frame(3), frame(4))
    prepared = writer.prepare(batch)
    assert prepared
    assert len(prepared.pending) == 2
    assert writer.commit(batch, prepared) == ((2, 2, 0, 0), 1)
    assert frames(database, "decoded_by", "problem", "fields") == [
        (stamp, None, {"x": number}) for number in (1, 2, 3, 4)
    ]
    assert values(database) == [1, 2, 3, 4]
    assert metric("quantrac_codec_calls_total") == calls + 4
    assert metric("quantrac_codec_seconds_count") >= 4


async def test_beside_native_ones_through_the_batcher(
    database: Database, database_url: str, javascript: JavaScript
) -> None:
    add(database, FIRST)
    adopt(database, ONE, TWO)
    adopt(database, NATIVE, type_="native")
    writer = new_writer(database_url, javascript)
    batcher = Batcher(writer, batch_size=50, max_message=262_144)
    futures = [batcher.submit(frame(n, eui=(ONE, TWO, NATIVE)[n % 3])) for n in range(240)]
    await asyncio.gather(*futures)
    assert await batcher.close(20)
    assert values(database) == [1.5 if n % 3 == 2 else n % 250 for n in range(240)]
    ids = [id_ for (id_,) in frames(database, "id")]
    assert len(set(ids)) == 240


def test_the_frames_own_time_is_what_the_codec_sees(
    database: Database, database_url: str, writer: BatchWriter, javascript: JavaScript
) -> None:
    add(database, "function decodeUplink(i) { return {data: {x: i.recvTime.getTime(), now: Date.now()}}; }")
    writer.commit(items(frame(1)))
    adopt(database, ONE)
    decode_again(database, database_url, javascript)
    writer.commit(items(frame(2)))
    times = [(NOW + timedelta(seconds=number)).timestamp() * 1000 for number in (1, 2)]
    assert [fields for (fields,) in frames(database, "fields")] == [{"x": t, "now": t} for t in times]


def test_what_a_codec_says_against_a_frame_is_its_problem(database: Database, writer: BatchWriter) -> None:
    stamp = add(
        database,
        """function decodeUplink(i) {
            if (i.bytes[0] === 1) return {errors: ['too short', 'and wrong']};
            if (i.bytes[0] === 2) throw new Error('no such port');
            if (i.bytes[0] === 3) return {data: {x: 3}, warnings: ['battery low']};
            return {data: {x: 'wet', y: ['a\\u0000']}};
        }""",
    )
    adopt(database, ONE)
    refused = metric("quantrac_codec_failures_total", reason="refused")
    threw = metric("quantrac_codec_failures_total", reason="threw")
    assert writer.commit(items(*(frame(n) for n in (1, 2, 3, 4)))).written == (4, 1, 0, 0)
    told = frames(database, "decoded_by", "problem", "fields")
    assert {by for by, _, _ in told} == {stamp}
    assert told[0][1:] == ("too short; and wrong", None)
    assert "no such port" in told[1][1]
    assert told[2][1:] == ("warning: battery low", {"x": 3})
    assert told[3][1:] == ("x: not a number: 'wet'", {"x": "wet", "y": ["a"]})
    assert rejects(database, "id") == []
    assert metric("quantrac_codec_failures_total", reason="refused") == refused + 1
    assert metric("quantrac_codec_failures_total", reason="threw") == threw + 1


def test_a_hanging_codec_costs_its_own_frame(database: Database, writer: BatchWriter) -> None:
    stamp = add(database, HANGS)
    add(database, FIRST, "other")
    adopt(database, ONE)
    adopt(database, TWO, type_="other")
    adopt(database, NATIVE, type_="native")
    timeouts = metric("quantrac_codec_failures_total", reason="timeout")
    counted = metric("quantrac_ingest_rejected_total", reason="codec_timeout")
    batch = items(
        *(frame(n, 255 if n == 20 else n, eui=ONE) for n in range(50)),
        *(frame(n, eui=TWO) for n in range(50, 60)),
        *(frame(n, eui=NATIVE) for n in range(60, 70)),
    )
    assert writer.commit(batch, writer.prepare(batch)) == ((70, 69, 0, 0), 0)
    told = {f_cnt: (by, problem) for f_cnt, by, problem in frames(database, "f_cnt", "decoded_by", "problem")}
    by, problem = told.pop(20)
    assert by is None
    assert problem.startswith(f"{stamp}: ")
    assert {problem for _, problem in told.values()} == {None}
    assert values(database) == [*range(20), *range(21, 60), *[1.5] * 10]
    assert rejects(database, "reason", "detail", "dev_eui", "network", "state", "message") == [
        ("codec_timeout", problem, ONE, "chirpstack-v4", "open", batch[20][0].payload)
    ]
    assert metric("quantrac_codec_failures_total", reason="timeout") == timeouts + 1
    assert metric("quantrac_ingest_rejected_total", reason="codec_timeout") == counted + 1


def test_a_codec_in_quarantine_leaves_rejects_too(database: Database, writer: BatchWriter) -> None:
    add(database, HANGS)
    adopt(database, ONE)
    assert writer.commit(items(*(frame(n, 255) for n in range(5)))).written == (5, 0, 0, 0)
    reasons = sorted(reason for (reason,) in rejects(database, "reason"))
    assert reasons == ["codec_quarantine"] * 3 + ["codec_timeout"] * 2


def test_a_stored_frame_that_comes_again_and_times_out_leaves_no_reject(
    database: Database, writer: BatchWriter
) -> None:
    add(database, FIRST)
    adopt(database, ONE)
    writer.commit(items(frame(1, 255)))
    add(database, HANGS)
    assert writer.commit(items(frame(1, 255), frame(2, 7))).written == (1, 1, 0, 0)
    assert rejects(database, "id") == []
    assert values(database) == [255, 7]


async def test_a_worker_that_is_killed_costs_nothing(
    database: Database, workers: JsWorkers, writer: BatchWriter
) -> None:
    add(
        database,
        "function decodeUplink(i) { for (var n = 0; n < 2e5; n++); return {data: {x: i.bytes[0]}}; }",
    )
    adopt(database, ONE)
    lost = metric("quantrac_codec_workers_lost_total", reason="crashed")
    committing = asyncio.create_task(asyncio.to_thread(writer.commit, items(*(frame(n) for n in range(200)))))
    (pid,) = await until(workers.pids)
    os.kill(pid, signal.SIGKILL)
    assert (await committing).written == (200, 200, 0, 0)
    assert values(database) == list(range(200))
    assert {by for (by,) in frames(database, "decoded_by")} != {None}
    assert workers.counts().lost["crashed"] == 1
    assert metric("quantrac_codec_workers_lost_total", reason="crashed") == lost + 1


def test_without_workers_the_frames_are_stored_and_can_be_retried(
    database: Database, database_url: str, workers: JsWorkers, writer: BatchWriter
) -> None:
    add(database, FIRST)
    adopt(database, ONE)
    workers.close()
    assert writer.commit(items(frame(7))).written == (1, 0, 0, 0)
    assert rejects(database, "reason") == [("codec_crash",)]
    with JsWorkers() as others:
        retry(database, database_url, JavaScript(others))
    assert (values(database), rejects(database, "state")) == ([7], [("retried",)])


def test_a_new_version_decodes_the_next_batch(database: Database, writer: BatchWriter) -> None:
    old = add(database, FIRST)
    adopt(database, ONE)
    writer.commit(items(frame(1)))
    batch = items(frame(2))
    prepared = writer.prepare(batch)
    new = add(database, TENFOLD)
    writer.commit(batch, prepared)
    assert frames(database, "decoded_by") == [(old,), (new,)]
    database.execute("UPDATE device_type SET codec_version = %s", (old.partition("@")[2],))
    writer.commit(items(frame(3)))
    assert values(database) == [1, 20, 3]


def test_the_registry_may_move_while_a_codec_runs(
    database: Database, writer: BatchWriter, javascript: JavaScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(database, FIRST)
    adopt(database, ONE)
    writer.commit(items(frame(1)))
    run, moves = javascript.run, [TENFOLD]

    def moving(calls: Any) -> Any:
        if moves:
            add(database, moves.pop())
        return run(calls)

    monkeypatch.setattr(javascript, "run", moving)
    batch = items(frame(2))
    writer.commit(batch, writer.prepare(batch))
    assert values(database) == [1, 20]


def test_the_codec_that_fits_firmware_and_time(database: Database, writer: BatchWriter) -> None:
    first, tenfold = add(database, FIRST), add(database, TENFOLD)
    since = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC).isoformat()
    choices = [
        {"codec": "acme", "version": first.partition("@")[2], "firmware": "1.0"},
        {"codec": "acme", "version": "0123456789abcdef", "firmware": "2.0"},
        {"codec": "native", "from": since},
    ]
    adopt(database, ONE, TWO, EUI, codecs=Jsonb(choices))
    database.execute("UPDATE device SET firmware = 'v1.0' WHERE dev_eui = %s", (ONE,))
    database.execute("UPDATE device SET firmware = '2.0' WHERE dev_eui = %s", (TWO,))
    writer.commit(items(frame(1), frame(2, eui=TWO), frame(3, eui=EUI), frame(40, eui=EUI), frame(41)))
    told = frames(database, "decoded_by", "problem")
    assert [by for by, _ in told] == [first, None, tenfold, "native@1", first]
    assert "codec 'acme' has no version 0123456789abcdef" in told[1][1]
    assert values(database) == [1, 30, 1.5, 41]


def test_fields_that_nobody_mapped_are_kept(database: Database, writer: BatchWriter) -> None:
    stamp = add(database, FIRST)
    adopt(database, ONE, mapping=[])
    adopt(database, TWO, type_="none", codec="", mapping=[])
    assert writer.commit(items(frame(5), frame(6, eui=TWO))).written == (2, 0, 0, 0)
    assert frames(database, "decoded_by", "problem", "fields") == [
        (stamp, None, {"x": 5}), (None, "device type none has no codec", None),
    ]  # fmt: skip


def test_without_workers_of_its_own_a_writer_says_so(database: Database, database_url: str) -> None:
    add(database, FIRST)
    adopt(database, ONE)
    made = BatchWriter(
        lambda: connect(database_url, application="test"),
        writer="test",
        codecs=registry(),
        keep_messages=True,
    )
    made.commit(items(frame(1)))
    made.close()
    assert frames(database, "decoded_by", "problem") == [
        (None, "device type acme: codec 'acme' is JavaScript, which is not run here")
    ]


def test_a_folder_of_codecs(database: Database, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "acme.js").write_text(TENFOLD)
    (tmp_path / "bad.js").write_text("function (")
    add(database, FIRST)
    adopt(database, ONE)
    codecs = open_codecs(IngestSettings(codecs_dir=str(tmp_path)))
    (problem,) = (line for line in codecs.registry.problems if "bad.js" in line)
    assert "acme.js" not in problem
    made = new_writer(database_url, codecs.javascript, codecs.registry)
    made.commit(items(frame(1)))
    made.close()
    codecs.javascript.close()
    assert frames(database, "decoded_by") == [(f"acme@{codec_version(TENFOLD)}",)]
    assert values(database) == [10]


def test_a_timed_out_frame_that_is_retried_ends_with_its_readings_once(
    database: Database, database_url: str, writer: BatchWriter, javascript: JavaScript
) -> None:
    add(database, HANGS)
    adopt(database, ONE)
    writer.commit(items(frame(1, 255), frame(2)))
    retry(database, database_url, javascript)
    assert rejects(database, "state", "reason", "tries") == [("open", "codec_timeout", 1)]
    stamp = add(database, FIRST)
    for _ in range(2):
        retry(database, database_url, javascript)
        assert rejects(database, "state", "reason") == [("retried", "codec_timeout")]
        assert values(database) == [255, 2]
    assert frames(database, "decoded_by", "problem")[0] == (stamp, None)
    assert database.execute("SELECT uplinks, readings FROM lane WHERE writer = 'retry'").fetchall() == [
        {"uplinks": 0, "readings": 1}
    ]


def test_a_retried_frame_that_the_codec_refuses_is_done(
    database: Database, database_url: str, writer: BatchWriter, javascript: JavaScript
) -> None:
    add(database, HANGS)
    adopt(database, ONE)
    writer.commit(items(frame(1, 255)))
    stamp = add(database, "function decodeUplink() { return {errors: ['no such frame']}; }")
    retry(database, database_url, javascript)
    assert rejects(database, "state") == [("retried",)]
    assert frames(database, "decoded_by", "problem") == [(stamp, "no such frame")]


def test_a_retried_message_that_is_stored_only_now(
    database: Database, database_url: str, writer: BatchWriter, javascript: JavaScript
) -> None:
    add(database, HANGS)
    adopt(database, ONE)
    writer.commit([(message, parse(message, 10)) for message in (frame(1, 255), frame(2))])
    assert rejects(database, "reason") == [("too_large",)] * 2
    retry(database, database_url, javascript)
    assert [state for state, reason in rejects(database, "state", "reason")] == ["open", "retried"]
    assert values(database) == [2]
    add(database, FIRST)
    retry(database, database_url, javascript)
    assert rejects(database, "state") == [("retried",)] * 2
    assert values(database) == [255, 2]


def test_a_job_and_a_retry_give_a_frame_its_readings_once(
    database: Database, database_url: str, writer: BatchWriter, javascript: JavaScript
) -> None:
    add(database, HANGS)
    adopt(database, ONE)
    writer.commit(items(frame(1, 255)))
    add(database, FIRST)
    decode_again(database, database_url, javascript)
    retry(database, database_url, javascript)
    assert (values(database), rejects(database, "state")) == ([255], [("retried",)])


def test_frames_of_before_a_device_was_adopted(
    database: Database, database_url: str, writer: BatchWriter, javascript: JavaScript
) -> None:
    add(database, HANGS)
    writer.commit(items(*(frame(n, 255 if n == 3 else n) for n in range(20))))
    adopt(database, ONE)
    decode_again(database, database_url, javascript)
    assert values(database) == [n for n in range(20) if n != 3]
    add(database, FIRST)
    decode_again(database, database_url, javascript)
    assert values(database) == [255 if n == 3 else n for n in range(20)]
    jobs = database.execute("SELECT state, untouched, error FROM decode_job ORDER BY id").fetchall()
    assert [(row["state"], row["untouched"]) for row in jobs] == [("failed", 1), ("done", 0)]
    assert "its time was up" in jobs[0]["error"]


async def test_live(database: Database, ingest: Running, publisher: aiomqtt.Client, tmp_path: Path) -> None:
    (tmp_path / "tenfold.js").write_text(TENFOLD)
    add(database, FIRST)
    adopt(database, ONE)
    adopt(database, TWO, type_="tenfold")
    async with ingest(codecs_dir=str(tmp_path)):
        for n in range(20):
            message = frame(n, eui=(ONE, TWO)[n % 2])
            await publisher.publish(message.topic, message.payload, qos=1)
        await until(lambda: len(values(database)) == 20)
    assert values(database) == [n * (1, 10)[n % 2] for n in range(20)]
