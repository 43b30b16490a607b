"""Stations, what they measure now and how they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg.types.json import Jsonb

from telemetry.clock import ManualClock, micros

from .conftest import Caller, as_problem
from .world import EUI, T0, World

BODY: dict[str, Any] = {
    "name": "Trạm Tà Lài",
    "name_en": "Ta Lai",
    "kind": "river",
    "river": "Đồng Nai",
    "basin": "Đồng Nai",
    "admin_unit": "Tân Phú",
    "latitude": 11.37,
    "longitude": 107.35,
    "source": "Đài KTTV",
    "certainty": "high",
    "thresholds": {"water.level": [{"level": 1, "label": "BĐ1", "value": 112.5}]},
}


def _ladder(*values: float) -> list[dict[str, Any]]:
    return [
        {"level": level, "label": f"BĐ{level}", "value": value} for level, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3), (3, 2, 1), (-1, 0, 0.5)])
async def test_thresholds_may_rise_or_fall(caller: Caller, values: tuple[float, ...]) -> None:
    body = {**BODY, "thresholds": {"water.level": list(reversed(_ladder(*values)))}}
    answer = await caller("engineer").put("/api/v1/stations/x", json=body)
    assert answer.status_code == 201, answer.text


_STEPS = "with the level the values must rise, or fall, all the way"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ((1, 3, 2), f"{_STEPS}; got level 1 at 1, level 2 at 3, level 3 at 2"),
        ((1, 1), f"{_STEPS}; got level 1 at 1, level 2 at 1"),
        ((1, 1e13), "[1].value: a number is needed"),
    ],
)
async def test_thresholds_that_no_rule_can_use(
    caller: Caller, world: World, values: tuple[float, ...], problem: str
) -> None:
    body = {**BODY, "thresholds": {"battery.voltage": _ladder(3, 2), "water.level": _ladder(*values)}}
    answer = await caller("engineer").put("/api/v1/stations/x", json=body)
    assert as_problem(answer, 422)["errors"] == [{"field": "thresholds.water.level", "problem": problem}]
    assert world.one("SELECT count(*) FROM station WHERE code = 'x'") == 0


async def test_tests_that_may_silence_an_alarm_are_told(caller: Caller) -> None:
    still = {"tolerance": 0.01, "suspect": 7200, "fail": 14400}
    quality = {"metrics": {"water.level": {"flat_line": still}, "air.humidity": {"flat_line": still}}}
    answer = await caller("engineer").put("/api/v1/stations/x", json={**BODY, "quality": quality})
    assert answer.status_code == 201, answer.text
    (told,) = answer.json()["warnings"]
    assert told.startswith("quality.metrics.water.level.flat_line.fail: a reading that fails raises no alert")
    del quality["metrics"]["water.level"]["flat_line"]["fail"]
    again = await caller("engineer").put("/api/v1/stations/x", json={**answer.json(), "quality": quality})
    assert (again.status_code, again.json()["warnings"]) == (200, [])


async def test_a_station_with_its_newest_readings(viewer: httpx.AsyncClient, world: World) -> None:
    world.latest(T0, {"water.level:0": (micros(T0), 104.21, 1), "battery.voltage:0": (micros(T0), 3.6, 2)})
    found = (await viewer.get("/api/v1/stations/phu-hiep")).json()
    assert (found["name"], found["river"], found["latitude"]) == ("Trạm Phú Hiệp", "La Ngà", 11.1)
    assert found["thresholds"]["water.level"][0]["label"] == "BĐ1"
    at = T0.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found["state"] == {
        "level": 0,
        "label": None,
        "acknowledged": False,
        "health": "ok",
        "seen_at": at,
    }
    assert found["latest"] == [
        {
            "dev_eui": EUI,
            "metric": "battery.voltage",
            "channel": 0,
            "time": at,
            "value": 3.6,
            "quality": 2,
            "unit": "V",
        },
        {
            "dev_eui": EUI,
            "metric": "water.level",
            "channel": 0,
            "time": at,
            "value": 104.21,
            "quality": 1,
            "unit": "m",
        },
    ]
    assert (await viewer.get("/api/v1/stations")).json() == {"items": [found], "next": None}


async def test_a_threshold_tells_what_was_left_out_of_it_as_empty(
    viewer: httpx.AsyncClient, world: World
) -> None:
    world.database.execute(
        "UPDATE station SET thresholds = %s",
        (Jsonb({"water.level": [{"level": 1, "label": "BĐ1", "value": 105.0}]}),),
    )
    (found,) = (await viewer.get("/api/v1/stations")).json()["items"]
    assert found["thresholds"]["water.level"] == [
        {"level": 1, "label": "BĐ1", "value": 105.0, "source": "", "certainty": ""}
    ]
    assert found == (await viewer.get("/api/v1/stations/phu-hiep")).json()


async def test_a_station_is_late_after_three_intervals(
    viewer: httpx.AsyncClient, world: World, clock: ManualClock
) -> None:
    async def health() -> str:
        return str((await viewer.get("/api/v1/stations/phu-hiep")).json()["state"]["health"])

    assert await health() == "no_data"
    world.latest(T0, {})
    clock.set(T0 + timedelta(seconds=3600))
    assert await health() == "ok"
    clock.advance(timedelta(seconds=1))
    assert await health() == "late"
    world.database.execute("UPDATE device SET status = 'retired'")
    assert await health() == "no_data"


async def test_its_level_is_that_of_the_worst_firing_alert(viewer: httpx.AsyncClient, world: World) -> None:
    world.alert(level=1, rule="r1", acked_at=T0)
    world.alert(level=3, rule="r2")
    world.alert(level=5, rule="r3", state="resolved")

    async def state() -> Any:
        return (await viewer.get("/api/v1/stations/phu-hiep")).json()["state"]

    found = await state()
    assert (found["level"], found["label"], found["acknowledged"]) == (3, "BĐ3", False)
    world.database.execute("UPDATE alert SET acked_at = now()")
    assert (await state())["acknowledged"] is True


async def test_put_creates_then_replaces(caller: Caller, world: World) -> None:
    engineer = caller("engineer")
    made = await engineer.put("/api/v1/stations/ta-lai", json=BODY)
    assert made.status_code == 201
    assert made.json().items() >= {k: v for k, v in BODY.items() if k != "thresholds"}.items()
    assert made.json()["state"]["health"] == "no_data"
    changed = await engineer.put("/api/v1/stations/ta-lai", json={**BODY, "name": "Tà Lài mới"})
    assert (changed.status_code, changed.json()["name"]) == (200, "Tà Lài mới")
    rows = world.database.execute("SELECT actor, action, object FROM audit").fetchall()
    assert rows == [{"actor": "key:engineer", "action": "station.put", "object": "ta-lai"}] * 2
    as_problem(await engineer.put("/api/v1/stations/Tà Lài", json=BODY), 422)


async def test_delete_leaves_the_devices(caller: Caller, world: World) -> None:
    assert (await caller("engineer").delete("/api/v1/stations/phu-hiep")).status_code == 204
    as_problem(await caller("engineer").delete("/api/v1/stations/phu-hiep"), 404)
    assert (await caller("viewer").get(f"/api/v1/devices/{EUI}")).json()["station"] is None


@pytest.mark.parametrize(
    ("words", "found"),
    [("PHÚ HIỆP", True), ("phu hiep", True), ("hiep%", False), ("_hú", False), ("Phù", False)],
)
async def test_search(viewer: httpx.AsyncClient, world: World, words: str, found: bool) -> None:
    items = (await viewer.get("/api/v1/stations", params={"q": words})).json()["items"]
    assert bool(items) is found


async def test_a_thousand_stations_take_no_more_queries_than_one(
    app: FastAPI, viewer: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.database.execute(
        "INSERT INTO station (code, name, latitude, longitude)"
        " SELECT 's-' || n, 'Trạm ' || n, 10, 106 FROM generate_series(1, 999) n"
    )
    world.database.execute(
        "INSERT INTO device (dev_eui, status, device_type, station_id)"
        " SELECT lpad(to_hex(id), 16, '0'), 'active', 'ldds75', id FROM station"
    )
    world.database.execute(
        "INSERT INTO latest SELECT id, now(), now(),"
        " (SELECT jsonb_object_agg(m.id || ':0', '[1763748000000000, 1.5, 1]'::jsonb)"
        " FROM (SELECT id FROM metric ORDER BY id LIMIT 6) m) FROM device"
    )
    await viewer.get("/api/v1/stations?limit=1")  # the first use of a key is noted
    asked = 0
    execute = psycopg.AsyncCursor.execute

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        return await execute(self, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    await viewer.get("/api/v1/stations?limit=1")
    for_one, asked = asked, 0
    items = (await viewer.get("/api/v1/stations?limit=1000")).json()["items"]
    assert len(items) == 1000
    assert sum(len(item["latest"]) for item in items) >= 6000
    assert asked == for_one


async def test_values_of_the_newest_second_survive_to_the_microsecond(
    viewer: httpx.AsyncClient, world: World
) -> None:
    at = datetime(2026, 11, 21, 18, 0, 0, 123456, tzinfo=UTC)
    world.latest(T0, {"water.level:0": (micros(at), 1, 1)})
    for path in ("/api/v1/latest", "/api/v1/stations/phu-hiep"):
        found = (await viewer.get(path)).json()
        item = (found.get("items") or found["latest"])[0]
        assert item["time"] == "2026-11-21T18:00:00.123456Z"
