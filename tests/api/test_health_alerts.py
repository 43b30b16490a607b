"""Faults of the system, for people and programs."""

from __future__ import annotations

from datetime import timedelta

import httpx

from .world import T0, World


async def test_what_goes_on_comes_first(viewer: httpx.AsyncClient, world: World) -> None:
    for hour, (subject, over) in enumerate([("a", False), ("b", True), ("c", True), ("d", False)]):
        began = T0 - timedelta(hours=10 - hour)
        world.database.execute(
            "INSERT INTO health_alert (kind, subject, detail, cure, began_at, ended_at)"
            " VALUES ('ingest-member-silent', %s, 'im lặng', 'sửa', %s, %s)",
            (subject, began, began if over else None),
        )

    async def found(**params: str | int) -> tuple[str, str | None]:
        answer = (await viewer.get("/api/v1/health-alerts", params=params)).json()
        return "".join(item["subject"] for item in answer["items"]), answer["next"]

    assert await found() == ("dacb", None)
    assert (await found(open="true"))[0] == "da"
    assert (await found(open="false"))[0] == "cb"
    told, cursor = "", ""
    for _ in range(2):
        page, following = await found(limit=2, **({"cursor": cursor} if cursor else {}))
        told, cursor = told + page, following or ""
    assert (told, cursor) == ("dacb", "")
    item = (await viewer.get("/api/v1/health-alerts")).json()["items"][0]
    assert item.keys() == {"id", "kind", "subject", "detail", "cure", "began_at", "ended_at"}
    assert item["ended_at"] is None
