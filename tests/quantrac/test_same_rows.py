"""One seed, one set of rows: however its messages arrive, and whoever stores them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from quantrac.demo import register
from quantrac.seed import seed
from simulators.run import run as simulate
from simulators.scenario import Scenario, load_scenario
from telemetry.store.migrate import migrate
from tests.program import run
from tests.quantrac.test_recording import play, rejected, rows, settle

_UPLINKS = """
    SELECT u.dedup_key, u.time, d.dev_eui, u.f_cnt, u.f_port, u.payload, u.fields, u.decoded_by
    FROM uplink u JOIN device d ON d.id = u.device_id ORDER BY 1, 2
"""


def _dump(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as database:
        return {
            "readings": rows(url),
            "uplinks": database.execute(_UPLINKS).fetchall(),
            "rejects": rejected(url),
        }


@pytest.fixture
def calm() -> Scenario:
    return load_scenario("calm-day")


async def _in_order(lines: list[str], folder: Path, url: str) -> None:
    (folder / "in-order.ndjson").write_text("".join(lines), encoding="utf-8")
    await play(folder / "in-order.ndjson", url)


async def _shuffled(lines: list[str], folder: Path, url: str) -> None:
    mixed = lines.copy()
    random.Random(11).shuffle(mixed)
    (folder / "shuffled.ndjson").write_text("".join(mixed), encoding="utf-8")
    await play(folder / "shuffled.ndjson", url)


async def _split(lines: list[str], folder: Path, url: str) -> None:
    """Two processes, each with every other message, and a tenth of the other's besides."""
    paths = []
    for turn in (0, 1):
        paths.append(folder / f"split-{turn}.ndjson")
        mine = [line for n, line in enumerate(lines) if n % 2 == turn or n % 20 == 1 - turn]
        paths[-1].write_text("".join(mine), encoding="utf-8")
    env = {"QUANTRAC_DATABASE_URL": url}
    options = ("--speed", "max", "--straight")
    ended = await asyncio.gather(
        *(asyncio.to_thread(run, "replay", str(path), *options, env=env) for path in paths)
    )
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]


@pytest.mark.parametrize("way", [_shuffled, _split], ids=["shuffled", "two processes"])
async def test_the_same_rows(
    calm: Scenario,
    database_url: str,
    empty_database_url: str,
    tmp_path: Path,
    way: Callable[[list[str], Path, str], Any],
) -> None:
    migrate(empty_database_url)
    source = tmp_path / "calm.ndjson"
    await simulate(calm, seed=7, speed="max", out=source)
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    for url, play_ in ((database_url, _in_order), (empty_database_url, way)):
        seed(url)
        register(url, calm.registrations(), [])
        await play_(lines, tmp_path, url)
        await settle(url)
    expected, found = _dump(database_url), _dump(empty_database_url)
    assert len(expected["readings"]) > 1000
    assert found["uplinks"] == expected["uplinks"]
    assert found == expected
