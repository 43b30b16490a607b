"""Scenarios flat out from broker to alerting: exactly the alerts of their answer sheets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerting.engine import Engine
from ingest.service import run as run_ingest
from ingest.settings import IngestSettings
from quantrac.embedded import BrokerInfo
from quantrac.rehearsal import Rehearsal
from quantrac.seed import seed
from simulators.message import Message
from simulators.scenario import load_scenario
from simulators.sheet import AnswerSheet
from telemetry.clock import SystemClock
from telemetry.errors import QuantracError
from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool
from tests.program import run
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]


@asynccontextmanager
async def working(broker: BrokerInfo, url: str, database: Database, pool: Pool) -> AsyncIterator[None]:
    """With ingest connected, and alerting."""
    stop = asyncio.Event()
    settings = IngestSettings(mqtt_url=broker.urls["ingest"], mqtt_client_id="test-score")
    ingesting = asyncio.create_task(
        run_ingest(settings, StoreSettings(database_url=url), SystemClock(), stop), name="ingest"
    )
    await until(lambda: database.execute("SELECT FROM ingest_member WHERE connected").rowcount)
    alerting = asyncio.create_task(evaluate(Engine(pool)), name="alerting")
    try:
        yield
    finally:
        alerting.cancel()
        with suppress(asyncio.CancelledError):
            await alerting
        stop.set()
        await ingesting


async def evaluate(engine: Engine) -> None:
    while True:
        if not await engine.step():
            await asyncio.sleep(0.1)


async def quantrac(url: str, folder: Path, *words: str, mqtt: str = "") -> str:
    """What a command prints that has nothing to complain of."""
    env = {"QUANTRAC_DATABASE_URL": url, "QUANTRAC_DATA_DIR": str(folder / "data"), "QUANTRAC_MQTT_URL": mqtt}
    done = await asyncio.to_thread(run, *words, env=env, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("calm-day", {}),
        ("la-nga-flood", {("river-level", 1): 2, ("river-level", 2): 1, ("reservoir-level", 1): 1}),
    ],
)
async def test_the_alerts_are_those_of_the_answer_sheet(
    name: str,
    expected: dict[tuple[str, int], int],
    broker: BrokerInfo,
    database_url: str,
    database: Database,
    pool: Pool,
    tmp_path: Path,
) -> None:
    seed(database_url)
    async with working(broker, database_url, database, pool):
        played = await quantrac(
            database_url, tmp_path, "simulate", name, "--register", "--speed", "max",
            "--answers", "answers.json", "--score", "--strict", mqtt=broker.urls["simulator"],
        )  # fmt: skip

    async def scored(*options: str) -> str:
        return await quantrac(database_url, tmp_path, "score", "answers.json", *options)

    found = json.loads(await scored("--json"))["scores"]
    assert {row["rule"] for row in found} == {"river-level", "reservoir-level"}
    assert {(r["rule"], r["level"]): r["detected"] for r in found if r["detected"]} == expected
    assert not any(row["missed"] or row["false"] or row["lingering"] for row in found), found
    assert all(row["delay_worst_s"] <= 7200 for row in found if row["detected"]), (
        "a frame or two, of world time"
    )
    opened = database.execute("SELECT count(*) AS n FROM transition WHERE kind = 'opened'").fetchone()
    assert opened is not None
    assert opened["n"] == sum(n for (_, level), n in expected.items() if level == 1), "and no other alert"
    later = json.loads(await scored("--json", "--since", "2100-01-01"))["scores"]
    assert sum(row["missed"] for row in later) == sum(expected.values()), "what is left out was not found"
    assert await scored() == played
    assert played.split()[:4] == ["rule", "level", "detected", "missed"]
    assert len(played.splitlines()) == 1 + len(found)


async def test_what_is_behind_is_named(database_url: str, database: Database) -> None:
    now = datetime.now(UTC)
    sheet = AnswerSheet(scenario="x", seed=1, starts=now, ends=now, tolerance_s=0, targets=())
    rehearsal = Rehearsal(load_scenario("calm-day"), flat_out=True, may_be_stored=False)

    async def behind() -> str:
        with pytest.raises(QuantracError) as late:
            await rehearsal.score(database_url, sheet, 0.0)
        return str(late.value)

    lane = database.execute("INSERT INTO lane (writer, seq) VALUES ('w', 3) RETURNING id").fetchone()
    assert lane is not None
    for follower, cause in [
        ("increments", "increments of 3 batches"),
        ("quality", "3 batches are to be judged"),
        ("alerting", "alerting has 3 batches to see; is `quantrac alert` running?"),
    ]:
        assert cause in await behind()
        database.execute("INSERT INTO follower_cursor VALUES (%s, %s, 3)", (follower, lane["id"]))
    assert (await rehearsal.score(database_url, sheet, 0.0)).tallies == []
    for topic, payload in [("a/up", b"1"), ("a/up", b"1"), ("a/up", b"2"), ("a/join", b"3")]:
        rehearsal.published(Message(topic, payload, now))
    assert "2 of 2 frames are not stored; is `quantrac ingest` running" in await behind()
