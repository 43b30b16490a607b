"""Filling gaps from the storage of The Things Stack, against a server that answers as it documents."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import structlog

from decoders.registry import Registry
from ingest.batcher import Batcher
from ingest.pipeline import parse
from ingest.sources import tts_storage
from ingest.sources.tts_settings import TtsStorageSettings
from ingest.sources.tts_storage import TtsBackfill
from ingest.transaction import BatchWriter
from telemetry.clock import ManualClock
from telemetry.errors import SettingsError
from telemetry.model import RawMessage
from telemetry.settings import load
from telemetry.store.pool import connect
from tests.proxy import TcpProxy
from tests.sessions import WAITING
from tests.wait import PATIENCE, until

from .storage_server import KEY, StorageServer, chunk, head, problem, stream, uplink

Database = psycopg.Connection[dict[str, Any]]
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
APP = "starter-kit"


@pytest.fixture
def server() -> Iterator[StorageServer]:
    with StorageServer() as made:
        made.uplinks[APP] = []
        yield made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts_storage, "RETRY_SECONDS", (0.02, 0.1))


class Running:
    def __init__(self, batcher: Batcher, gap: asyncio.Event) -> None:
        self.batcher = batcher
        self.gap = gap
        self.submitted: list[RawMessage] = []


Backfill = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def backfill(server: StorageServer, database_url: str, clock: ManualClock) -> Backfill:
    """`async with backfill(): …` reads the storage through a batcher of its own."""

    @asynccontextmanager
    async def running(url: str = database_url, **settings: Any) -> AsyncIterator[Running]:
        def open_connection() -> psycopg.Connection[Any]:
            return connect(url, application="test backfill")

        writer = BatchWriter(open_connection, writer="test", codecs=Registry({}, ()), keep_messages=True)
        made = Running(Batcher(writer, batch_size=100, max_message=262_144), asyncio.Event())

        def submit(message: RawMessage) -> asyncio.Future[None]:
            made.submitted.append(message)
            return made.batcher.submit(message)

        values = {"tts_storage_url": server.url, "tts_storage_applications": (APP,),
                  "tts_storage_secret": (KEY,), "tts_storage_tenant": "tenant1", **settings}  # fmt: skip
        stop = asyncio.Event()
        task = asyncio.create_task(
            TtsBackfill(TtsStorageSettings(**values), submit, open_connection, clock).run(stop, made.gap)
        )
        try:
            yield made
        finally:
            stop.set()
            await asyncio.wait_for(task, PATIENCE)
            assert await made.batcher.close(PATIENCE)

    return running


def count(database: Database, table: str = "uplink") -> int:
    row = database.execute(f"SELECT count(*) AS n FROM {table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row["n"])


def cursors(database: Database) -> dict[str, datetime]:
    rows = database.execute("SELECT source, until FROM backfill_cursor").fetchall()
    return {row["source"].rpartition("/")[2]: row["until"] for row in rows}


def settled(database: Database, application: str = APP) -> bool:
    """Whether a look came to its end: so far is read."""
    return cursors(database).get(application) == NOW - tts_storage.SETTLED


def gap(database: Database, began: datetime, ended: datetime) -> None:
    database.execute(
        "INSERT INTO ingest_gap (client_id, began_at, ended_at, why) VALUES ('c', %s, %s, 'service')",
        (began, ended),
    )


async def test_the_first_look_brings_what_is_kept_page_after_page_with_the_topics_of_mqtt(
    server: StorageServer, backfill: Backfill, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts_storage, "PAGE", 100)
    monkeypatch.setattr(tts_storage, "CHUNK", 30)
    server.add(NOW - 30 * HOUR, count=5)
    server.add(NOW - 20 * HOUR, count=450)
    async with backfill():
        await until(lambda: settled(database))
    assert count(database) == 450
    assert count(database, "reject") == 0
    row = database.execute("SELECT DISTINCT topic, network FROM uplink").fetchall()
    assert row == [{"topic": "v3/starter-kit@tenant1/devices/eui-70b3d52dd600035a/up", "network": "tts-v3"}]
    assert {r.query["limit"] for r in server.requests} == {"100"}
    assert len(server.requests) == 6


async def test_what_mqtt_brought_is_not_doubled_whichever_came_first(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.add(NOW - 2 * HOUR, count=20)
    by_mqtt = [
        RawMessage(f"v3/{APP}@tenant1/devices/eui-70b3d52dd600035a/up", json.dumps(body).encode(), NOW)
        for body in server.uplinks[APP]
    ]
    async with backfill() as running:
        for message in by_mqtt[:10]:
            await running.batcher.submit(message)
        await until(lambda: settled(database))
        for message in by_mqtt:
            await running.batcher.submit(message)
        assert len(running.submitted) >= 20
    assert count(database) == 20


async def test_simulated_uplinks_stay_simulated(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.add(NOW - HOUR, simulated=True)
    async with backfill():
        await until(lambda: settled(database))
    assert database.execute("SELECT flags & 1 AS simulated FROM uplink").fetchone() == {"simulated": 1}


async def test_a_gap_is_read_when_it_is_over_and_closed_once_it_has_settled(
    server: StorageServer, backfill: Backfill, database: Database, clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tts_storage, "SETTLED", timedelta(seconds=1))
    server.ahead = HOUR
    async with backfill(tts_storage_first_hours=0) as running:
        await until(lambda: cursors(database))
        server.add(NOW + MINUTE, count=10)
        gap(database, NOW + MINUTE, NOW + 2 * MINUTE)
        clock.set(NOW + 2 * MINUTE)
        running.gap.set()
        await until(lambda: count(database) == 10)
        asked = len(server.requests)
        server.add(NOW + timedelta(seconds=119.5))  # received within the gap, written to the storage late
        clock.set(NOW + 3 * MINUTE)
        await until(lambda: count(database) == 11)
        await until(lambda: count(database, "ingest_gap WHERE backfilled_at IS NOT NULL") == 1)
        assert len(server.requests) > asked
    assert _time(server.requests[-1].query["after"]) > NOW


async def test_a_gap_older_than_the_first_look_is_read_too(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    gap(database, NOW - 60 * HOUR, NOW - 59 * HOUR)
    server.add(NOW - 59.5 * HOUR)
    async with backfill():
        await until(lambda: count(database, "ingest_gap WHERE backfilled_at IS NOT NULL"))
    assert count(database) == 1


async def test_the_next_start_goes_on_where_the_last_one_stopped(
    server: StorageServer, backfill: Backfill, database: Database, clock: ManualClock
) -> None:
    server.add(NOW - 10 * HOUR, count=5)
    async with backfill():
        await until(lambda: settled(database))
    seen = len(server.requests)
    clock.set(NOW + HOUR)
    server.add(NOW - 9 * HOUR)  # appears far behind the remembered place: never asked for
    server.add(NOW + MINUTE, count=3)
    async with backfill():
        await until(lambda: count(database) == 8)
    assert _time(server.requests[seen].query["after"]) == NOW - tts_storage.SETTLED - tts_storage.OVERLAP


async def test_the_place_is_remembered_only_after_the_commit(
    server: StorageServer, backfill: Backfill, database: Database, database_url: str
) -> None:
    server.add(NOW - HOUR, count=5)
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE uplink IN SHARE MODE")
        async with backfill() as running:
            await until(lambda: database.execute(WAITING).rowcount)
            await until(lambda: len(running.submitted) == 5)
            assert cursors(database) == {}
            holder.rollback()
            await until(lambda: settled(database))
    assert count(database) == 5


def _too_many(handler: Any, _: list[bytes]) -> None:
    problem(handler, 429, ("x-rate-limit-retry", "1"), ("x-rate-limit-available", "0"))


def _away(handler: Any, _: list[bytes]) -> None:
    problem(handler, 503, ("retry-after", "soon"))


def _truncated(handler: Any, lines: list[bytes]) -> None:
    head(handler, 200, "text/event-stream", ("transfer-encoding", "chunked"))
    for line in lines[:3]:
        chunk(handler, line + b"\n")
    chunk(handler, lines[3][:100])
    handler.close_connection = True


def _cut_in_a_line(handler: Any, lines: list[bytes]) -> None:
    head(handler, 200, "text/event-stream", ("connection", "close"))
    handler.wfile.write(b"\n".join(lines[:2]) + b"\n" + lines[2][:-1])


def _cut_between_lines(handler: Any, lines: list[bytes]) -> None:
    head(handler, 200, "text/event-stream", ("connection", "close"))
    handler.wfile.write(b"\n".join(lines[:3]) + b"\n")


def _error_inside(handler: Any, lines: list[bytes]) -> None:
    error = {"error": {"grpc_code": 14, "http_code": 503, "message": "connection error", "details": []}}
    stream(handler, [*lines[:4], json.dumps(error).encode()])


def _hangs_up(handler: Any, _: list[bytes]) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def _endless_line(handler: Any, _: list[bytes]) -> None:
    head(handler, 200, "text/event-stream", ("connection", "close"))
    try:
        for _ in range(64):
            handler.wfile.write(b"x" * 2**20)
    except OSError:
        handler.close_connection = True


@pytest.mark.parametrize(
    "fault",
    [
        _too_many,
        _away,
        _truncated,
        _cut_in_a_line,
        _cut_between_lines,
        _error_inside,
        _hangs_up,
        _endless_line,
    ],
)
async def test_it_tries_again_until_everything_is_there(
    fault: Any, server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.add(NOW - HOUR, count=20)
    server.faults = [fault, fault]
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with backfill():
        await until(lambda: settled(database))
    assert server.faults == []
    assert count(database) == 20
    assert count(database, "reject") == 0
    if fault is _too_many:
        assert loop.time() - began >= 2


async def test_a_stream_that_always_breaks_off_still_gets_on(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.add(NOW - HOUR, count=20)
    server.faults = [_truncated] * 8
    async with backfill():
        await until(lambda: settled(database))
    assert count(database) == 20
    positions = [_time(request.query["after"]) for request in server.requests]
    assert positions == sorted(positions)
    assert positions[7] > NOW - HOUR


async def test_a_server_with_a_smaller_limit_of_its_own_is_read_to_the_end(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.most = 7
    server.add(NOW - HOUR, count=50)
    async with backfill():
        await until(lambda: settled(database))
    assert count(database) == 50


async def test_a_line_that_is_no_uplink_costs_only_itself(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.add(NOW - HOUR, count=4)
    strange = [b"{not json", b'{"result": {"end_device_ids": 5}}', b'{"result": {}}']

    def among_them(handler: Any, lines: list[bytes]) -> None:
        stream(handler, [lines[0], *strange, *lines[1:]])

    server.faults = [among_them]
    async with backfill():
        await until(lambda: settled(database))
    assert count(database) == 4
    rows = database.execute("SELECT message, source, topic FROM reject").fetchall()
    assert {row["message"] for row in rows} == {b"{not json", b'{"end_device_ids": 5}', b"{}"}
    assert {(row["source"], row["topic"]) for row in rows} == {
        ("tts-storage", f"v3/{APP}@tenant1/devices/?/up")
    }


async def test_an_application_that_cannot_be_read_is_told_with_the_cure_and_stops_no_other(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.uplinks["second"] = []
    server.add(NOW - HOUR, application="second", count=3)
    gap(database, NOW - 2 * HOUR, NOW - HOUR)
    with structlog.testing.capture_logs() as logs:
        async with backfill(
            tts_storage_applications=("nobody's", APP, "second"), tts_storage_secret=(KEY, "NNSXS.WRONG", KEY)
        ):
            await until(lambda: settled(database, "second"))
            await until(lambda: sum(log["event"] == "tts_storage_refused" for log in logs) == 2)
    assert count(database) == 3
    assert cursors(database).keys() == {"second"}
    assert count(database, "ingest_gap WHERE backfilled_at IS NULL") == 1
    refused = {log["application"]: log for log in logs if log["event"] == "tts_storage_refused"}
    assert "right to read application traffic" in refused["nobody's"]["cure"]
    assert "QUANTRAC_TTS_STORAGE_SECRET" in refused[APP]["cure"]
    assert KEY not in str(logs)
    assert "NNSXS.WRONG" not in str(logs)


async def test_a_web_page_is_no_storage(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    def page(handler: Any, _: list[bytes]) -> None:
        head(handler, 200, "text/html; charset=utf-8", ("connection", "close"))
        handler.wfile.write(b"<html>\nLog in\n</html>")

    server.faults = [page]
    with structlog.testing.capture_logs() as logs:
        async with backfill():
            await until(lambda: any(log["event"] == "tts_storage_refused" for log in logs))
    assert count(database, "reject") == 0


async def test_two_processes_do_not_read_the_same_at_once(
    server: StorageServer, backfill: Backfill, database: Database
) -> None:
    server.add(NOW - HOUR, count=50)
    async with backfill() as one, backfill() as other:
        await until(lambda: settled(database))
        assert min(len(one.submitted), len(other.submitted)) <= 1
    assert count(database) == 50


async def test_a_database_that_goes_away_is_waited_for(
    server: StorageServer, backfill: Backfill, database: Database, database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tts_storage, "CHUNK", 10)
    server.add(NOW - HOUR, count=100)
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    async with TcpProxy(str(parts["host"]), int(str(parts["port"]))) as proxy:
        through = psycopg.conninfo.make_conninfo(database_url, port=proxy.port, host="127.0.0.1")
        async with backfill(url=through):
            await until(lambda: count(database) >= 10)
            await proxy.cut()
            proxy.mend()
            await until(lambda: settled(database))
    assert count(database) == 100


async def test_a_batcher_without_room_is_offered_the_rest_again(
    server: StorageServer, backfill: Backfill, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts_storage, "FULL_SECONDS", 0.05)
    server.add(NOW - HOUR, count=30)
    async with backfill() as running:
        refused = 0
        take = running.batcher.submit

        def submit(message: RawMessage) -> asyncio.Future[None]:
            nonlocal refused
            if refused >= 100:
                return take(message)
            refused += 1
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            return future

        running.batcher.submit = submit  # type: ignore[method-assign]
        await until(lambda: settled(database))
        assert refused == 100
    assert count(database) == 30


async def test_a_clock_that_is_ahead_skips_nothing(
    server: StorageServer, backfill: Backfill, database: Database, clock: ManualClock
) -> None:
    clock.set(NOW + 5 * HOUR)
    async with backfill():
        await until(lambda: cursors(database))
    assert cursors(database)[APP] <= datetime.now(UTC) - tts_storage.SETTLED + timedelta(seconds=2)
    server.add(NOW + 2 * HOUR)
    async with backfill():
        await until(lambda: count(database) == 1)


async def test_without_a_server_it_does_nothing(backfill: Backfill, database: Database) -> None:
    async with backfill(tts_storage_url=""):
        pass
    assert cursors(database) == {}


MQTT = "mqtts://my-app%40ttn:NNSXS.MQTT@eu1.cloud.thethings.network:8883"


def test_the_credentials_of_mqtt_serve_where_it_is_the_same_server() -> None:
    settings = TtsStorageSettings(tts_storage_url="https://eu1.cloud.thethings.network/")
    (found,) = settings.applications(MQTT)
    assert (found.id, found.tenant, found.secret) == ("my-app", "ttn", "NNSXS.MQTT")
    assert found.url == (
        "https://eu1.cloud.thethings.network/api/v3/as/applications/my-app/packages/storage/uplink_message"
    )
    assert "NNSXS" not in repr(found)
    with pytest.raises(SettingsError, match="QUANTRAC_TTS_STORAGE_APPLICATIONS"):
        settings.applications("mqtt://ingest:secret@127.0.0.1:1883")
    own = TtsStorageSettings(
        tts_storage_url="https://other.example",
        tts_storage_applications=("a", "b"),
        tts_storage_secret=("k",),
    )
    assert [(a.id, a.tenant, a.secret) for a in own.applications(MQTT)] == [("a", "", "k"), ("b", "", "k")]
    assert "'k'" not in repr(own)


def test_settings_name_variable_and_cure_and_never_a_key() -> None:
    with pytest.raises(SettingsError, match="QUANTRAC_TTS_STORAGE_SECRET"):
        TtsStorageSettings(
            tts_storage_url="https://x.example", tts_storage_applications=("a", "b", "c"),
            tts_storage_secret=("k", "l"),
        ).applications()  # fmt: skip
    for name, value in (("URL", "eu1.cloud"), ("MINUTES", "1"), ("TENANT", "a b")):
        with pytest.raises(SettingsError, match=f"QUANTRAC_TTS_STORAGE_{name}"):
            load(TtsStorageSettings, environ={f"QUANTRAC_TTS_STORAGE_{name}": value})


def test_the_sample_is_the_same_uplink_on_both_ways() -> None:
    body = uplink(NOW, APP, 1)
    kept = {k: body[k] for k in ("end_device_ids", "received_at", "uplink_message")}
    topic = f"v3/{APP}@tenant1/devices/d/up"
    keys = {
        parse(RawMessage(topic, json.dumps(b).encode(), NOW), 10_000).dedup_key  # type: ignore[union-attr]
        for b in (body, kept)
    }
    assert len(keys) == 1


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
