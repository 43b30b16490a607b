"""Rules over the API."""

from __future__ import annotations

from typing import Any

import httpx

from .conftest import Caller, as_problem, fields_of
from .world import World

RULE: dict[str, Any] = {
    "name": {"vi": "Mưa to", "en": "Heavy rain"},
    "metric": "water.level",
    "for": "10m",
    "hysteresis": 0.1,
    "levels": [{"level": 1, "label": "BĐ1", "value": 104.5}, {"level": 2, "label": "BĐ2", "value": 105.5}],
}


async def test_put_versions_a_rule(caller: Caller, world: World) -> None:
    engineer = caller("engineer")
    made = await engineer.put("/api/v1/rules/la-nga", json=RULE)
    assert made.status_code == 201, made.text
    assert (
        made.json().items()
        >= {"id": "la-nga", "version": 1, "enabled": True, "updated_by": "key:engineer"}.items()
    )
    assert made.json()["definition"] == {**RULE, "id": "la-nga"}
    changed = await engineer.put("/api/v1/rules/la-nga", json={**RULE, "enabled": False})
    assert (changed.status_code, changed.json()["version"], changed.json()["enabled"]) == (200, 2, False)
    assert (await caller("viewer").get("/api/v1/rules/la-nga")).json() == changed.json()
    listed = (await caller("viewer").get("/api/v1/rules")).json()["items"]
    assert [rule["id"] for rule in listed] == ["la-nga", "river-level"]
    assert (await engineer.delete("/api/v1/rules/la-nga")).status_code == 204
    as_problem(await engineer.delete("/api/v1/rules/la-nga"), 404)


async def test_a_bad_rule_names_what_is_wrong(caller: Caller) -> None:
    async def put(body: Any, id_: str = "x") -> httpx.Response:
        return await caller("engineer").put(f"/api/v1/rules/{id_}", json=body)

    assert fields_of(await put({**RULE, "metric": "water.lvl"})) == ["metric"]
    assert fields_of(await put({**RULE, "id": "other"})) == ["id"]
    assert fields_of(await put(RULE, "Đồng Nai")) == ["id"]
    assert fields_of(await put({**RULE, "for": "soon", "colour": "red"})) == ["colour", "for"]
    assert fields_of(await put([])) == ["body"]
    levels = [{"level": 1, "label": "a", "value": 2}, {"level": 2, "label": "b", "value": "high"}]
    assert fields_of(await put({**RULE, "levels": levels})) == ["levels[1].value"]
