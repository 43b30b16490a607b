"""Frames with datalogs that were stored before anybody noted how far back they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

import telemetry.store.migrations
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import writer

Database = psycopg.Connection[dict[str, Any]]
RECORDS = {"list": "log", "time": "t", "clock": "iso"}


def test_a_migration_notes_it(database: Database, database_url: str) -> None:
    device = register(database, {"field": "level", "metric": "water.level", "records": RECORDS})
    log = [{"t": at(minutes).isoformat(), "level": 1.0} for minutes in (0, 10)]
    with writer(database_url, CODECS) as commit:
        commit(frame("1", 60, {"log": log}), frame("2", 70, {"log": []}))
    noted = database.execute("SELECT * FROM logged_span").fetchall()
    assert [(row["device_id"], row["time"], row["oldest"]) for row in noted] == [(device, at(60), at(0))]
    folder = Path(telemetry.store.migrations.__file__).parent
    script = (folder / "0006_redecode.sql").read_text(encoding="utf-8")
    fill = script[script.index("INSERT INTO logged_span") :]
    database.execute("TRUNCATE logged_span")
    database.execute(fill)  # type: ignore[arg-type]
    assert database.execute("SELECT * FROM logged_span").fetchall() == noted
