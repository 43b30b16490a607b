"""Devices, their adoption, and device types."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from telemetry.catalogue import CATALOGUE
from telemetry.clock import micros

from .conftest import Caller, as_problem, fields_of
from .world import EUI, NEW_EUI, T0, World

DEVICES = "/api/v1/devices"
TYPES = "/api/v1/device-types"
TYPE: dict[str, Any] = {
    "vendor": "Dragino",
    "model": "LDDS20",
    "codec": "dragino-ldds75",
    "expected_interval": 600,
    "mapping": [{"field": "distance_mm", "metric": "distance", "scale": 0.001}],
}


async def test_a_device_as_it_stands(viewer: httpx.AsyncClient, world: World) -> None:
    world.latest(T0, {"water.level:0": (micros(T0), 104.2, 1)})
    found = (await viewer.get(f"{DEVICES}/A8-40-41-00-00-00-00-01")).json()
    at = T0.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found == {
        "dev_eui": EUI,
        "name": "Đo mực nước",
        "status": "active",
        "device_type": "ldds75",
        "station": "phu-hiep",
        "variables": {"sensor_elevation_m": 110},
        "firmware": None,
        "origin": {},
        "simulated": False,
        "unit": None,
        "owner": None,
        "facility": None,
        "seen_at": at,
        "latest": [
            {
                "dev_eui": EUI,
                "metric": "water.level",
                "channel": 0,
                "time": at,
                "value": 104.2,
                "quality": 1,
                "unit": "m",
            }
        ],
    }


async def test_filters(viewer: httpx.AsyncClient, world: World) -> None:
    async def found(**filters: str) -> list[str]:
        return [item["dev_eui"] for item in (await viewer.get(DEVICES, params=filters)).json()["items"]]

    assert await found() == [EUI, NEW_EUI]
    assert await found(status="unregistered") == [NEW_EUI]
    assert await found(station="phu-hiep") == [EUI]
    assert await found(station="nowhere") == []
    assert await found(q="CHƯA ĐĂNG") == [NEW_EUI]
    assert await found(q="0002") == [NEW_EUI]


async def test_adopting_registers_and_asks_for_the_stored_frames(caller: Caller, world: World) -> None:
    body = {"device_type": "ldds75", "station": "phu-hiep", "variables": {"sensor_elevation_m": 98.5}}
    answer = await caller("engineer").post(f"{DEVICES}/{NEW_EUI}/adopt", json=body)
    assert answer.status_code == 202
    device, job = answer.json()["device"], answer.json()["decode_job"]
    assert (device["status"], device["station"], device["name"]) == ("active", "phu-hiep", "chưa đăng ký")
    assert device["variables"] == {"sensor_elevation_m": 98.5}
    jobs = (await caller("viewer").get(f"{DEVICES}/{NEW_EUI}/decode-jobs")).json()["items"]
    assert [(j["id"], j["state"], j["requested_by"]) for j in jobs] == [
        (job["id"], "waiting", "key:engineer")
    ]
    as_problem(await caller("engineer").post(f"{DEVICES}/{NEW_EUI}/adopt", json=body), 409, "conflict")


async def test_adopting_twice_at_once_asks_once(caller: Caller, world: World) -> None:
    answers = await asyncio.gather(
        *[
            caller("engineer").post(f"{DEVICES}/{NEW_EUI}/adopt", json={"device_type": "ldds75"})
            for _ in range(4)
        ]
    )
    assert sorted(a.status_code for a in answers) == [202, 409, 409, 409]
    assert world.one("SELECT count(*) FROM decode_job") == 1


async def test_what_cannot_be_adopted(caller: Caller, world: World) -> None:
    async def adopt(eui: str, **body: Any) -> httpx.Response:
        return await caller("engineer").post(f"{DEVICES}/{eui}/adopt", json=body)

    as_problem(await adopt("ffffffffffffffff", device_type="ldds75"), 404)
    assert fields_of(await adopt(NEW_EUI)) == ["device_type"]
    assert fields_of(await adopt(NEW_EUI, device_type="nothing")) == ["device_type"]
    assert fields_of(await adopt(NEW_EUI, device_type="ldds75", station="nowhere")) == ["station"]
    bad = await adopt(NEW_EUI, device_type="ldds75", variables={"x": "ten"})
    assert fields_of(bad) == ["variables.x"]
    assert world.one("SELECT status FROM device WHERE dev_eui = %s", NEW_EUI) == "unregistered"
    assert world.one("SELECT count(*) FROM decode_job") == 0


async def test_put_registers_replaces_and_retires(caller: Caller, world: World) -> None:
    engineer = caller("engineer")
    eui = "00000000000000ff"
    made = await engineer.put(f"{DEVICES}/{eui.upper()}", json={"device_type": "ldds75", "name": "Cầu Ghềnh"})
    assert (made.status_code, made.json()["dev_eui"], made.json()["name"]) == (201, eui, "Cầu Ghềnh")
    assert world.one("SELECT count(*) FROM decode_job") == 0
    same = await engineer.put(f"{DEVICES}/{eui}", json={"device_type": "ldds75", "station": "phu-hiep"})
    assert (same.status_code, same.json()["station"], same.json()["name"]) == (200, "phu-hiep", "")
    assert fields_of(await engineer.put(f"{DEVICES}/{eui}", json={"name": "x"})) == ["body"]
    assert (await engineer.delete(f"{DEVICES}/{eui}")).status_code == 204
    assert (await engineer.get(f"{DEVICES}/{eui}")).json()["status"] == "retired"
    as_problem(await engineer.delete(f"{DEVICES}/ffffffffffffffff"), 404)
    assert [
        row["action"] for row in world.database.execute("SELECT action FROM audit ORDER BY id").fetchall()
    ] == [
        "device.put",
        "device.put",
        "device.retire",
    ]


async def test_simulated_changes_only_when_said(caller: Caller, world: World) -> None:
    async def put(eui: str, **body: Any) -> bool:
        answer = await caller("engineer").put(f"{DEVICES}/{eui}", json={"device_type": "ldds75", **body})
        assert answer.status_code in (200, 201), answer.text
        return bool(answer.json()["simulated"])

    assert not await put(EUI)
    assert await put(EUI, simulated=True)
    assert await put(EUI)
    assert not await put(EUI, simulated=False)
    assert not await put("00000000000000f0")
    assert await put("00000000000000f1", simulated=True)


async def test_firmware_stays_until_another_is_said(caller: Caller, world: World) -> None:
    async def put(**body: Any) -> str | None:
        answer = await caller("engineer").put(f"{DEVICES}/{EUI}", json={"device_type": "ldds75", **body})
        assert answer.status_code == 200, answer.text
        told: str | None = answer.json()["firmware"]
        return told

    assert [await put(), await put(firmware=" 1.2 "), await put(), await put(firmware="")] == [
        None, "1.2", "1.2", None,
    ]  # fmt: skip
    body = {"device_type": "ldds75", "firmware": "2.0"}
    adopted = await caller("engineer").post(f"{DEVICES}/{NEW_EUI}/adopt", json=body)
    assert adopted.json()["device"]["firmware"] == "2.0"


@pytest.mark.parametrize(
    ("first_message", "said", "becomes"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"simulated": False}, False),
        (False, {"simulated": True}, True),
    ],
)
async def test_adopting_may_say_whether_it_is_simulated(
    caller: Caller, world: World, first_message: bool, said: dict[str, bool], becomes: bool
) -> None:
    world.database.execute("UPDATE device SET simulated = %s WHERE dev_eui = %s", (first_message, NEW_EUI))
    body = {"device_type": "ldds75", **said}
    answer = await caller("engineer").post(f"{DEVICES}/{NEW_EUI}/adopt", json=body)
    assert answer.json()["device"]["simulated"] is becomes


async def test_put_of_a_device_that_reports_already_decodes_its_frames(caller: Caller, world: World) -> None:
    await caller("engineer").put(f"{DEVICES}/{NEW_EUI}", json={"device_type": "ldds75"})
    assert world.one("SELECT device_id FROM decode_job") == world.newcomer


async def test_a_device_type_is_checked_then_kept(caller: Caller, world: World) -> None:
    engineer = caller("engineer")
    made = await engineer.put(f"{TYPES}/dragino-ldds20", json=TYPE)
    assert made.status_code == 201, made.text
    assert made.json().items() >= {**TYPE, "id": "dragino-ldds20", "builtin": False}.items()
    again = await engineer.put(f"{TYPES}/dragino-ldds20", json={**TYPE, "expected_interval": 300})
    assert (again.status_code, again.json()["expected_interval"]) == (200, 300)
    assert (await engineer.get(f"{TYPES}/dragino-ldds20")).json() == again.json()
    as_problem(await engineer.put(f"{TYPES}/ldds75", json=TYPE), 409, "conflict")


async def test_a_bad_device_type_names_its_fields(caller: Caller) -> None:
    async def fields(**change: Any) -> list[str]:
        return fields_of(await caller("engineer").put(f"{TYPES}/x", json={**TYPE, **change}))

    assert await fields(codec="nothing") == ["codec"]
    assert await fields(expected_interval=0) == ["expected_interval"]
    assert await fields(codecs=[{"codec": "dragino-ldds75"}]) == ["codecs[0]"]
    assert await fields(codecs=[{"codec": "nothing", "firmware": "1"}]) == ["codecs[0].codec"]
    assert await fields(codec_version="9") == ["codec_version"]
    assert await fields(mapping=["x"]) == ["mapping.0"]
    assert await fields(mapping=[{"field": "a", "metric": "watr.level"}, {"metric": "distance"}]) == [
        "mapping[0].metric",
        "mapping[1].field",
    ]


async def test_the_catalogue(viewer: httpx.AsyncClient) -> None:
    answer = (await viewer.get("/api/v1/metrics-catalogue", params={"limit": 1000})).json()
    items = {i["key"]: i for i in answer["items"]}
    assert items.keys() == CATALOGUE.keys()
    assert items["water.level"]["name"] == {"vi": "Mực nước", "en": "Water level above datum"}
    assert items["water.level"]["range"] == [-20, 3200]
    assert (items["water.level"]["unit"], items["water.level"]["precision"]) == ("m", 2)
    assert items["water.level"]["max_change"] == {"by": 3, "within": 600}
    assert items["water.volume"]["increment"] == "water.volume_increment"
    assert items["water.depth"]["definition_url"].startswith("http://vocabulary.odm2.org/")


async def test_a_misspelt_variable_is_refused_and_a_missing_one_is_told(caller: Caller, world: World) -> None:
    engineer = caller("engineer")
    body = {"device_type": "ldds75", "variables": {"sensor_elev": 98.5}}
    answer = await engineer.post(f"{DEVICES}/{NEW_EUI}/adopt", json=body)
    assert fields_of(answer) == ["variables.sensor_elev"]
    assert "it asks for sensor_elevation_m" in answer.text
    answer = await engineer.post(f"{DEVICES}/{NEW_EUI}/adopt", json={"device_type": "ldds75"})
    assert answer.json()["missing_variables"] == ["sensor_elevation_m"]


async def test_an_unknown_key_is_refused_but_an_answer_can_be_sent_back(caller: Caller, world: World) -> None:
    engineer = caller("engineer")
    device = (await engineer.get(f"{DEVICES}/{EUI}")).json()
    assert (await engineer.put(f"{DEVICES}/{EUI}", json=device)).status_code == 200
    answer = await engineer.put(f"{DEVICES}/{EUI}", json={**device, "staton": "phu-hiep"})
    assert fields_of(answer) == ["staton"]
    station = (await engineer.get("/api/v1/stations/phu-hiep")).json()
    assert (await engineer.put("/api/v1/stations/phu-hiep", json=station)).status_code == 200
    answer = await engineer.put("/api/v1/stations/phu-hiep", json={**station, "threshold": {}})
    assert answer.status_code == 422
