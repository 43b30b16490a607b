"""`quantrac api` killed in the middle of what it is handed: each 200 it gave is in the database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.kept import kept_messages
from tests.ports import free_port
from tests.program import Program, run
from tests.traffic import uplinks
from tests.wait import until

from .served import calling

Database = psycopg.Connection[dict[str, Any]]


@pytest.mark.slow
async def test_what_was_answered_200_survives_kill_9(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    port = free_port()
    env = {
        "QUANTRAC_DATABASE_URL": database_url,
        "QUANTRAC_DATA_DIR": str(tmp_path),
        "QUANTRAC_API_PORT": str(port),
        "QUANTRAC_SECRET_KEY": "a key for tests, of thirty-two letters",
    }
    made = run("key", "create", "--role", "intake", "--name", "ChirpStack", env=env, cwd=tmp_path)
    headers = {"authorization": f"Bearer {made.stdout.strip()}", "content-type": "application/json"}
    accepted: set[str] = set()
    messages = uplinks(100_000)
    stop = asyncio.Event()

    async def send(client: httpx.AsyncClient) -> None:
        """As a network server that tries each event once."""
        while not stop.is_set():
            _, payload = next(messages)
            try:
                answer = await client.post("/intake/chirpstack?event=up", content=payload)
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
                continue
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200:
                accepted.add(json.loads(payload)["deduplicationId"])

    async with calling(f"http://127.0.0.1:{port}", **headers) as client:
        senders = [asyncio.create_task(send(client)) for _ in range(20)]
        for _ in range(3):
            program = Program("api", env=env, cwd=tmp_path)
            enough = len(accepted) + 200
            await until(lambda: len(accepted) >= enough, 60)  # noqa: B023
            await asyncio.to_thread(program.kill)
        last = Program("api", env=env, cwd=tmp_path)
        enough = len(accepted) + 200
        await until(lambda: len(accepted) >= enough, 60)
        assert await asyncio.to_thread(last.stop) == 0, last.output
        stop.set()
        await asyncio.gather(*senders)
    messages = kept_messages(database)
    stored = [json.loads(message)["deduplicationId"] for message in messages.values()]
    assert {row["id"] for row in database.execute("SELECT id FROM uplink")} == messages.keys()
    assert len(stored) == len(set(stored))
    assert accepted <= set(stored)
    assert database.execute("SELECT FROM reject").rowcount == 0
