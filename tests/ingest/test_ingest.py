"""From a real Mosquitto to committed rows in a real PostgreSQL."""

from __future__ import annotations

import random
from typing import Any

import aiomqtt
import psycopg
from psycopg.types.json import Jsonb

from tests.ingest.conftest import Running
from tests.kept import kept_messages
from tests.samples import samples
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
ALL = samples("chirpstack_v4", "tts_v3")
UP = next(s for s in ALL if s.name == "chirpstack_v4/up_full")


def count(database: Database, table: str) -> int:
    row = database.execute(f"SELECT count(*) AS n FROM {table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row["n"])


def register(database: Database, dev_eui: str, *, mapping: list[dict[str, Any]] | None = None) -> None:
    database.execute(
        "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
        " VALUES ('em300', 'Milesight', 'EM300-MLD', 'milesight-em300', 600, %s)",
        (Jsonb(mapping or [{"field": "temperature", "metric": "air.temperature"},
                           {"field": "humidity", "metric": "air.humidity"}]),),
    )  # fmt: skip
    database.execute(
        "INSERT INTO device (dev_eui, status, device_type) VALUES (%s, 'active', 'em300')"
        " ON CONFLICT (dev_eui) DO UPDATE SET status = 'active', device_type = 'em300'",
        (dev_eui,),
    )


async def test_every_sample_is_stored_once_with_its_bytes(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    messages = ALL * 3
    random.Random(7).shuffle(messages)
    uplinks = sum(s.topic.endswith("/up") for s in ALL)
    async with ingest():
        for sample in messages:
            await publisher.publish(sample.topic, sample.payload, qos=1)
        await until(lambda: count(database, "uplink") + count(database, "event") == len(ALL))
    assert count(database, "uplink") == uplinks
    assert count(database, "event") == len(ALL) - uplinks
    assert count(database, "reject") == 0
    told = [row["message"] for row in database.execute("SELECT message FROM event").fetchall()]
    assert sorted([*told, *kept_messages(database).values()]) == sorted(s.payload for s in ALL)


async def test_bad_messages_become_rejects_and_the_next_good_one_is_stored(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    bad = [b"", b"{", b"\xff\xfe", b'{"a": 1}', UP.payload[:300], b'{"deviceInfo": 5}', b"x" * 1_000_000]
    async with ingest():
        for payload in bad * 2:
            await publisher.publish(UP.topic, payload, qos=1)
        await publisher.publish(UP.topic, UP.payload, qos=1)
        await until(lambda: count(database, "uplink"))
    rows = database.execute("SELECT reason, message, dev_eui FROM reject").fetchall()
    assert sorted(row["message"] for row in rows) == sorted(bad)
    assert {row["dev_eui"] for row in rows} == {"24e124136b502217"}
    assert {row["reason"] for row in rows} == {
        "empty",
        "not_json",
        "missing_field",
        "too_large",
        "wrong_type",
    }


async def test_a_registered_device_gives_readings_latest_and_a_lane_batch(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    register(database, "24e124136b502217")
    async with ingest():
        await publisher.publish(UP.topic, UP.payload, qos=1)
        await until(lambda: count(database, "uplink"))
    rows = database.execute(
        "SELECT key, value, quality FROM reading JOIN metric ON metric.id = metric_id"
    ).fetchall()
    assert {r["key"]: (r["value"], r["quality"]) for r in rows} == {
        "air.temperature": (30.8, 1), "air.humidity": (50.5, 1),
    }  # fmt: skip
    latest = database.execute("SELECT readings FROM latest").fetchone()
    assert latest is not None
    assert sorted(v for _, v, _ in latest["readings"].values()) == [30.8, 50.5]
    assert count(database, "lane_batch") == 1


async def test_adopting_a_device_decodes_what_it_sent_before(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    async with ingest():
        await publisher.publish(UP.topic, UP.payload, qos=1)
        await until(lambda: count(database, "uplink"))
        row = database.execute("SELECT id, status, name FROM device").fetchone()
        assert row is not None
        assert (row["status"], row["name"]) == ("unregistered", "fridge-07")
        assert count(database, "reading") == 0
        register(database, "24e124136b502217")
        database.execute("INSERT INTO decode_job (device_id, requested_by) VALUES (%s, 'test')", (row["id"],))
        await until(lambda: count(database, "reading") == 2)
        job = await until(
            lambda: database.execute("SELECT * FROM decode_job WHERE state = 'done'").fetchone()
        )
        assert (job["frames"], job["readings"]) == (1, 2)
    assert count(database, "latest") == 1


async def test_the_registry_is_read_again_as_soon_as_it_changes(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    async with ingest():
        await publisher.publish(UP.topic, UP.payload, qos=1)
        await until(lambda: count(database, "uplink"))
        register(database, "24e124136b502217")
        later = UP.payload.replace(b"3ac7e3c4", b"3ac7e3c5")
        await publisher.publish(UP.topic, later, qos=1)
        await until(lambda: count(database, "uplink") == 2)
    assert count(database, "reading") == 2


async def test_strange_frames_are_kept_without_readings_and_say_why(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    register(database, "24e124136b502217")

    def frame(n: int, data: str, port: int = 85) -> bytes:
        key = b"0000000%d" % n
        return (UP.payload.replace(b"3ac7e3c4", key).replace(b"AXVcA2c0AQRoZQUAAA==", data.encode())
                .replace(b'"fPort": 85', b'"fPort": %d' % port))  # fmt: skip

    async with ingest():
        for n, (data, port) in enumerate([("", 85), ("AXU=", 85), ("AXVc", 0)]):
            await publisher.publish(UP.topic, frame(n, data, port), qos=1)
        await until(lambda: count(database, "uplink") == 3)
    problems = [r["problem"] for r in database.execute("SELECT problem FROM uplink ORDER BY id").fetchall()]
    assert count(database, "reading") == 0
    assert problems[0] == "payload: empty"
    assert problems[1]
    assert problems[2] == "f_port 0: MAC commands only"


async def test_times_nobody_can_believe(
    ingest: Running, publisher: aiomqtt.Client, database: Database
) -> None:
    base = UP.payload.replace(b'"nsTime"', b'"noTime"')
    with_ns = UP.payload.replace(b"3ac7e3c4", b"00000001")
    cases = {
        "1980": with_ns.replace(
            b'"time": "2026-03-02T09:34:15.775023242', b'"time": "1980-01-06T00:00:00.000000000'
        ),
        "2099": with_ns.replace(b"3ac7e3c4", b"00000002")
        .replace(b"00000001", b"00000002")
        .replace(b'"time": "2026-03-02T09:34:15.775023242', b'"time": "2099-01-06T00:00:00.000000000'),
        "no clock": base.replace(b"3ac7e3c4", b"00000003").replace(
            b'"time": "2026-03-02T09:34:15.775023242', b'"time": "1970-01-01T00:00:00.000000000'
        ),
    }
    async with ingest():
        for payload in [*cases.values()] * 2:
            await publisher.publish(UP.topic, payload, qos=1)
            await until(lambda: count(database, "uplink"))
        await until(lambda: count(database, "uplink") == 3)
    rows = database.execute(
        "SELECT extract(year FROM time)::int AS year, flags, ingest_time = time AS now"
        " FROM uplink ORDER BY id"
    ).fetchall()
    assert [(r["year"], r["flags"] & 24) for r in rows[:2]] == [(2026, 8), (2026, 8)]
    assert (rows[2]["now"], rows[2]["flags"] & 24) == (True, 16)
    assert count(database, "untimed") == 1
