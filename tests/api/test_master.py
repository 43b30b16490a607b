"""Master data over the API: units, owners, facilities, gateways, and who belonged to whom when."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb

from .conftest import Caller, as_problem, fields_of
from .test_stations import BODY
from .world import EUI, T0, World

API = "/api/v1"
REFORM = "2025-07-01"


@pytest.fixture
async def engineer(caller: Caller) -> httpx.AsyncClient:
    return caller("engineer")


async def _put(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.put(f"{API}/{path}", json=body)
    assert answer.status_code in (200, 201), answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _items(client: httpx.AsyncClient, path: str, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(f"{API}/{path}", params={"limit": 2, **query, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = {"cursor": page["next"]}


@pytest.fixture
async def reform(engineer: httpx.AsyncClient) -> None:
    """Đồng Nai took Bình Phước, and Bắc Ninh took the code of Bắc Giang."""
    for code, name, since in (("75", "Đồng Nai", REFORM), ("24", "Bắc Ninh", REFORM)):
        await _put(engineer, f"admin-units/{code}", name=name, level="province", valid_from=since)
    for code, name, heir in (("70", "Bình Phước", "75"), ("75", "Đồng Nai", "75"), ("24", "Bắc Giang", "24")):
        body = {"name": name, "level": "province", "valid_to": REFORM, "successors": [heir]}
        await _put(engineer, f"admin-units/{code}", **body)
    await _put(engineer, "admin-units/26071", name="Tân Phú", level="commune", parent="75", valid_from=REFORM)


@pytest.mark.usefixtures("reform")
async def test_units_of_a_time(viewer: httpx.AsyncClient) -> None:
    async def codes(**query: Any) -> list[tuple[str, str]]:
        return [(unit["code"], unit["name"]) for unit in await _items(viewer, "admin-units", **query)]

    assert await codes() == [("24", "Bắc Ninh"), ("26071", "Tân Phú"), ("75", "Đồng Nai")]
    before = "2025-06-30T23:59:59+07:00"
    assert await codes(at=before) == [("24", "Bắc Giang"), ("70", "Bình Phước"), ("75", "Đồng Nai")]
    assert await codes(parent="75") == await codes(level="commune") == [("26071", "Tân Phú")]
    now = (await viewer.get(f"{API}/admin-units/75")).json()
    assert (now["predecessors"], now["valid_from"], now["valid_to"]) == (["70", "75"], REFORM, None)
    as_problem(await viewer.get(f"{API}/admin-units/70"), 404)
    assert (await viewer.get(f"{API}/admin-units/70", params={"at": before})).json()["successors"] == ["75"]
    versions = await _items(viewer, "admin-units/24/history", limit=1)
    assert [unit["name"] for unit in versions] == ["Bắc Giang", "Bắc Ninh"]


@pytest.mark.usefixtures("reform")
async def test_units_that_cannot_be(engineer: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    overlapping = {"name": "X", "level": "province", "valid_from": "2025-01-01"}
    as_problem(await engineer.put(f"{API}/admin-units/75", json=overlapping), 409)
    orphan = {"name": "X", "level": "commune", "parent": "99"}
    assert fields_of(await engineer.put(f"{API}/admin-units/00001", json=orphan)) == ["parent"]
    end = {"day": "2026-01-01", "successors": ["99"]}
    assert fields_of(await engineer.post(f"{API}/admin-units/75/end", json=end)) == ["successors"]
    as_problem(await viewer.put(f"{API}/admin-units/75", json=overlapping), 403)
    ended = await engineer.post(f"{API}/admin-units/26071/end", json={"day": "2026-01-01", "successors": []})
    assert ended.json()["valid_to"] == "2026-01-01"


@pytest.mark.usefixtures("reform")
async def test_a_station_and_what_it_belongs_to(
    engineer: httpx.AsyncClient, viewer: httpx.AsyncClient, world: World
) -> None:
    await _put(engineer, "owners/so-tnmt", name="Sở Nông nghiệp và Môi trường", kind="agency")
    await _put(engineer, "owners/nha-may", name=unicodedata.normalize("NFD", "Nhà máy"))
    for typed in ("Nhà máy", unicodedata.normalize("NFD", "nhà")):
        assert [one["name"] for one in await _items(viewer, "owners", q=typed)] == ["Nhà máy"]
    await _put(engineer, "facilities/kcn", name="KCN Biên Hòa", owner="nha-may", unit="75")
    body = {**BODY, "admin_unit": "", "unit": "70@2025-06-30", "owner": "so-tnmt", "facility": "kcn"}
    made = await _put(engineer, "stations/ta-lai", **body)
    assert [made[key] for key in ("unit", "owner", "facility", "admin_unit")] == [
        "70@2025-06-30",
        "so-tnmt",
        "kcn",
        "Bình Phước",
    ]
    # A program that knows nothing of belonging changes nothing of it; nor does an answer sent back.
    assert (await _put(engineer, "stations/ta-lai", **BODY))["owner"] == "so-tnmt"
    assert (await _put(engineer, "stations/ta-lai", **made))["unit"] == "70@2025-06-30"
    moved = await _put(engineer, "stations/ta-lai", **{**made, "unit": "26071", "owner": None})
    assert (moved["unit"], moved["owner"], moved["admin_unit"]) == ("26071", None, "Tân Phú")
    told = [(one["what"], one["code"], one["from"] is None, one["to"] is None)
            for one in await _items(viewer, "stations/ta-lai/history")]  # fmt: skip
    assert told == [
        ("facility", "kcn", True, True),
        ("owner", "so-tnmt", True, False),
        ("unit", "70@2025-06-30", True, False),
        ("unit", "26071", False, True),
    ]
    for query in ({"unit": "75"}, {"unit": "26071"}, {"facility": "kcn"}):
        assert [one["code"] for one in await _items(viewer, "stations", **query)] == ["ta-lai"]
    assert await _items(viewer, "stations", owner="so-tnmt") == []
    owner = {"what": "owner", "code": "nha-may"}
    assert fields_of(await engineer.post(f"{API}/stations/ta-lai/history", json=owner)) == ["from"]
    as_problem(await engineer.delete(f"{API}/owners/so-tnmt"), 409)
    device = await _put(engineer, f"devices/{EUI}", device_type="ldds75", station="ta-lai")
    assert (device["unit"], device["owner"], device["facility"]) == ("26071", None, "kcn")
    assert world.one("SELECT count(*) FROM audit WHERE action = 'station.put'") == 4
    for field, value in (("unit", "70"), ("owner", "x"), ("facility", "x")):
        assert fields_of(await engineer.put(f"{API}/stations/y", json={**BODY, field: value})) == [field]


async def test_a_device_that_moved(
    engineer: httpx.AsyncClient, viewer: httpx.AsyncClient, world: World
) -> None:
    await _put(engineer, "stations/ta-lai", **BODY)
    path, version = f"{API}/devices/{EUI}/placements", world.one("SELECT version FROM registry_version")
    moved = T0 - timedelta(days=2)
    answer = await engineer.post(path, json={"station": "ta-lai", "from": moved.isoformat()})
    assert answer.status_code == 200, answer.text
    at = moved.strftime("%Y-%m-%dT%H:%M:%SZ")
    expected = [
        {"station": "phu-hiep", "from": None, "to": at},
        {"station": "ta-lai", "from": at, "to": None},
    ]
    assert answer.json()["items"] == expected == await _items(viewer, f"devices/{EUI}/placements", limit=1)
    assert (await viewer.get(f"{API}/devices/{EUI}")).json()["station"] == "ta-lai"
    assert world.one("SELECT version FROM registry_version") > version
    assert world.one("SELECT station_at(%s, %s)", world.device, moved - timedelta(hours=1)) == world.station
    # Said wrongly and mended: what stood there gives way.
    mended = await engineer.post(path, json={"station": "phu-hiep", "from": None})
    assert mended.json()["items"] == [{"station": "phu-hiep", "from": None, "to": None}]
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert fields_of(await engineer.post(path, json={"station": "ta-lai", "from": ahead})) == ["from"]
    assert fields_of(await engineer.post(path, json={"station": "nowhere", "from": None})) == ["station"]
    assert fields_of(await engineer.post(path, json={"station": "ta-lai"})) == ["from"], (
        "all of it is rewritten"
    )
    turned = {"station": "ta-lai", "from": moved.isoformat(), "to": (moved - timedelta(1)).isoformat()}
    assert fields_of(await engineer.post(path, json=turned)) == ["to"]
    as_problem(await viewer.post(path, json={"station": "ta-lai"}), 403)


async def test_gateways_seen_and_registered(
    engineer: httpx.AsyncClient, viewer: httpx.AsyncClient, world: World
) -> None:
    hour = T0.replace(minute=0, second=0)
    heard = [{"id": "00800000a0001914", "rssi": -57, "latitude": 11.2, "longitude": 107.3}]
    world.uplink(hour, gateways=Jsonb(heard))
    world.database.execute(
        "INSERT INTO gateway_seen VALUES ('00800000a0001914', %s, %s, %s), ('eui-roaming', %s, %s, %s)",
        (hour, hour, world.device) * 2,
    )
    seen = await _items(viewer, "gateways", registered="false")
    assert [one["gateway_id"] for one in seen] == ["00800000a0001914", "eui-roaming"]
    made = await _put(engineer, "gateways/00-80-00-00-A0-00-19-14", name="Cột Tà Lài", altitude=42)
    assert (made["gateway_id"], made["registered"]) == ("00800000a0001914", True)
    await _put(engineer, "gateways/never-heard", name="Kho")
    told = await _items(viewer, "gateways")
    assert [(one["name"], one["registered"], one["seen_at"] is None) for one in told] == [
        ("Cột Tà Lài", True, False),
        ("", False, False),
        ("Kho", True, True),
    ]
    detail = (await viewer.get(f"{API}/gateways/00800000a0001914")).json()
    assert (detail["reported"]["device"], detail["reported"]["latitude"]) == (EUI, 11.2)
    assert (await engineer.delete(f"{API}/gateways/00800000a0001914")).status_code == 204
    assert (await viewer.get(f"{API}/gateways/00800000a0001914")).json()["registered"] is False
    as_problem(await engineer.delete(f"{API}/gateways/eui-roaming"), 404)
    half = {"latitude": 11}
    assert (await engineer.put(f"{API}/gateways/x", json=half)).status_code == 422


async def test_owners_and_facilities(engineer: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    for code in ("c", "a", "b"):
        await _put(engineer, f"owners/{code}", name=f"Công ty {code}")
    assert [one["code"] for one in await _items(viewer, "owners", q="công TY")] == ["a", "b", "c"]
    permit = {"permit": "12/GP-UBND", "permit_from": "2024-01-01", "permit_to": "2028-12-31"}
    made = await _put(engineer, "facilities/x", name="Nhà máy giấy", sector="giấy", owner="a", **permit)
    assert (await viewer.get(f"{API}/facilities/x")).json() == made
    assert await _put(engineer, "facilities/x", **made) == made
    assert await _items(viewer, "facilities", sector="dệt") == []
    wrong = {"name": "X", "permit_from": "2028-01-01", "permit_to": "2024-01-01"}
    assert (await engineer.put(f"{API}/facilities/y", json=wrong)).status_code == 422
    assert (await engineer.delete(f"{API}/owners/b")).status_code == 204
    as_problem(await engineer.delete(f"{API}/owners/a"), 409)
    assert (await engineer.delete(f"{API}/facilities/x")).status_code == 204
    as_problem(await viewer.get(f"{API}/facilities/x"), 404)
