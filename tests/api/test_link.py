"""A device's radio link over the API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from .conftest import as_problem
from .world import EUI, NEW_EUI, T0, World

URL = f"/api/v1/devices/{EUI}/link"
HOUR = T0.replace(minute=0, second=0)


def hour(world: World, ago: int, **columns: Any) -> datetime:
    """A row of the device, so many hours ago."""
    counts = dict.fromkeys(("received", "lost_on_air", "lost_by_us", "resets", "rejoins"), 0)
    time = HOUR - timedelta(hours=ago)
    values = {"time": time, "device_id": world.device, **counts, **columns}
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    world.database.execute(f"INSERT INTO link ({names}) VALUES ({marks})", values)
    return time


async def test_hours(viewer: httpx.AsyncClient, world: World) -> None:
    hour(world, 2, received=3, lost_on_air=1, lost_by_us=5, resets=1, rejoins=2, rssi=-97.5, snr=6.25,
         sf_min=7, sf_max=10, gateways=["a", "b"], battery=80.5, margin=-3)  # fmt: skip
    hour(world, 1, lost_by_us=4)
    hour(world, 0, lost_on_air=4)
    hour(world, 0, device_id=world.newcomer, received=1)
    items = (await viewer.get(URL)).json()["items"]
    assert [(i["delivery_ratio"], i["lost_by_us"]) for i in items] == [(0, 0), (None, 4), (0.75, 5)]
    assert items[2] == {
        "time": (HOUR - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "received": 3, "lost_on_air": 1, "lost_by_us": 5, "resets": 1, "rejoins": 2, "delivery_ratio": 0.75,
        "rssi": -97.5, "snr": 6.25, "sf_min": 7, "sf_max": 10, "gateways": ["a", "b"], "battery": 80.5,
        "margin": -3,
    }  # fmt: skip
    other = (await viewer.get(f"/api/v1/devices/{NEW_EUI}/link")).json()["items"]
    assert [item["delivery_ratio"] for item in other] == [1]


async def test_hours_by_time_and_page(viewer: httpx.AsyncClient, world: World) -> None:
    times = [hour(world, ago, received=ago + 1) for ago in range(5)]

    async def found(**params: Any) -> tuple[list[int], str | None]:
        answer = (await viewer.get(URL, params=params)).json()
        return [item["received"] for item in answer["items"]], answer["next"]

    assert await found(**{"from": times[3].isoformat(), "to": times[1].isoformat()}) == ([3, 4], None)
    first, cursor = await found(limit=2)
    second, following = await found(limit=2, cursor=cursor)
    assert (first, second, (await found(limit=2, cursor=following))) == ([1, 2], [3, 4], ([5], None))
    as_problem(await viewer.get(URL, params={"from": T0.isoformat(), "to": times[4].isoformat()}), 422)


async def test_summary(viewer: httpx.AsyncClient, world: World) -> None:
    world.latest(T0, {})
    world.uplink(T0 - timedelta(minutes=20), spreading_factor=7)
    world.uplink(T0, spreading_factor=9)
    hour(world, 1, received=6, lost_on_air=2, rssi=-90, snr=4, sf_min=9, sf_max=9, gateways=["b"])
    hour(world, 20, received=3, lost_on_air=1, lost_by_us=7, rssi=-99, snr=7, gateways=["a", "b"], margin=5)
    hour(world, 40, received=1, lost_on_air=27, resets=1, rejoins=2, sf_min=7, sf_max=12, gateways=["c"])
    hour(world, 24 * 20, received=99, lost_on_air=1, battery=70.5, margin=9)
    found = (await viewer.get(f"{URL}/summary")).json()
    newest = {key: found[key] for key in ("dev_eui", "spreading_factor", "battery", "margin")}
    assert newest == {"dev_eui": EUI, "spreading_factor": 9, "battery": 70.5, "margin": 5}
    assert found["seen_at"] == T0.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found["day"] == {
        "since": (T0 - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "received": 9, "lost_on_air": 3, "lost_by_us": 7, "resets": 0, "rejoins": 0, "delivery_ratio": 0.75,
        "rssi": -90, "snr": 7, "sf_min": 9, "sf_max": 9, "gateways": ["a", "b"],
    }  # fmt: skip
    week = found["week"]
    assert (week["delivery_ratio"], week["resets"], week["rejoins"]) == (0.25, 1, 2)
    assert (week["gateways"], week["sf_min"], week["sf_max"]) == (["a", "b", "c"], 7, 12)


async def test_nothing_is_known(viewer: httpx.AsyncClient, world: World) -> None:
    found = (await viewer.get(f"/api/v1/devices/{NEW_EUI}/link/summary")).json()
    assert (
        found["day"].items() >= {"received": 0, "delivery_ratio": None, "gateways": [], "rssi": None}.items()
    )
    assert (found["seen_at"], found["battery"]) == (None, None)


@pytest.mark.parametrize("path", ["link", "link/summary"])
async def test_an_unknown_device(path: str, viewer: httpx.AsyncClient, world: World) -> None:
    as_problem(await viewer.get(f"/api/v1/devices/ffffffffffffffff/{path}"), 404)
