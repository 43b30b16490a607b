"""What the doctor finds on brokers that are set up badly, and in a database that tells of trouble."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from ingest.settings import IngestSettings
from quantrac.context import Context
from quantrac.doctor import Finding, examine
from quantrac.doctor.broker import judge
from quantrac.doctor.probe import NODE_VERSION, VERSION, Facts, ask, impossible
from quantrac.embedded import BrokerInfo, EmbeddedBroker
from quantrac.embedded.mosquitto import Mosquitto
from tests.ports import free_port
from tests.traffic import publish, uplinks
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
Start = Callable[..., str]
UP = "application/+/device/+/event/+"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Start]:
    """`mosquitto("line", …)` runs one with these lines of configuration and gives its address."""
    found = Mosquitto.find()
    assert found is not None, "the tests need Mosquitto: apt install mosquitto"
    running = []

    def start(*lines: str) -> str:
        port = free_port()
        conf = tmp_path / f"{port}.conf"
        user = ["user root"] if os.geteuid() == 0 else []
        conf.write_text(
            "\n".join([f"listener {port} 127.0.0.1", "allow_anonymous true", *user, *lines]) + "\n"
        )
        log = (tmp_path / f"{port}.log").open("wb")
        running.append((subprocess.Popen([found.program, "-c", conf], stdout=log, stderr=log), log))
        return f"mqtt://127.0.0.1:{port}"

    yield start
    for process, log in running:
        process.terminate()
        process.wait(20)
        log.close()


async def answering(url: str) -> Facts:
    def facts() -> Facts | None:
        try:
            return ask(url, [UP], 3600)
        except OSError:
            return None

    found = await until(facts)
    assert found is not None
    return found


def by_subject(findings: list[Finding] | Iterator[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def settings(url: str, **overrides: Any) -> IngestSettings:
    return IngestSettings(**{"mqtt_url": url, "mqtt_topics": (UP,), **overrides})


async def test_mosquitto_as_it_comes_drops_forgets_shares_and_forgets_what_it_acknowledged(
    mosquitto: Start,
) -> None:
    url = mosquitto("sys_interval 1")
    await answering(url)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="away", clean_session=False)
    client.connect("127.0.0.1", int(url.rpartition(":")[2]))
    client.subscribe(UP, 1)
    client.on_subscribe = lambda *_: client.disconnect()
    client.loop_forever()
    await asyncio.to_thread(publish, url, uplinks(1300))

    def dropped() -> Finding | None:
        found = by_subject(judge(ask(url, [UP], 3600), settings(url, mqtt_share="g"), embedded=False))
        return found["broker dropped"] if found["broker dropped"].level == "warning" else None

    finding = await until(dropped)
    assert finding is not None
    assert finding.text.startswith("300 messages dropped")
    assert "max_queued_messages 0" in finding.cure
    found = by_subject(judge(ask(url, [UP], 3600), settings(url, mqtt_share="g"), embedded=False))
    assert found["broker queue"].level == "warning"
    assert "autosave_interval 5" in found["broker queue"].cure
    assert found["broker share"].level == "warning"
    assert "QUANTRAC_MQTT_TOPICS" in found["broker share"].cure
    assert found["broker subscriptions"].level == found["broker protocol"].level == "ok"


async def test_a_broker_that_grants_qos_0_only(mosquitto: Start) -> None:
    url = mosquitto("max_qos 0")
    facts = await answering(url)
    found = by_subject(judge(facts, settings(url), embedded=False))
    assert found["broker QoS"].level == "fault"
    assert "max_qos" in found["broker QoS"].cure


async def test_an_acl_that_hides_the_counter(mosquitto: Start, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read application/#\ntopic read $SYS/broker/version\n")
    (tmp_path / "acl").chmod(0o600)
    url = mosquitto(f"acl_file {tmp_path / 'acl'}")
    found = by_subject(judge(await answering(url), settings(url), embedded=False))
    assert "topic read $SYS/broker/publish/messages/dropped" in found["broker dropped"].cure


async def test_nats_has_no_shares(tmp_path: Path) -> None:
    server = EmbeddedBroker(tmp_path / "nats", kind="nats")
    url = (await asyncio.to_thread(server.start)).urls["ingest"]
    try:
        facts = await asyncio.to_thread(ask, url, [UP], 3600)
    finally:
        await asyncio.to_thread(server.stop)
    assert (facts.mqtt, facts.granted) == ("3.1.1", {UP: 1})
    found = by_subject(judge(facts, settings(url, mqtt_share="g"), embedded=True))
    assert found["broker share"].level == "fault"
    assert "Unset QUANTRAC_MQTT_SHARE" in found["broker share"].cure
    assert found["broker protocol"].level == "warning"


async def test_a_wrong_password_is_told(broker: BrokerInfo) -> None:
    address = broker.urls["ingest"]
    wrong = f"mqtt://ingest:wrong@{address.rpartition('@')[2]}"
    with pytest.raises(Exception, match="Not authorized"):
        await asyncio.to_thread(ask, wrong, [UP], 3600)


async def test_our_own_broker_has_nothing_to_cure(broker: BrokerInfo) -> None:
    url = broker.urls["ingest"]
    facts = await asyncio.to_thread(ask, url, ["application/#", "v3/+/devices/+/#"], 3600)
    assert {finding.level for finding in judge(facts, settings(url), embedded=True)} == {"ok"}


async def test_it_takes_no_message_from_anybody(broker: BrokerInfo) -> None:
    received: list[bytes] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="one-of-g", protocol=paho.MQTTv5)
    url = broker.urls["ingest"]
    user, _, password = url.removeprefix("mqtt://").partition("@")[0].partition(":")
    client.username_pw_set(user, password)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _d, message: received.append(message.payload)
    client.connect("127.0.0.1", broker.port)
    client.subscribe(f"$share/g/{UP}", 1)
    client.loop_start()
    try:
        await asyncio.to_thread(subscribed.wait, 10)
        publishing = asyncio.create_task(asyncio.to_thread(publish, broker.urls["network"], uplinks(3000)))
        while not publishing.done():
            await asyncio.to_thread(ask, url, [UP], 3600)
        await publishing
        await until(lambda: len(received) == 3000)
    finally:
        client.disconnect()
        client.loop_stop()


def facts(**more: Any) -> Facts:
    return Facts("5", {}, {UP: 1}, 1, {})._replace(**more)


@pytest.mark.parametrize(
    ("told", "overrides", "subject", "level", "words"),
    [
        (facts(properties={"SharedSubscriptionAvailable": 0}), {"mqtt_share": "g"}, "broker share", "fault",
         "shared_subscription"),
        (facts(share=None), {"mqtt_share": "g"}, "broker share", "fault", "ACL"),
        (facts(said={NODE_VERSION: "5.8.1"}), {"mqtt_share": "g"}, "broker share", "ok", ""),
        (facts(said={NODE_VERSION: "5.8.1"}), {}, "broker queue", "warning", "scale.md"),
        (facts(), {}, "broker queue", "warning", "manual"),
        (facts(properties={"SessionExpiryInterval": 60}), {}, "broker session", "warning", "limit"),
        (facts(properties={"WildcardSubscriptionAvailable": 0}), {}, "broker subscriptions", "ok", ""),
        (facts(granted={UP: None}), {}, "broker subscriptions", "fault", "ACL"),
        (facts(granted={UP: 0}), {}, "broker subscriptions", "fault", "QoS 1"),
        (facts(granted={"v3/app@ttn/devices/+/#": 0}), {}, "broker subscriptions", "warning", "webhooks"),
        (facts(), {"mqtt_version": "3.1.1"}, "broker protocol", "warning", "QUANTRAC_MQTT_VERSION"),
        (facts(said={VERSION: "mosquitto version 2.0.11"}), {}, "broker receive maximum", "ok", ""),
    ],
)  # fmt: skip
def test_what_is_made_of_what_a_broker_says(
    told: Facts, overrides: dict[str, Any], subject: str, level: str, words: str
) -> None:
    found = by_subject(judge(told, settings("mqtt://broker", **overrides), embedded=False))
    assert found[subject].level == level
    assert words in found[subject].cure


def test_a_topic_nobody_publishes_to_lies_under_the_filters_prefix() -> None:
    assert impossible(UP, "x") == "application/x/device/x/event/x"
    assert impossible("#", "x") == "x"


def test_what_the_database_tells(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUANTRAC_DATABASE_URL", database_url)
    monkeypatch.setenv("QUANTRAC_MQTT_URL", "mqtt://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    context = Context(tmp_path)
    quiet = by_subject(examine(context))
    for subject in ("ingest members", "ingest gaps", "rejects", "backlog"):
        assert quiet[subject].level == "ok", quiet[subject]
    now = datetime.now(UTC)
    for client_id, ago, connected in (("alive", 1, True), ("lost", 1, False), ("dead", 500, True)):
        database.execute(
            "INSERT INTO ingest_member (client_id, share, mqtt, started_at, seen_at, connected)"
            " VALUES (%s, 'g', '5', %s, %s, %s)",
            (client_id, now, now - timedelta(seconds=ago), connected),
        )
    for why, began in (("broker", 1), ("session", 2), ("session", 100)):
        database.execute(
            "INSERT INTO ingest_gap (client_id, began_at, ended_at, why) VALUES ('alive', %s, %s, %s)",
            (now - timedelta(hours=began), now - timedelta(hours=began) + timedelta(minutes=5), why),
        )
    database.execute("INSERT INTO qos_watch VALUES ('application/7', 1234, %s, %s)", (now, now))
    database.execute(
        "INSERT INTO health_alert (kind, subject, detail, cure, began_at)"
        " VALUES ('of-another-kind', 's', 'what is wrong', 'what to do', now()),"
        " ('ingest-member-silent', 'dead', 'told as a member', '', now())"
    )
    database.execute(
        "INSERT INTO reject (received_at, key, reason, detail, source, topic, message)"
        " SELECT now(), gen_random_uuid(), 'not_json', '', 'mqtt', 't', '' FROM generate_series(1, 3)"
    )
    database.execute("INSERT INTO lane (writer, seq, uplinks, readings) VALUES ('w', 1, 1, 0)")
    database.execute(
        "INSERT INTO lane_batch (lane, seq, committed_at, uplinks, readings)"
        " SELECT id, 1, %s, 1, '' FROM lane",
        (now - timedelta(minutes=10),),
    )
    findings = examine(context)
    found = [(f.level, f.subject, f.text) for f in findings]
    assert ("ok", "ingest members", "alive (MQTT 5, share g)") in found
    silent, lost = [f for f in findings if f.subject == "ingest member"]
    assert silent.level == lost.level == "fault"
    assert "dead is silent for 8 min; its part of the share g waits" in silent.text
    assert silent.cure.endswith("QUANTRAC_MQTT_CLIENT_ID=dead quantrac ingest --leave")
    assert "lost runs, but is not subscribed" in lost.text
    gaps = {f.text.partition(":")[0]: f.level for f in findings if f.subject == "ingest gaps"}
    assert gaps == {"1 in 24 hours, 5 min in all": "warning"}
    told = by_subject(findings)
    assert "application/7/… is published at QoS 0 (1,234 messages so far)" in told["publisher"].text
    assert "[integration.mqtt]" in told["publisher"].cure
    assert told["of-another-kind"].cure == "what to do"
    assert "ingest-member-silent" not in told
    assert told["rejects"].text == "open: 3 not_json"
    behind = [f for f in findings if f.subject == "backlog"]
    assert {f.level for f in behind} == {"warning"}
    assert any(f.text.startswith("alerting is 10 min behind") for f in behind)
