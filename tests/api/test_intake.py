"""Messages by HTTP: who may hand them over, what is stored, and when the answer comes."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from api.routes.intake import COMMIT_SECONDS
from decoders.registry import Registry
from ingest import batcher, intake
from ingest.pipeline import parse
from ingest.settings import IngestSettings
from ingest.transaction import BatchWriter
from telemetry.clock import ManualClock
from telemetry.model import RawMessage
from telemetry.secrets import SecretBox
from telemetry.store.pool import connect
from tests.proxy import TcpProxy
from tests.samples import Sample, samples
from tests.sessions import OURS, WAITING
from tests.wait import PATIENCE, until

from .conftest import KEYS, Caller, as_problem
from .served import calling, serving
from .world import T0

Database = psycopg.Connection[dict[str, Any]]
CHIRPSTACK = samples("chirpstack_v4")
# The other one's topic and body name two devices.
TTS = [s for s in samples("tts_v3") if s.name != "tts_v3/down_failed"]
UP = next(s for s in CHIRPSTACK if s.name == "chirpstack_v4/up_full")
JSON = {"content-type": "application/json"}
SENDER = {"authorization": f"Bearer {KEYS['intake'].key}", **JSON}
CLIENT_SECONDS = 5.0
"""After which ChirpStack hangs up."""
assert COMMIT_SECONDS < CLIENT_SECONDS


@pytest.fixture
def sender(caller: Caller) -> httpx.AsyncClient:
    client = caller("intake")
    client.headers.update(JSON)
    return client


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test that holds commits up, or makes many at once, and is not about 503."""
    monkeypatch.setattr("api.routes.intake.COMMIT_SECONDS", PATIENCE)


def post(client: httpx.AsyncClient, sample: Sample = UP, url: str = "") -> Any:
    """As the network server that the sample is of posts it."""
    if sample in TTS:
        headers = {"x-tts-domain": "tenant1.eu1.cloud.thethings.industries"}
        return client.post(f"{url}/intake/tts", content=sample.payload, headers=headers)
    event = sample.topic.rpartition("/")[2]
    return client.post(f"{url}/intake/chirpstack", params={"event": event}, content=sample.payload)


