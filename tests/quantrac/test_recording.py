"""`record`, `replay` and `anonymise` as programs: what was recorded gives the same readings again."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from ingest.pipeline import parse
from ingest.service import run as ingest
from ingest.settings import IngestSettings
from quantrac.demo import register
from quantrac.embedded import BrokerInfo
from quantrac.main import application
from quantrac.protobuf_times import move_times
from quantrac.seed import seed
from quantrac.straight import straight
from simulators.faults import Faults
from simulators.message import Message
from simulators.publish import Publisher
from simulators.record import Recorder
from simulators.recording import Recording, Recordings
from simulators.replay import Summary, replay
from simulators.run import run as simulate
from simulators.scenario import load_scenario
from simulators.shift import Shift
from telemetry.clock import SystemClock
from telemetry.errors import UsageError
from telemetry.model import RawMessage, Reject, Uplink
from telemetry.mqtt import parse_mqtt_url
from telemetry.settings import StoreSettings
from telemetry.store.migrate import migrate
from telemetry.store.pool import async_pool
from tests.ingest.judging import catch_up
from tests.program import run
from tests.samples import Sample, samples
from tests.wait import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LAST = Message("application/1/device/1/event/up", b"\xff the end", NOW)
_ROWS = """
    SELECT r.time, d.dev_eui, m.key, r.channel, r.value, r.quality, r.tests, u.time, u.f_cnt, u.payload
    FROM reading r JOIN device d ON d.id = r.device_id JOIN metric m ON m.id = r.metric_id
    JOIN uplink u ON u.id = r.uplink_id
    ORDER BY 1, 2, 3, 4, u.time
