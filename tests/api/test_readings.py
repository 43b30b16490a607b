"""The time series: filters, order and what a query touches."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from api.routes import readings
from telemetry.clock import micros

from .conftest import as_problem
from .world import EUI, NEW_EUI, T0, World


async def values(client: httpx.AsyncClient, **params: Any) -> list[float]:
    answer = await client.get("/api/v1/readings", params=params)
    assert answer.status_code == 200, answer.text
    return [item["value"] for item in answer.json()["items"]]


async def test_one_reading_with_all_it_says(viewer: httpx.AsyncClient, world: World) -> None:
    world.reading(T0, 104.2, quality=3, channel=1, uplink=2**53 + 1)
    answer = await viewer.get("/api/v1/readings", params={"device": EUI})
    assert answer.json() == {
        "items": [
            {
                "time": T0.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "dev_eui": EUI,
                "station": "phu-hiep",
                "metric": "water.level",
                "channel": 1,
                "value": 104.2,
                "raw": None,
                "quality": 3,
                "unit": "m",
                "uplink": "9007199254740993",
            }
        ],
        "next": None,
    }


async def test_filters(viewer: httpx.AsyncClient, world: World) -> None:
    world.reading(T0, 1)
    world.reading(T0 + timedelta(minutes=1), 2, quality=4)
    world.reading(T0 + timedelta(minutes=2), 3, channel=1)
    world.reading(T0 + timedelta(minutes=3), 4, metric="battery.voltage")
    world.reading(T0 + timedelta(minutes=4), 5, device=world.newcomer)
    assert await values(viewer) == [1, 2, 3, 4, 5]
    assert await values(viewer, order="desc") == [5, 4, 3, 2, 1]
    assert await values(viewer, device=EUI) == [1, 2, 3, 4]
    assert await values(viewer, device=[EUI, NEW_EUI.upper()]) == [1, 2, 3, 4, 5]
    assert await values(viewer, station="phu-hiep") == [1, 2, 3, 4]
    assert await values(viewer, station="nowhere") == []
    assert await values(viewer, device="ffffffffffffffff") == []
    assert await values(viewer, metric="battery.voltage") == [4]
    assert await values(viewer, metric=["battery.voltage", "water.level"], device=EUI) == [1, 2, 3, 4]
    assert await values(viewer, channel=1) == [3]
    assert await values(viewer, quality=[1, 4], metric="water.level", channel=0) == [1, 2, 5]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_frame_with_two_values_of_a_series_at_a_time_is_whole(
    viewer: httpx.AsyncClient, world: World, order: str
) -> None:
    """As a map may give them: no page border may take one for the other."""
    for value in (0.1, -3.5, 1e-300):
        world.reading(T0, value)
    found: list[float] = []
    params: dict[str, Any] = {"device": EUI, "order": order, "limit": 1}
    while params.get("cursor", "") is not None:
        page = (await viewer.get("/api/v1/readings", params=params)).json()
        found += [item["value"] for item in page["items"]]
        params["cursor"] = page["next"]
    assert found == sorted([0.1, -3.5, 1e-300], reverse=order == "desc")


async def test_readings_before_a_move_stay_the_old_stations(viewer: httpx.AsyncClient, world: World) -> None:
    for n in range(4):
        world.reading(T0 + timedelta(minutes=n), n)
    world.move("cau-moi", T0 + timedelta(minutes=2))
    assert await values(viewer, station="phu-hiep") == [0, 1]
    assert await values(viewer, station="cau-moi", order="desc") == [3, 2]
    after = (T0 + timedelta(minutes=2)).isoformat()
    assert await values(viewer, station="phu-hiep", **{"from": after}) == []
    items = (await viewer.get("/api/v1/readings")).json()["items"]
    assert [item["station"] for item in items] == ["phu-hiep"] * 2 + ["cau-moi"] * 2


async def test_from_is_in_and_to_is_out_in_any_offset(viewer: httpx.AsyncClient, world: World) -> None:
    for n in range(4):
        world.reading(T0 + timedelta(minutes=n), n)
    start, end = T0 + timedelta(minutes=1), T0 + timedelta(minutes=3)
    assert await values(viewer, **{"from": start.isoformat(), "to": end.strftime("%Y-%m-%dT%H:%M:%SZ")}) == [
        1,
        2,
    ]
    in_hanoi = (start + timedelta(hours=7)).strftime("%Y-%m-%dT%H:%M:%S.000+07:00")
    assert await values(viewer, **{"from": in_hanoi}) == [1, 2, 3]
    unquoted = await viewer.get(f"/api/v1/readings?from={in_hanoi}")  # a bare + arrives as a space
    assert [item["value"] for item in unquoted.json()["items"]] == [1, 2, 3]


async def test_more_series_than_one_request_may_touch(
    viewer: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "MOST_SERIES", len(world.metrics))
    as_problem(await viewer.get("/api/v1/readings"), 422, "too-many-series")
    assert (await viewer.get("/api/v1/readings", params={"device": EUI})).status_code == 200
    assert (await viewer.get("/api/v1/readings", params={"metric": "water.level"})).status_code == 200


@pytest.mark.parametrize("whose", [{"device": EUI}, {"station": "phu-hiep"}])
async def test_a_page_of_a_long_history_reads_no_more_than_the_page(
    viewer: httpx.AsyncClient, world: World, whose: dict[str, str]
) -> None:
    for metric in ("water.level", "battery.voltage"):
        world.database.execute(
            "INSERT INTO reading SELECT %s + n * interval '1 minute', n, n, %s, %s, 0, 1"
            " FROM generate_series(1, 20000) n",
            (T0, world.device, world.metrics[metric]),
        )
    world.database.execute("ANALYZE reading")
    plan = ""
    asked = psycopg.AsyncConnection.execute

    async def explained(self: Any, query: Any, params: Any = None, **kwargs: Any) -> Any:
        nonlocal plan
        if "FROM reading" in (query.as_string(self) if isinstance(query, sql.Composed) else str(query)):
            explain = sql.SQL("EXPLAIN (ANALYZE, TIMING OFF) ") + query
            rows = await (await asked(self, explain, params)).fetchall()
            plan = "\n".join(row["QUERY PLAN"] for row in rows)
        return await asked(self, query, params, **kwargs)

    params: dict[str, Any] = {**whose, "order": "desc", "limit": 3}
    first = (await viewer.get("/api/v1/readings", params=params)).json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "execute", explained)
        assert await values(viewer, **params, cursor=first["next"]) == [19999, 19998, 19998]
    read = [int(float(n)) for n in re.findall(r"Index (?:Only )?Scan.*rows=([\d.]+) loops", plan)]
    assert read, plan
    assert "Seq Scan on reading" not in plan
    assert max(read) <= 8, plan


async def test_latest(viewer: httpx.AsyncClient, world: World) -> None:
    world.latest(T0, {"water.level:0": (micros(T0), 104.2, 1), "battery.voltage:0": (micros(T0), 3.6, 1)})
    world.latest(T0, {"water.level:2": (micros(T0), 7, 3)}, device=world.newcomer)

    async def latest(**params: Any) -> list[tuple[str, str, int, float]]:
        items = (await viewer.get("/api/v1/latest", params=params)).json()["items"]
        return [(i["dev_eui"], i["metric"], i["channel"], i["value"]) for i in items]

    everything = await latest()
    assert everything == [
        (EUI, "battery.voltage", 0, 3.6),
        (EUI, "water.level", 0, 104.2),
        (NEW_EUI, "water.level", 2, 7),
    ]
    assert await latest(station="phu-hiep") == everything[:2]
    assert await latest(metric="water.level") == everything[1:]
    world.database.execute("UPDATE device SET status = 'retired' WHERE dev_eui = %s", (NEW_EUI,))
    assert await latest(metric="water.level") == everything[1:2]


async def test_latest_of_a_metric_though_the_first_devices_do_not_have_all_series(
    viewer: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "_FIRST_DEVICES", 1)
    at = micros(T0)
    world.latest(T0, {"water.level:0": (at, 104.2, 1), "battery.voltage:0": (at, 3.6, 1)})
    others = {"battery.voltage:0": (at, 3.5, 1), "battery.voltage:1": (at, 3.4, 1)}
    world.latest(T0, {**others, "water.level:2": (at, 7, 3)}, device=world.newcomer)
    found = (await viewer.get("/api/v1/latest", params={"metric": "water.level"})).json()
    assert [(i["dev_eui"], i["channel"], i["value"]) for i in found["items"]] == [
        (EUI, 0, 104.2),
        (NEW_EUI, 2, 7),
    ]
    first = (await viewer.get("/api/v1/latest", params={"metric": "water.level", "limit": 1})).json()
    after = {"metric": "water.level", "limit": 1, "cursor": first["next"]}
    second = (await viewer.get("/api/v1/latest", params=after)).json()
    assert first["items"] + second["items"] == found["items"]
    assert second["next"] is None
