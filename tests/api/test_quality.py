"""People's word on readings, and where a number comes from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.ingest.judging import catch_up, opened, override
from tests.ingest.redecoding import redecode
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import EUI as SAYING
from tests.ingest.store import writer

from .conftest import Caller, as_problem, fields_of
from .world import EUI, T0, World

PATH = "/api/v1/quality-overrides"
SPIKE = {"metrics": {"water.level": {"spike": {"suspect": 1, "fail": 3}}}}


@pytest.fixture
def operator(caller: Caller) -> httpx.AsyncClient:
    return caller("operator")


async def _qualities(viewer: httpx.AsyncClient) -> list[int]:
    items = (await viewer.get("/api/v1/readings", params={"device": EUI})).json()["items"]
    return [item["quality"] for item in items]


async def test_an_override_holds_until_it_is_withdrawn(
    operator: httpx.AsyncClient, viewer: httpx.AsyncClient, world: World, database_url: str
) -> None:
    for minute in (1, 2, 3):
        world.reading(T0 + timedelta(minutes=minute), 100.0)
    told = {"device": EUI, "metric": "water.level", "quality": 4, "reason": "Cảm biến bị bùn phủ"}
    at_two = (T0 + timedelta(minutes=2)).isoformat()
    assert as_problem(await viewer.post(PATH, json={**told, "time": at_two}), 403)
    single = await operator.post(PATH, json={**told, "time": at_two})
    assert single.status_code == 201, single.text
    period = {"from": T0.isoformat(), "to": at_two, "quality": 3}
    newest = (await operator.post(PATH, json={**told, **period})).json()
    async with opened(database_url) as pool:
        await catch_up(pool)
        assert await _qualities(viewer) == [3, 4, 1]
        listed = (await viewer.get(PATH, params={"device": EUI})).json()["items"]
        assert [one["id"] for one in listed] == [newest["id"], single.json()["id"]]
        assert listed[1]["created_by"]
        gone = await operator.delete(f"{PATH}/{single.json()['id']}", params={"reason": "verwechselt"})
        assert gone.status_code == 204
        assert (await operator.delete(f"{PATH}/{single.json()['id']}")).status_code == 204
        await catch_up(pool)
    assert await _qualities(viewer) == [3, 1, 1]
    (withdrawn,) = (await viewer.get(PATH, params={"withdrawn": True})).json()["items"]
    assert (withdrawn["withdrawn_reason"], bool(withdrawn["withdrawn_by"])) == ("verwechselt", True)
    actions = world.database.execute("SELECT action FROM audit ORDER BY id").fetchall()
    assert [row["action"] for row in actions] == ["quality.override", "quality.override", "quality.withdraw"]
    as_problem(await operator.delete(f"{PATH}/4711"), 404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"metric": "water.lvl"}, "metric"),
        ({"device": "a840410000000009"}, "device"),
        ({"quality": 9}, "quality"),
        ({"reason": " "}, "reason"),
        ({"time": None}, "from"),
        ({"from": T0.isoformat()}, "time"),
        ({"time": None, "from": T0.isoformat(), "to": T0.isoformat()}, "to"),
    ],
)
async def test_what_cannot_be_said_is_told(
    body: dict[str, Any], field: str, operator: httpx.AsyncClient, world: World
) -> None:
    told = {"device": EUI, "metric": "water.level", "quality": 4, "reason": "dirt", "time": T0.isoformat()}
    answer = await operator.post(PATH, json={**told, **body})
    assert fields_of(answer) == [field]


async def test_a_stations_checks_are_checked_and_reach_its_readings(
    caller: Caller, viewer: httpx.AsyncClient, world: World, database_url: str
) -> None:
    engineer = caller("engineer")
    for minute, value in enumerate([100.0, 107.0, 100.0]):
        world.reading(T0 + timedelta(minutes=minute), value)
    station = (await viewer.get("/api/v1/stations/phu-hiep")).json()
    assert station["quality"] == {}
    broken = {"metrics": {"water.level": {"spike": {"suspect": 2, "fail": 1}}}}
    refused = await engineer.put("/api/v1/stations/phu-hiep", json={**station, "quality": broken})
    assert "quality" in fields_of(refused)[0]
    assert "metrics.water.level.spike.fail: must be greater" in as_problem(refused, 422)["detail"]
    assert (await engineer.put("/api/v1/stations/phu-hiep", json={**station, "quality": SPIKE})).is_success
    async with opened(database_url) as pool:
        await catch_up(pool)
        assert await _qualities(viewer) == [1, 4, 1]
        (job,) = (await viewer.get("/api/v1/quality-jobs", params={"device": EUI})).json()["items"]
        assert (job["state"], job["why"], job["metric"]) == ("done", "checks of station phu-hiep", None)
        body = {"device": EUI, "metric": "water.level", "from": T0.isoformat()}
        ordered = await engineer.post("/api/v1/quality-jobs", json=body)
        assert (ordered.status_code, ordered.json()["state"]) == (202, "waiting")
        await catch_up(pool)
    jobs = (await viewer.get("/api/v1/quality-jobs", params={"state": "done"})).json()["items"]
    assert len(jobs) == 2


async def test_where_a_number_comes_from(viewer: httpx.AsyncClient, world: World, database_url: str) -> None:
    database = world.database
    level = {"field": "level", "metric": "water.level", "scale": 2.0}
    device = register(database, level, {"field": "tips", "metric": "rain.total", "scale": 0.2})
    database.execute("UPDATE station SET quality = %s", (Jsonb(SPIKE),))
    database.execute("UPDATE device SET station_id = %s WHERE id = %s", (world.station, device))
    for metric in ("water.level", "rain.total"):
        database.execute(
            "INSERT INTO calibration (device_id, metric_id, channel, valid_from, definition, created_by)"
            " SELECT %s, id, 0, %s, '{\"gain\": 2.0}', 'Lan' FROM metric WHERE key = %s",
            (device, at(-60), metric),
        )
    with writer(database_url, CODECS) as commit:
        commit(*(frame(f"{n}", n, {"level": v, "tips": 10 * n}) for n, v in enumerate([1.0, 5.0, 1.0])))
    database.execute("UPDATE device_type SET mapping = jsonb_set(mapping, '{0,scale}', '1.0')")
    redecode(database_url)
    override(database, device, "water.level", at(2), None, 3)
    async with opened(database_url) as pool:
        await catch_up(pool)

    async def ask(metric: str, minute: int) -> dict[str, Any]:
        params = {"device": SAYING, "metric": metric, "time": at(minute).isoformat()}
        answer = await viewer.get("/api/v1/readings/provenance", params=params)
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["items"]
        return dict(found)

    spike = await ask("water.level", 1)
    assert (spike["value"], spike["raw"], spike["quality"], spike["flag_it_came_with"]) == (10.0, 5.0, 4, 1)
    assert spike["unit"] == "m"
    assert spike["station"] == "phu-hiep"
    assert bytes.fromhex(spike["frame"]["payload_hex"]) == b'{"level": 5.0, "tips": 10}'
    assert (spike["frame"]["f_port"], spike["frame"]["fields"]["level"]) == (2, 5.0)
    assert (spike["decoding"]["codec"], spike["decoding"]["version"]) == ("json", "1")
    assert spike["decoding"]["map"][0] == {**level, "scale": 1.0}
    assert spike["calibration"]["definition"] == {"gain": 2.0}
    assert spike["calibration"]["created_by"] == "Lan"
    tests = {test["test"]: test for test in spike["tests"]}
    assert tests["spike"]["outcome"] == "fail"
    assert tests["spike"]["limits"]["fail"] == 3
    assert tests["gross_range"] == {
        "test": "gross_range", "outcome": "pass", "limits": {"fail": [-20.0, 3200.0], "suspect": None}
    }  # fmt: skip
    assert spike["pending"] is False
    assert spike["overrides"] == []
    assert spike["counts"] is None
    (before,) = spike["decoded_again"]
    assert before["said"] == [{"value": 20.0, "raw": 10.0, "quality": 1}]
    assert before["requested_by"] == "test"

    last = await ask("water.level", 2)
    assert (last["quality"], last["overrides"][0]["reason"]) == (3, "seen")
    assert {test["test"]: test["outcome"] for test in last["tests"]}["spike"] == "not_evaluated"

    rain = await ask("rain.increment", 2)
    assert (rain["value"], rain["raw"]) == (4.0, 2.0)
    assert [count["value"] for count in rain["counts"]] == [2.0, 4.0]
    assert rain["calibration"]["metric"] == "rain.total"
    params = {"device": SAYING, "metric": "water.level", "time": at(7).isoformat()}
    as_problem(await viewer.get("/api/v1/readings/provenance", params=params), 404)


async def test_a_range_that_hides_a_flood_is_refused(
    caller: Caller, viewer: httpx.AsyncClient, world: World
) -> None:
    engineer = caller("engineer")
    station = (await viewer.get("/api/v1/stations/phu-hiep")).json()
    station["thresholds"] = {"water.level": [{"level": 1, "label": "BĐ1", "value": 114}]}
    narrow, wide = (
        {"metrics": {"water.level": {"gross_range": {"fail": [98, high]}}}} for high in (113.9, 114)
    )
    refused = await engineer.put("/api/v1/stations/phu-hiep", json={**station, "quality": narrow})
    assert "leaves out the threshold of level 1 at 114" in as_problem(refused, 422)["detail"]
    assert (await engineer.put("/api/v1/stations/phu-hiep", json={**station, "quality": wide})).is_success


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"])
@pytest.mark.parametrize("name", ["time", "from"])
async def test_times_that_cannot_be_meant_are_refused(
    operator: httpx.AsyncClient, world: World, name: str, moment: str
) -> None:
    told = {"device": EUI, "metric": "water.level", "quality": 4, "reason": "mud"}
    assert fields_of(await operator.post(PATH, json={**told, name: moment})) == [name]
    for bound in ("-infinity", moment):
        with pytest.raises(psycopg.errors.CheckViolation), world.database.transaction():
            world.database.execute(
                "INSERT INTO quality_override (device_id, metric_id, valid_from, quality, reason, created_by)"
                " SELECT d.id, m.id, %s, 4, 'x', 'x' FROM device d, metric m LIMIT 1",
                (bound,),
            )