"""


def rows(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as database:
        return database.execute(_ROWS).fetchall()


def rejected(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as database:
        return database.execute("SELECT reason, topic, detail FROM reject").fetchall()


async def settle(url: str) -> None:
    async with async_pool(StoreSettings(database_url=url), application="test") as pool:
        await catch_up(pool)


async def play(path: Path, url: str, **options: Any) -> Summary:
    async with straight(IngestSettings(), StoreSettings(database_url=url)) as sink:
        return await replay(Recordings([path], strict=True), sink, speed="max", **options)


async def test_a_recorded_run_gives_the_same_readings_row_for_row(
    broker: BrokerInfo, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    calm = load_scenario("calm-day")
    migrate(empty_database_url)
    for url in (database_url, empty_database_url):
        seed(url)
        register(url, calm.registrations(), [])
    settings = IngestSettings(mqtt_url=broker.urls["ingest"], mqtt_client_id="test-ingest")
    recorder = Recorder(
        parse_mqtt_url(broker.urls["monitor"]), Recording(tmp_path / "kept"),
        topics=settings.mqtt_topics, client_id="test-record",
    )  # fmt: skip
    recording = threading.Thread(target=recorder.run)
    recording.start()
    stop = asyncio.Event()
    store = StoreSettings(database_url=database_url)
    ingesting = asyncio.create_task(ingest(settings, store, SystemClock(), stop))
    publisher = Publisher(parse_mqtt_url(broker.urls["simulator"]))
    publishing = asyncio.create_task(publisher.run())
    try:
        source = tmp_path / "calm.ndjson"
        await simulate(calm, seed=3, out=source)
        sent = list(Recordings([source]))
        await until(lambda: REGISTRY.get_sample_value("quantrac_ingest_connected"))
        await publisher.put(replace(sent[0], retain=True))  # whenever the recorder subscribes, it comes
        await until(lambda: recorder.recorded.messages)
        for message in [*sent, LAST]:
            await publisher.put(message)
        await publisher.drained()
        await until(lambda: recorder.recorded.messages > len(sent) + 1)
        await until(lambda: rejected(database_url))
    finally:
        recorder.stop()
        stop.set()
        publishing.cancel()
        await asyncio.gather(ingesting, publishing, asyncio.to_thread(recording.join), return_exceptions=True)
    summary = await play(tmp_path / "kept", empty_database_url)
    assert summary.sent == recorder.recorded.messages
    await settle(database_url)
    await settle(empty_database_url)
    live = rows(database_url)
    assert len(live) > 1000
    assert rejected(empty_database_url) == rejected(database_url) != []
    assert rows(empty_database_url) == live

    await play(tmp_path / "kept", empty_database_url, faults=Faults(duplicate=0.3, reorder=0.3, delay=0.2))
    await settle(empty_database_url)
    assert rows(empty_database_url) == live, "again, in another order: stored already"


@pytest.mark.parametrize("sample", samples("chirpstack_v4_protobuf"), ids=lambda sample: sample.name)
def test_protobuf_moves_as_json_does(sample: Sample) -> None:
    by = timedelta(days=100)
    shift = Shift(NOW, NOW + by)
    message = Message(sample.topic, sample.payload, NOW)
    moved = shift.payload(message, move_times)
    back = Shift(NOW + by, NOW).payload(moved, move_times)
    assert sorted(back.payload) == sorted(message.payload), "the same fields, maybe in another order"
    then, now = (parse(RawMessage(m.topic, m.payload, NOW), 10**6) for m in (message, moved))
    assert not isinstance(then, Reject)
    assert not isinstance(now, Reject)
    assert now.dev_eui == then.dev_eui
    assert now.time == (then.time and then.time + by)
    if isinstance(then, Uplink) and isinstance(now, Uplink):
        assert now.ns_time == (then.ns_time and then.ns_time + by)
        assert [g.time for g in now.gateways] == [g.time and g.time + by for g in then.gateways]
    assert move_times("elsewhere", sample.payload, shift.moved) is None
    assert move_times(sample.topic, b"\x0a\x7fcut", shift.moved) is None


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    path = tmp_path / "calm.ndjson"
    asyncio.run(simulate(load_scenario("calm-day"), seed=3, out=path))
    return path


def test_replay_tells_what_it_did(calm: Path, database_url: str) -> None:
    env = {"QUANTRAC_DATABASE_URL": database_url}
    options = ("--speed", "max", "--straight", "--shift-to", "now", "--drop", "0.5", "--seed", "4", "--json")
    done = run("replay", str(calm), *options, env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["read"] == told["sent"] + told["dropped"] > 500
    assert 0.4 < told["dropped"] / told["read"] < 0.6
    with psycopg.connect(database_url) as database:
        newest = database.execute("SELECT now() - max(time) < '1 minute' FROM uplink").fetchone()
        rejected = database.execute("SELECT count(*) FROM reject").fetchone()
    assert newest is not None
    assert newest[0]
    assert rejected == (0,)


def test_what_is_wrong_is_said_with_its_cure(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantrac.commands.recording.setup_logging", lambda *_: None)
    monkeypatch.setenv("QUANTRAC_MQTT_URL", "mqtt://127.0.0.1:1")
    broken = tmp_path / "broken.ndjson"
    broken.write_text(calm.read_text(encoding="utf-8").splitlines()[0] + "\nnonsense\n", encoding="utf-8")
    for arguments, said in (
        (("replay", "nowhere.ndjson"), "nowhere.ndjson: no such file"),
        (("replay", str(broken), "--strict"), "broken.ndjson:2: no recorded message"),
        (("replay", str(calm), "--speed", "fast"), "neither a number nor max"),
        (("replay", str(calm), "--shift-to", "later"), "is no time"),
        (("record", str(calm)), "exists already"),
        (("anonymise", str(calm), "--out", str(tmp_path), "--key", str(tmp_path / "key")), "is no file"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            application(arguments[0])(arguments, standalone_mode=False)


def test_anonymised_recordings_have_nothing_of_the_original(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantrac.commands.recording.setup_logging", lambda *_: None)
    key, outs = tmp_path / "key", [tmp_path / "a.ndjson.gz", tmp_path / "b.ndjson"]
    for out in outs:
        arguments = ("anonymise", str(calm), "--out", str(out), "--key", str(key))
        application("anonymise")(arguments, standalone_mode=False)
    assert key.stat().st_mode & 0o777 == 0o600
    first, second = ([(m.topic, m.payload) for m in Recordings([out], strict=True)] for out in outs)
    assert first == second
    text = outs[1].read_text(encoding="utf-8").lower()
    for device in load_scenario("calm-day").registrations().devices:
        assert device.dev_eui.lower() not in text
        assert device.name.lower() not in text
    assert len(first) == len(list(Recordings([calm])))
    with calm.open("a", encoding="utf-8") as file:
        file.write(LAST.line() + "\n")
    refused = ("anonymise", str(calm), "--out", str(tmp_path / "c.ndjson"), "--key", str(key), "--strict")
    with pytest.raises(UsageError, match=rf"calm\.ndjson:{len(first) + 1}: the payload is no JSON"):
        application("anonymise")(refused, standalone_mode=False)
    assert not list(tmp_path.glob("c.ndjson*"))