def count(database: Database, table: str = "uplink") -> int:
    row = database.execute(f"SELECT count(*) AS n FROM {table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row["n"])


def connections(database: Database) -> int:
    row = database.execute(
        f"SELECT count(*) AS n FROM pg_stat_activity WHERE {OURS} AND application_name = 'quantrac intake'"
    ).fetchone()
    assert row is not None
    return int(row["n"])


def unavailable(response: httpx.Response) -> None:
    as_problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.usefixtures("patient")
async def test_repeated_and_concurrent_posts_to_two_processes_are_stored_once(
    database_url: str, box: SecretBox, accounts: None, database: Database
) -> None:
    async with (
        serving(database_url, box) as one,
        serving(database_url, box) as other,
        calling(**SENDER) as client,
    ):
        urls = [one.url, other.url]
        answers = await asyncio.gather(*(post(client, url=urls[n % 2]) for n in range(30)))
        answers += [await post(client, url=url) for url in urls * 2]
        later = UP.payload.replace(b"3ac7e3c4", b"3ac7e3c5")
        answers.append(await post(client, UP._replace(payload=later), urls[1]))
    assert {(a.status_code, a.text) for a in answers} == {(200, '{"accepted":true}')}
    assert count(database) == 2
    assert {row["topic"] for row in database.execute("SELECT topic FROM uplink").fetchall()} == {UP.topic}
    lanes = [row["writer"] for row in database.execute("SELECT writer FROM lane").fetchall()]
    ports = [url.rpartition(":")[2] for url in urls]
    assert set(lanes) <= {f"intake-{socket.gethostname()}-{port}" for port in ports}


async def test_what_came_by_mqtt_too_is_stored_once_under_the_same_topic(
    sender: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    writer = BatchWriter(
        lambda: connect(database_url, application="test"),
        writer="test",
        codecs=Registry({}, ()),
        keep_messages=True,
    )
    by_mqtt = [RawMessage(s.topic, s.payload, T0) for s in CHIRPSTACK + TTS]
    half = len(by_mqtt) // 2
    writer.commit([(m, parse(m, 262_144)) for m in by_mqtt[:half]])
    for sample in CHIRPSTACK + TTS:
        assert (await post(sender, sample)).status_code == 200
    writer.commit([(m, parse(m, 262_144)) for m in by_mqtt[half:]])
    writer.close()
    assert count(database, "reject") == 0
    assert count(database) + count(database, "event") == len(by_mqtt)
    stored = database.execute("SELECT topic FROM uplink UNION ALL SELECT topic FROM event").fetchall()
    assert sorted(row["topic"] for row in stored) == sorted(m.topic for m in by_mqtt)


@pytest.mark.usefixtures("patient")
async def test_no_answer_before_the_commit(
    sender: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    assert (await post(sender, CHIRPSTACK[0])).status_code == 200
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE uplink IN SHARE MODE")
        asked = asyncio.create_task(post(sender))
        await until(lambda: database.execute(WAITING).rowcount)
        done, _ = await asyncio.wait((asked,), timeout=1)
        assert not done
        assert count(database) == 0
    assert (await asked).status_code == 200
    assert count(database) == 1


async def test_a_commit_that_takes_too_long_is_503_and_the_next_try_finds_it_stored(
    sender: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    loop = asyncio.get_running_loop()
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE uplink IN SHARE MODE")
        began = loop.time()
        unavailable(await post(sender))
        assert loop.time() - began >= COMMIT_SECONDS
        assert count(database) == 0
    assert (await post(sender)).status_code == 200
    assert count(database) == 1


@pytest.mark.usefixtures("patient")
async def test_no_room_is_503_at_once(
    sender: httpx.AsyncClient, database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher, "MOST_WAITING", 2)
    frames = [UP._replace(payload=UP.payload.replace(b"3ac7e3c4", b"0000000%d" % n)) for n in range(3)]
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE uplink IN SHARE MODE")
        first = asyncio.create_task(post(sender, frames[0]))
        await until(lambda: database.execute(WAITING).rowcount)
        second, third = (asyncio.create_task(post(sender, frame)) for frame in frames[1:])
        done, _ = await asyncio.wait((second, third), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        unavailable(done.pop().result())
    assert sorted([(await t).status_code for t in (first, second, third)]) == [200, 200, 503]
    assert count(database) == 2


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_database_that_is_away_is_503_in_time_and_nothing_is_lost_or_doubled(
    hangs: bool, database_url: str, box: SecretBox, accounts: None, database: Database
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    async with TcpProxy(str(parts["host"]), int(str(parts["port"]))) as proxy:
        through = psycopg.conninfo.make_conninfo(database_url, port=proxy.port, host="127.0.0.1")
        async with serving(through, box) as served, calling(**SENDER) as client:
            assert (await post(client, url=served.url)).status_code == 200
            if hangs:
                proxy.mute_upstream()
            else:
                await proxy.cut()
            later = UP._replace(payload=UP.payload.replace(b"3ac7e3c4", b"3ac7e3c5"))
            for _ in range(2):
                unavailable(await post(client, later, served.url))
            assert count(database) == 1
            await proxy.cut()
            proxy.mend()
            async with asyncio.timeout(PATIENCE * 2):
                while (answer := await post(client, later, served.url)).status_code != 200:
                    unavailable(answer)
            assert count(database) == 2
    assert count(database, "reject") == 0


@pytest.mark.usefixtures("patient")
async def test_a_request_under_way_is_committed_and_answered_before_the_end(
    database_url: str, box: SecretBox, accounts: None, database: Database
) -> None:
    async with serving(database_url, box) as served, calling(**SENDER) as client:
        with psycopg.connect(database_url) as holder:
            holder.execute("LOCK TABLE uplink IN SHARE MODE")
            asked = asyncio.create_task(post(client, url=served.url))
            await until(lambda: database.execute(WAITING).rowcount)
            served.stop.set()
            done, _ = await asyncio.wait((served.ended,), timeout=0.5)
            assert not done
        assert (await asked).status_code == 200
        await served.ended
    assert count(database) == 1
    await until(lambda: connections(database) == 0)


async def test_no_connection_before_the_first_message(
    app: FastAPI, caller: Caller, sender: httpx.AsyncClient, database: Database
) -> None:
    assert (await caller("viewer").get("/api/v1/stations")).status_code == 200
    assert connections(database) == 0
    assert (await post(sender)).status_code == 200
    assert connections(database) == 1


async def test_a_writer_that_ends_is_replaced(
    sender: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(BatchWriter, "commit", stumbles)
        unavailable(await post(sender))
    async with asyncio.timeout(PATIENCE):
        while (await post(sender)).status_code != 200:
            pass
    assert count(database) == 1


async def test_an_api_whose_intake_cannot_start_serves_the_rest(
    app: FastAPI, caller: Caller, sender: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Registry:
        raise ImportError("a plug-in")

    monkeypatch.setattr(intake, "open_codecs", broken)
    unavailable(await post(sender))
    assert (await caller("viewer").get("/api/v1/stations")).status_code == 200
    monkeypatch.undo()
    assert (await post(sender)).status_code == 200


async def test_who_may_hand_over(
    app: FastAPI, caller: Caller, anonymous: httpx.AsyncClient, database: Database
) -> None:
    anonymous.headers.update(JSON)
    as_problem(await post(anonymous), 401, "unauthorized")
    anonymous.headers["authorization"] = "Bearer qt_wrong"
    as_problem(await post(anonymous), 401, "unauthorized")
    for role in ("viewer", "operator", "engineer"):
        caller(role).headers.update(JSON)
        problem = as_problem(await post(caller(role)), 403, "forbidden")
        assert "intake" in problem["detail"]
    assert count(database) == 0
    for role in ("intake", "admin"):
        caller(role).headers.update(JSON)
        assert (await post(caller(role))).status_code == 200
    for path in ("stations", "rejects", "session", "keys"):
        as_problem(await caller("intake").get(f"/api/v1/{path}"), 403, "forbidden")
    database.execute("UPDATE api_key SET revoked_at = now() WHERE role = 'intake'")
    as_problem(await post(caller("intake")), 401, "unauthorized")


async def test_a_key_of_its_own_for_a_network_server(caller: Caller, database: Database) -> None:
    body = {"name": "ChirpStack Biên Hòa", "role": "intake"}
    made = (await caller("admin").post("/api/v1/keys", json=body)).json()
    assert (made["role"], made["used_at"]) == ("intake", None)
    client = caller("viewer")
    answer = await client.post(
        "/intake/chirpstack?event=up",
        content=b"{",
        headers={**JSON, "authorization": f"Bearer {made['key']}"},
    )
    assert answer.status_code == 200
    row = database.execute("SELECT source, reason, topic, message FROM reject").fetchone()
    assert row == {
        "source": "http:ChirpStack Biên Hòa",
        "reason": "not_json",
        "topic": "application/?/device/?/event/up",
        "message": b"{",
    }


async def test_the_use_of_a_key_is_noted_once_a_minute(
    sender: httpx.AsyncClient, clock: ManualClock, database: Database
) -> None:
    def used() -> Any:
        row = database.execute("SELECT used_at, xmin::text FROM api_key WHERE role = 'intake'").fetchone()
        assert row is not None
        return row["used_at"], row["xmin"]

    await post(sender)
    first = used()
    assert first[0] == T0
    clock.advance(timedelta(seconds=59))
    await post(sender)
    assert used() == first
    clock.advance(timedelta(seconds=1))
    await post(sender)
    assert used()[0] == T0 + timedelta(minutes=1)


async def test_bad_messages_are_kept_as_rejects_and_accepted(
    sender: httpx.AsyncClient, database: Database
) -> None:
    bad = [b"", b"{", b"\xff\xfe", b"[]", b'{"a": 1}', UP.payload[:300], b'{"deviceInfo": 5}', b"[" * 50_000]
    for payload in bad * 2:
        for url in ("/intake/chirpstack?event=up", "/intake/tts", "/intake/tts/up"):
            assert (await sender.post(url, content=payload)).status_code == 200
    assert (await post(sender)).status_code == 200
    rows = database.execute("SELECT topic, message, source FROM reject").fetchall()
    assert {row["source"] for row in rows} == {"http:intake"}
    for topic in ("application/?/device/?/event/up", "v3/?/devices/?/up"):
        assert {row["message"] for row in rows if row["topic"] == topic} == {*bad}
    assert count(database) == 1


async def test_each_event_of_the_things_stack_may_have_its_own_path(
    sender: httpx.AsyncClient, database: Database
) -> None:
    for sample in TTS:
        event = sample.topic.partition("/devices/")[2].partition("/")[2]
        for tenant in ({"tenant": "tenant1"}, {}):
            answer = await sender.post(f"/intake/tts/{event}", params=tenant, content=sample.payload)
            assert answer.status_code == 200
    topics = {row["topic"] for row in database.execute("SELECT topic FROM event").fetchall()}
    assert {s.topic for s in TTS if not s.topic.endswith("/up")} <= topics
    assert count(database) == sum(s.topic.endswith("/up") for s in TTS)


@pytest.mark.parametrize(
    ("url", "headers", "status", "slug"),
    [
        ("/intake/chirpstack?event=up", {"content-type": "text/plain"}, 415, "unsupported-media-type"),
        ("/intake/chirpstack?event=up", {"content-encoding": "gzip"}, 415, "unsupported-media-type"),
        ("/intake/tts", {"content-type": "application/octet-stream"}, 415, "unsupported-media-type"),
        ("/intake/chirpstack", {}, 400, "bad-event"),
        ("/intake/chirpstack?event=up/../down", {}, 400, "bad-event"),
        ("/intake/chirpstack?event=", {}, 400, "bad-event"),
    ],
)
async def test_what_no_network_server_sends_is_refused(
    sender: httpx.AsyncClient, database: Database, url: str, headers: dict[str, str], status: int, slug: str
) -> None:
    answer = await sender.post(url, content=UP.payload, headers={**JSON, **headers})
    as_problem(answer, status, slug)
    assert count(database) + count(database, "reject") == 0


async def test_a_message_above_the_limit_is_refused(
    database_url: str, box: SecretBox, accounts: None, database: Database
) -> None:
    most = 2**21
    body = {**UP.body, "object": {"x": "y" * 2_000_000}}
    big = UP._replace(payload=json.dumps(body).encode())
    async with (
        serving(database_url, box, ingest=IngestSettings(max_message=most)) as served,
        calling(**SENDER) as client,
    ):
        assert (await post(client, big, served.url)).status_code == 200
        too_big = UP._replace(payload=big.payload.ljust(most + 1))
        problem = as_problem(await post(client, too_big, served.url), 413, "too-large")
        assert "QUANTRAC_MAX_MESSAGE" in problem["detail"]
        assert (
            await post(client, UP._replace(payload=big.payload.ljust(most)), served.url)
        ).status_code == 200
    assert count(database) == 1
    assert count(database, "reject") == 0


async def test_what_comes_by_http_is_counted(sender: httpx.AsyncClient, caller: Caller) -> None:
    await post(sender)
    text = (await caller("viewer").get("/metrics")).text
    assert 'quantrac_ingest_received_total{qos="1",source="http"}' in text
