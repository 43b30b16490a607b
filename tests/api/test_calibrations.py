"""Calibrations over the API: what is asked for, what is refused, and what they do to stored readings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from ingest.recalibrate import Recalibrator
from telemetry.settings import StoreSettings
from telemetry.store.pool import async_pool

from .conftest import Caller, as_problem, fields_of
from .world import EUI, NEW_EUI, T0, World

PATH = f"/api/v1/devices/{EUI}/calibrations"
START = (T0 - timedelta(hours=1)).isoformat()
END = T0.isoformat()


@pytest.fixture
def engineer(caller: Caller) -> httpx.AsyncClient:
    return caller("engineer")


async def test_a_calibration_and_what_becomes_of_it(
    engineer: httpx.AsyncClient, viewer: httpx.AsyncClient, world: World, database_url: str
) -> None:
    world.reading(T0 - timedelta(minutes=5), 100.0)
    answer = await engineer.post(PATH, json={"metric": "water.level", "from": START, "gain": 1.5})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["gain"], made["offset"], made["points"], made["to"]) == (1.5, 0.0, None, None)
    assert made["created_by"]
    assert (await viewer.get(PATH)).json() == {"items": [made], "next": None}
    assert (await _jobs(viewer))[0]["state"] == "waiting"

    async with async_pool(StoreSettings(database_url=database_url), application="test") as pool:
        while await Recalibrator(pool, writer="calibrate").step():
            pass
    (job,) = await _jobs(viewer)
    assert (job["state"], job["readings"], job["metric"]) == ("done", 1, "water.level")
    (reading,) = (await viewer.get("/api/v1/readings", params={"device": EUI})).json()["items"]
    assert (reading["value"], reading["raw"]) == (150.0, 100.0)

    ended = await engineer.put(f"{PATH}/{made['id']}", json={**made, "offset": None, "to": END})
    assert ended.json()["to"] == T0.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (await engineer.delete(f"{PATH}/{made['id']}")).status_code == 204
    assert (await viewer.get(PATH)).json()["items"] == []
    actions = world.database.execute("SELECT action FROM audit ORDER BY id").fetchall()
    assert [row["action"] for row in actions] == [
        "calibration.add", "calibration.put", "calibration.delete"
    ]  # fmt: skip
    version = world.one("SELECT version FROM registry_version")
    assert version > 3, "writers read the calibrations anew"


async def _jobs(viewer: httpx.AsyncClient) -> list[dict[str, Any]]:
    items = (await viewer.get(f"/api/v1/devices/{EUI}/calibration-jobs")).json()["items"]
    return list(items)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"metric": "water.lvl"}, "metric", "water.level"),
        ({"to": START}, "to", "later than"),
        ({"gain": 0}, "gain", "every value the same"),
        ({"gain": 2, "points": [[0, 0], [1, 2]]}, "points", "either"),
        ({"points": [[0, 0]]}, "points", ""),
        ({"points": [[0, 0], [0, 1]]}, "points", "two points"),
        ({"from": "yesterday"}, "from", "2026"),
        ({"metric": "rain.total", "offset": 1}, "offset", "counter"),
        ({"metric": "rain.total", "points": [[0, 0], [1, 2]]}, "points", "counter"),
        ({"gian": 2}, "gian", ""),
        ({"channel": 40_000}, "channel", ""),
    ],
)
async def test_what_cannot_be_is_told(
    body: dict[str, Any], field: str, words: str, engineer: httpx.AsyncClient, world: World
) -> None:
    answer = await engineer.post(PATH, json={"metric": "water.level", "from": START, **body})
    problem = as_problem(answer, 422, "invalid")
    assert {name.partition(".")[0].partition("[")[0] for name in fields_of(answer)} == {field}
    assert words in problem["detail"]
    assert world.one("SELECT count(*) FROM calibration") == 0


async def test_an_increment_is_calibrated_by_its_counter(engineer: httpx.AsyncClient, world: World) -> None:
    body = {"metric": "rain.increment", "from": START, "gain": 1.1}
    assert (await engineer.post(PATH, json=body)).status_code == 201, "where it is sent as such"
    world.database.execute(
        """UPDATE device_type SET mapping = '[{"field": "tips", "metric": "rain.total"}]'"""
    )
    problem = as_problem(await engineer.post(PATH, json=body), 422, "invalid")
    assert "calibrate that" in problem["detail"]
    assert (await engineer.post(PATH, json={**body, "metric": "rain.total"})).status_code == 201


async def test_periods_that_overlap(engineer: httpx.AsyncClient, world: World) -> None:
    body = {"metric": "water.level", "from": START, "to": END, "gain": 2}
    assert (await engineer.post(PATH, json=body)).status_code == 201
    problem = as_problem(await engineer.post(PATH, json={**body, "to": None}), 409, "conflict")
    assert "water.level on channel 0" in problem["detail"]
    assert (await engineer.post(PATH, json={**body, "channel": 1})).status_code == 201
    after = await engineer.post(PATH, json={**body, "from": END, "to": None})
    assert after.status_code == 201
    other = await engineer.put(f"{PATH}/{after.json()['id']}", json={**body, "to": None})
    as_problem(other, 409, "conflict")


async def test_who_may(viewer: httpx.AsyncClient, engineer: httpx.AsyncClient, world: World) -> None:
    body = {"metric": "water.level", "from": START}
    assert (await viewer.post(PATH, json=body)).status_code == 403
    made = (await engineer.post(PATH, json=body)).json()
    assert (await viewer.delete(f"{PATH}/{made['id']}")).status_code == 403
    as_problem(await viewer.get("/api/v1/devices/ffffffffffffffff/calibrations"), 404, "not-found")
    elsewhere = f"/api/v1/devices/{NEW_EUI}/calibrations/{made['id']}"
    as_problem(await engineer.delete(elsewhere), 404, "not-found")
    as_problem(await engineer.put(elsewhere, json=body), 404, "not-found")
