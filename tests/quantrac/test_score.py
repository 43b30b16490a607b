"""Scenarios flat out from broker to alerting: exactly the alerts of their answer sheets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerting.engine import Engine
from ingest.service import run as run_ingest
from ingest.settings import IngestSettings
from quantrac.commands.rules import load_rules
from quantrac.demo import register
from quantrac.embedded import BrokerInfo
from quantrac.seed import seed
from simulators.run import simulate
from simulators.scenario import load_scenario
from simulators.sheet import read_answers
from telemetry.clock import SystemClock
from telemetry.settings import StoreSettings
from telemetry.store.pool import Pool
from tests.program import run
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]


async def play(
    name: str, answers: Path, broker: BrokerInfo, url: str, database: Database, pool: Pool
) -> None:
    scenario = load_scenario(name)
    seed(url)
    assert scenario.rules_path is not None
    register(url, scenario.registrations(), load_rules(scenario.rules_path))
    stop = asyncio.Event()
    settings = IngestSettings(mqtt_url=broker.urls["ingest"], mqtt_client_id="test-score")
    ingesting = asyncio.create_task(
        run_ingest(settings, StoreSettings(database_url=url), SystemClock(), stop), name="ingest"
    )
    listening = "SELECT FROM ingest_member WHERE connected"
    await until(lambda: database.execute(listening).rowcount)
    try:
        await simulate(name, speed="max", mqtt_url=broker.urls["simulator"], answers=answers)
        last = read_answers(answers).ends
        newest = "SELECT FROM uplink WHERE time > %s::timestamptz - interval '20 min'"
        await until(lambda: database.execute(newest, (last,)).rowcount)
    finally:
        stop.set()
        await ingesting  # drains what the broker has
    engine = Engine(pool)
    while await engine.step():
        pass


def scores(url: str, answers: Path, *options: str) -> Any:
    env = {"QUANTRAC_DATABASE_URL": url, "QUANTRAC_DATA_DIR": str(answers.parent / "data")}
    done = run("score", str(answers), *options, env=env, cwd=answers.parent)
    assert done.returncode == 0, done.stderr
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
    answers = tmp_path / "answers.json"
    await play(name, answers, broker, database_url, database, pool)
    found = json.loads(scores(database_url, answers, "--json"))["scores"]
    assert {row["rule"] for row in found} == {"river-level", "reservoir-level"}
    assert {(r["rule"], r["level"]): r["detected"] for r in found if r["detected"]} == expected
    assert not any(row["missed"] or row["false"] or row["lingering"] for row in found), found
    assert all(row["delay_worst_s"] <= 7200 for row in found if row["detected"]), (
        "a frame or two, of world time"
    )
    opened = database.execute("SELECT count(*) AS n FROM transition WHERE kind = 'opened'").fetchone()
    assert opened is not None
    assert opened["n"] == sum(n for (_, level), n in expected.items() if level == 1), "and no other alert"
    later = json.loads(scores(database_url, answers, "--json", "--since", "2100-01-01"))["scores"]
    assert sum(row["missed"] for row in later) == sum(expected.values()), "what is left out was not found"
    table = scores(database_url, answers).splitlines()
    assert table[0].split()[:4] == ["rule", "level", "detected", "missed"]
    assert len(table) == 1 + len(found)
