"""Hours, days and charts: every bucket of the span, as many points as can be drawn, gaps as gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from api.routes import series
from api.thinning import gaps, thin
from telemetry.clock import ManualClock

from .conftest import as_problem
from .world import EUI, World

# 00:00 of 20 October 2026 in Vietnam.
MIDNIGHT = datetime(2026, 10, 19, 17, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _later(clock: ManualClock) -> None:
    clock.set(MIDNIGHT + timedelta(days=10, minutes=90))


async def ask(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(f"/api/v1/{path}", params={k.rstrip("_"): v for k, v in params.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_hours_with_a_gap(viewer: httpx.AsyncClient, world: World) -> None:
    for minute, value, quality in [(0, 1.0, 1), (20, 3.0, 1), (40, 99.0, 4), (150, 5.0, 3)]:
        world.reading(MIDNIGHT + timedelta(minutes=minute), value, quality=quality)
    answer = await ask(
        viewer, "rollups", from_=(MIDNIGHT + timedelta(minutes=5)).isoformat(),
        to=(MIDNIGHT + timedelta(hours=4)).isoformat(), station="phu-hiep", metric="water.level",
    )  # fmt: skip
    assert answer["next"] is None
    first, gap, third, last = answer["items"]
    assert first == {
        "time": "2026-10-19T17:00:00Z", "dev_eui": EUI, "station": "phu-hiep", "metric": "water.level",
        "channel": 0, "unit": "m", "count": 3, "good": 2, "mean": 2.0, "min": 1.0, "max": 3.0, "last": 3.0,
        "sum": None, "coverage": 1.0, "complete": True,
    }  # fmt: skip
    nothing = dict.fromkeys(("mean", "min", "max", "last", "sum"))
    assert gap == {**first, **nothing, "time": "2026-10-19T18:00:00Z", "count": 0, "good": 0, "coverage": 0.0}
    assert (third["mean"], third["good"], last["count"]) == (5.0, 0, 0)
    assert third["coverage"] == pytest.approx(1 / 3)


async def test_a_day_begins_in_vietnam_and_today_is_not_over(viewer: httpx.AsyncClient, world: World) -> None:
    for hours in (-0.1, 0, 23.9, 240.5):
        world.reading(MIDNIGHT + timedelta(hours=hours), hours)
    items = (await ask(viewer, "rollups", resolution="1d", from_="2026-10-18T17:00:00Z"))["items"]
    assert [item["count"] for item in items] == [1, 2, *[0] * 9, 1]
    assert [item["time"][11:] for item in items] == ["17:00:00Z"] * 12
    assert [item["complete"] for item in items] == [*[True] * 11, False]


async def test_pages_of_buckets_give_every_series_once(viewer: httpx.AsyncClient, world: World) -> None:
    for channel in (0, 1, 2):
        world.reading(MIDNIGHT, 1, channel=channel)
    span = {"from_": MIDNIGHT.isoformat(), "to": (MIDNIGHT + timedelta(hours=5)).isoformat()}
    items, cursor = [], None
    while True:
        page = await ask(viewer, "rollups", **span, limit=4, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [(i["time"], i["channel"]) for i in items] == [
        (f"2026-10-19T{hour}:00:00Z", channel) for hour in range(17, 22) for channel in range(3)
    ]
    day_cursor = await viewer.get("/api/v1/rollups", params={"resolution": "1d", "cursor": page_cursor(page)})
    as_problem(day_cursor, 400, "bad-cursor")


def page_cursor(_: Any) -> str:
    return "WyJyb2xsdXBzLTFoIiwiMjAyNi0xMC0xOVQxNzowMDowMCswMDowMCIsMSwxLDBd"


async def test_two_years_for_a_chart_are_days(viewer: httpx.AsyncClient, world: World) -> None:
    begin = MIDNIGHT - timedelta(days=730)
    world.database.execute(
        "INSERT INTO reading (time, value, uplink_id, device_id, metric_id, channel, quality)"
        " SELECT %s + n * interval '6 hours', CASE n WHEN 1001 THEN 500 ELSE 1 END, n, %s, %s, 0, 1"
        " FROM generate_series(0, 2900) n WHERE n NOT BETWEEN 100 AND 107",
        (begin, world.device, world.level),
    )
    asked = {"device": EUI, "from_": begin.isoformat(), "to": MIDNIGHT.isoformat(), "points": 1000}
    answer = await ask(viewer, "series", **asked)
    assert (answer["resolution"], answer["thinned"]) == ("1d", False)
    (line,) = answer["series"]
    assert len(line["time"]) == 730
    assert max(v for v in line["max"] if v is not None) == 500
    assert [line["value"][n] for n in (24, 25, 26, 27)] == [1, None, None, 1]
    assert [line["count"][n] for n in (24, 25)] == [4, 0]
    month = {
        **asked,
        "from_": (begin + timedelta(days=240)).isoformat(),
        "to": (begin + timedelta(days=270)).isoformat(),
    }
    assert (await ask(viewer, "series", **month))["resolution"] == "raw"
    assert (await ask(viewer, "series", **month, resolution="1h"))["resolution"] == "1h"
    assert (await ask(viewer, "series", **{**month, "points": 11}))["resolution"] == "1d"


async def test_raw_is_thinned_with_its_gap_its_peak_and_its_doubts(
    viewer: httpx.AsyncClient, world: World
) -> None:
    begin = MIDNIGHT
    world.database.execute(
        "INSERT INTO reading (time, value, uplink_id, device_id, metric_id, channel, quality)"
        " SELECT %s + n * interval '1 minute', CASE n WHEN 777 THEN 9 ELSE sin(n / 50.0) END, n, %s, %s, 0,"
        " CASE n WHEN 500 THEN 4 WHEN 501 THEN 3 ELSE 1 END"
        " FROM generate_series(1, 2000) n WHERE n NOT BETWEEN 1000 AND 1100",
        (begin, world.device, world.level),
    )
    span = {"device": EUI, "from_": begin.isoformat(), "to": (begin + timedelta(days=2)).isoformat()}
    answer = await ask(viewer, "series", **span, points=200)
    assert (answer["resolution"], answer["thinned"]) == ("raw", True)
    (line,) = answer["series"]
    assert 190 <= len(line["value"]) <= 210
    assert max(v for v in line["value"] if v is not None) == 9
    assert line["value"].count(None) == 1
    hole = line["value"].index(None)
    assert [line["time"][n] for n in (hole - 1, hole + 1)] == ["2026-10-20T09:39:00Z", "2026-10-20T11:21:00Z"]
    assert sorted(flag for flag in line["quality"] if flag not in (1, None)) == [3, 4]
    whole = await ask(viewer, "series", **span, points=2000)
    assert whole["thinned"] is False
    assert len(whole["series"][0]["value"]) == 1899 + 1


async def test_a_chart_of_a_station_ends_where_its_device_moved(
    viewer: httpx.AsyncClient, world: World
) -> None:
    for hour in range(6):
        world.reading(MIDNIGHT + timedelta(hours=hour), hour)
    world.move("cau-moi", MIDNIGHT + timedelta(hours=4))
    span = {"from_": MIDNIGHT.isoformat(), "to": (MIDNIGHT + timedelta(hours=6)).isoformat()}
    for resolution in ("raw", "1h"):
        for station, expected in (("phu-hiep", [0, 1, 2, 3]), ("cau-moi", [4, 5])):
            answer = await ask(viewer, "series", **span, station=station, resolution=resolution)
            (line,) = answer["series"]
            assert (line["station"], [v for v in line["value"] if v is not None]) == (station, expected)
    items = (await ask(viewer, "rollups", **span, station="cau-moi"))["items"]
    assert [item["count"] for item in items] == [0, 0, 0, 0, 1, 1]
    items = (await ask(viewer, "rollups", **span))["items"]
    assert [item["station"] for item in items] == ["phu-hiep"] * 4 + ["cau-moi"] * 2


async def test_many_series_at_once_are_bounded(
    viewer: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channel in range(3):
        for minute in range(4):
            world.reading(MIDNIGHT + timedelta(minutes=minute), channel, channel=channel)
    span = {"from_": MIDNIGHT.isoformat(), "to": (MIDNIGHT + timedelta(hours=1)).isoformat()}
    monkeypatch.setattr(series, "MOST_READINGS", 12)
    assert [line["value"] for line in (await ask(viewer, "series", **span))["series"]] == [
        [n] * 4 for n in range(3)
    ]
    monkeypatch.setattr(series, "MOST_READINGS", 11)
    assert (await ask(viewer, "series", **span))["resolution"] == "1h"
    asked = {k.rstrip("_"): v for k, v in span.items()}
    raw = await viewer.get("/api/v1/series", params={**asked, "resolution": "raw"})
    as_problem(raw, 422, "too-many-readings")
    monkeypatch.setattr(series, "MOST_CELLS", 2)
    as_problem(await viewer.get("/api/v1/series", params=asked), 422, "invalid")


async def test_spans_that_cannot_be(viewer: httpx.AsyncClient, world: World) -> None:
    for path in ("rollups", "series"):
        span = {"from": "2026-10-20T00:00:00Z", "to": "2026-10-19T00:00:00Z"}
        as_problem(await viewer.get(f"/api/v1/{path}", params=span), 422, "invalid")
        as_problem(await viewer.get(f"/api/v1/{path}", params={"metric": "x"}), 422, "invalid")
    long = {"from": "1950-01-01T00:00:00Z", "resolution": "1h"}
    as_problem(await viewer.get("/api/v1/series", params=long), 422, "invalid")
    assert (await ask(viewer, "rollups", station="nowhere")) == {"items": [], "next": None}


def test_thinning_breaks_where_the_series_does() -> None:
    seconds = np.concatenate([np.arange(0, 3000, 300), np.arange(9000, 12000, 300)]).astype(float)
    assert gaps(seconds).tolist() == [9]
    thinned = thin(seconds, np.zeros(20), 8)
    assert thinned.kept.tolist()[0] == 0
    assert {9, 10, 19} <= set(thinned.kept.tolist())
    assert [thinned.kept[n] for n in thinned.breaks] == [10]
    assert gaps(np.array([0.0])).tolist() == []
    assert len(thin(np.empty(0), np.empty(0), 10).kept) == 0
