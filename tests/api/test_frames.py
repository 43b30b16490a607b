"""What the network servers sent: uplinks, events and rejects, down to their bytes."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
from psycopg.types.json import Jsonb

from telemetry.model import UplinkFlag

from .world import EUI, NEW_EUI, T0, World

MESSAGE = '{"deviceInfo": {"deviceName": "Đo mưa"}}'.encode()


async def test_an_uplink_down_to_its_bytes(viewer: httpx.AsyncClient, world: World) -> None:
    id_ = world.uplink(
        T0,
        ns_time=T0,
        f_cnt=4_000_000_000,
        f_port=2,
        dev_addr="01020304",
        rssi=-97,
        snr=7.5,
        frequency=923_200_000,
        spreading_factor=10,
        decoded_by="dragino-ldds75@1",
        flags=int(UplinkFlag.CONFIRMED | UplinkFlag.SIMULATED),
        fields=Jsonb({"distance_mm": 450}),
        gateways=Jsonb([{"id": "gw", "rssi": -97}]),
        normalized=Jsonb([{"battery": 3.4}]),
        message=MESSAGE,
    )
    world.reading(T0, 104.2, uplink=id_)
    world.reading(T0 - timedelta(days=3), 103.9, uplink=id_)
    world.reading(T0, 1, uplink=id_ + 1)
    found = (await viewer.get(f"/api/v1/uplinks/{id_}")).json()
    at = T0.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (
        found.items()
        >= {
            "id": str(id_),
            "dev_eui": EUI,
            "time": at,
            "ns_time": at,
            "time_source": "device",
            "f_cnt": 4_000_000_000,
            "f_port": 2,
            "payload": "DOQBwg==",
            "payload_hex": "0ce401c2",
            "confirmed": True,
            "simulated": True,
            "rssi": -97,
            "snr": 7.5,
            "frequency": 923_200_000,
            "spreading_factor": 10,
            "dev_addr": "01020304",
            "decoded_by": "dragino-ldds75@1",
            "problem": None,
        }.items()
    )
    assert found["fields"] == {"distance_mm": 450}
    assert found["normalized"] == [{"battery": 3.4}]
    assert found["gateways"] == [{"id": "gw", "rssi": -97}]
    assert base64.b64decode(found["message"]) == MESSAGE
    assert [r["value"] for r in found["readings"]] == [103.9, 104.2]
    listed = (await viewer.get("/api/v1/uplinks")).json()["items"]
    assert listed == [{k: v for k, v in found.items() if k not in ("message", "readings", "superseded")}]
    assert found["superseded"] == []


async def test_what_an_uplink_said_before(viewer: httpx.AsyncClient, world: World) -> None:
    id_ = world.uplink(T0, decoded_by="acme@2/aa")
    at = int(T0.timestamp()) * 1_000_000
    for minute, stamp, readings in (
        (1, "acme@1/aa", [[world.level, 0, at, 1.5, None, 1]]),
        (2, "acme@2/bb", []),
    ):
        world.database.execute(
            "INSERT INTO superseded (time, uplink_id, job_id, replaced_at, decoded_by, readings)"
            " VALUES (%s, %s, 1, %s, %s, %s)",
            (T0, id_, T0 + timedelta(minutes=minute), stamp, Jsonb(readings)),
        )
    newer, older = (await viewer.get(f"/api/v1/uplinks/{id_}")).json()["superseded"]
    assert (newer["decoded_by"], newer["readings"]) == ("acme@2/bb", [])
    assert older["decoded_by"] == "acme@1/aa"
    assert older["readings"] == [
        {
            "metric": "water.level",
            "unit": "m",
            "channel": 0,
            "time": T0.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": 1.5,
            "raw": None,
            "quality": 1,
        }
    ]


async def test_whose_clock_it_was(viewer: httpx.AsyncClient, world: World) -> None:
    for minute, flag in enumerate((UplinkFlag(0), UplinkFlag.NETWORK_TIME, UplinkFlag.ASSIGNED_TIME)):
        world.uplink(T0 - timedelta(minutes=minute), flags=int(flag))
    items = (await viewer.get("/api/v1/uplinks")).json()["items"]
    assert [item["time_source"] for item in items] == ["device", "network", "assigned"]


async def test_uplinks_by_device_and_time(viewer: httpx.AsyncClient, world: World) -> None:
    ids = [world.uplink(T0 + timedelta(minutes=n)) for n in range(3)]
    other = world.uplink(T0, device=world.newcomer)

    async def found(**params: str) -> list[int]:
        return [int(i["id"]) for i in (await viewer.get("/api/v1/uplinks", params=params)).json()["items"]]

    assert set(await found()) == {*ids, other}
    assert await found(device=EUI) == ids[::-1]
    assert await found(device=NEW_EUI) == [other]
    assert await found(device="ffffffffffffffff") == []
    after = (T0 + timedelta(minutes=1)).isoformat()
    assert await found(**{"from": after}) == ids[:0:-1]
    assert await found(to=after, device=EUI) == [ids[0]]


async def test_events(viewer: httpx.AsyncClient, world: World) -> None:
    for minute, (kind, device) in enumerate((("join", world.device), ("status", None))):
        world.database.execute(
            "INSERT INTO event (time, ingest_time, dedup_key, device_id, kind, network, data, topic, message)"
            " VALUES (%s, %s, %s, %s, %s, 'chirpstack-v4', %s, 't', %s)",
            (T0 + timedelta(minutes=minute), T0, uuid4(), device, kind, Jsonb({"batteryLevel": 90}), MESSAGE),
        )

    async def found(**params: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await viewer.get("/api/v1/events", params=params)).json()["items"]
        return items

    everything = await found()
    assert [(e["kind"], e["dev_eui"]) for e in everything] == [("status", None), ("join", EUI)]
    assert everything[0]["data"] == {"batteryLevel": 90}
    assert base64.b64decode(everything[0]["message"]) == MESSAGE
    assert await found(device=EUI) == everything[1:]
    assert await found(kind="status") == everything[:1]


async def test_rejects(viewer: httpx.AsyncClient, world: World) -> None:
    for reason, message in (("not_json", b"\xff{\x00"), ("missing_field", MESSAGE)):
        world.database.execute(
            "INSERT INTO reject (key, received_at, reason, field, detail, source, topic, message)"
            " VALUES (gen_random_uuid(), %s, %s, 'devEui', 'thiếu', 'mqtt', 't/đ', %s)",
            (T0, reason, message),
        )
    items = (await viewer.get("/api/v1/rejects", params={"state": "open"})).json()["items"]
    assert [(i["reason"], i["size"], i["detail"]) for i in items] == [
        ("missing_field", len(MESSAGE), "thiếu"),
        ("not_json", 3, "thiếu"),
    ]
    assert "message" not in items[0]
    filtered = (await viewer.get("/api/v1/rejects", params={"reason": "not_json"})).json()["items"]
    assert filtered == items[1:]
    one = (await viewer.get(f"/api/v1/rejects/{items[1]['id']}")).json()
    assert (one["message"], one["message_hex"], one["message_text"]) == ("/3sA", "ff7b00", "\ufffd{\0")
    other = (await viewer.get(f"/api/v1/rejects/{items[0]['id']}")).json()
    assert other["message_text"] == MESSAGE.decode()
