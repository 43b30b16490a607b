"""A backup of one machine, restored on another, on which `quantrac up` then runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quantrac.embedded import EmbeddedBroker, EmbeddedPostgres
from quantrac.embedded.files import write_private
from telemetry.store.edition import Edition
from tests.e2e.conftest import Installation
from tests.program import run
from tests.quantrac.backups import KEY, back_up, edition_of, furnished, number

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


async def test_up_runs_on_what_was_restored(database_url: str, tmp_path: Path) -> None:
    if edition_of(database_url) is not Edition.PLAIN:
        pytest.skip("the embedded database has no TimescaleDB")
    furnished(database_url, tmp_path)
    file, new = tmp_path / "b.backup", tmp_path / "mới"
    back_up(database_url, file)
    done = run("restore", str(file), "--data", str(new), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    write_private(new / "secret.key", KEY)
    world = Installation(new)
    try:
        await world.start()
        assert number(str(world.runtime()["database_url"]), "SELECT count(*) FROM reading") == 30000
        with world.client() as client:
            assert client.get("devices").raise_for_status().json()["items"]
            assert client.get("endpoints").raise_for_status().json()["items"][0]["name"] == "Loa"
    finally:
        await world.stop()
        for embedded in (EmbeddedBroker(new), EmbeddedPostgres(new)):
            await asyncio.to_thread(embedded.stop)
