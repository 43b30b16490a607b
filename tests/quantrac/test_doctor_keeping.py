"""What the doctor says of retention, poolers and replicas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingest.upkeep import Upkeep
from quantrac.context import Context
from quantrac.doctor.keeping import check_keeping
from telemetry.clock import SystemClock
from telemetry.errors import SettingsError
from telemetry.settings import StoreSettings, load
from telemetry.store.edition import Edition, detect
from telemetry.store.pool import connect
from tests.pgbouncer import PROGRAM, pgbouncer
from tests.ports import free_port

Database = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def context(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Context:
    monkeypatch.setenv("QUANTRAC_DATABASE_URL", database_url)
    monkeypatch.setenv("QUANTRAC_RETAIN_AUDIT", "30")
    monkeypatch.chdir(tmp_path)
    return Context(tmp_path)


def _told(context: Context, subject: str = "retention") -> list[tuple[str, str]]:
    return [(f.level, f.text) for f in check_keeping(context) if f.subject == subject]


def test_an_upkeep_that_stands_still_is_told(context: Context, database: Database, database_url: str) -> None:
    now = datetime.now(UTC)
    ((level, text),) = _told(context)
    assert level == "ok"
    assert "audit 30 days (oldest none)" in text
    for days in (29, 100):
        database.execute(
            "INSERT INTO audit (at, actor, action, object) VALUES (%s, 'a', 'b', 'c')",
            (now - timedelta(days),),
        )
    said = "audit has rows older than QUANTRAC_RETAIN_AUDIT = 30 days; its upkeep ended never"
    assert _told(context) == [("warning", said)]
    database.execute("INSERT INTO upkeep VALUES ('audit', now(), %s)", (now,))
    ((level, text),) = _told(context)
    assert (level, text[:22]) == ("warning", "audit reaches back to ")
    Upkeep(
        lambda: connect(database_url, application="test"),
        SystemClock(),
        StoreSettings(database_url=database_url, retain_audit=30),
        share=1,
    ).run_once()
    ((level, text),) = _told(context)
    assert level == "ok"
    assert f"(oldest {(now - timedelta(29)).date()})" in text


def test_rollups_that_cannot_outlive_readings(
    context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTRAC_RETAIN_READINGS", "365")
    told = [text for _, text in _told(context) if "hours and days go with their readings" in text]
    assert bool(told) == (detect(database) is not Edition.COMMUNITY)


@pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")
def test_a_pooler_without_time_outs_and_a_replica_that_is_none(
    context: Context, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _told(context, "database pooler") == []
    monkeypatch.setenv("QUANTRAC_DATABASE_REPLICA_URL", database_url)
    assert [level for level, _ in _told(context, "database replica")] == ["warning"]
    monkeypatch.setenv("QUANTRAC_DATABASE_REPLICA_URL", f"postgresql://a:b@127.0.0.1:{free_port()}/c")
    ((level, text),) = _told(context, "database replica")
    assert (level, text.endswith("the API reads from the primary")) == ("warning", True)
    with pgbouncer(database_url, tmp_path) as url:
        monkeypatch.setenv("QUANTRAC_DATABASE_URL", url)
        ((level, text),) = _told(context, "database pooler")
        assert level == "warning"
        assert "no statement_timeout and no lock_timeout" in text


@pytest.mark.parametrize(
    ("given", "variable", "words"),
    [
        ({"retain_frames": 90}, "QUANTRAC_RETAIN_READINGS", "a frame lives at least as long as its readings"),
        ({"retain_frames": 90, "retain_readings": 91}, "QUANTRAC_RETAIN_READINGS", "within 4…90"),
        ({"retain_rollups": 90}, "QUANTRAC_RETAIN_ROLLUPS", "must be 0 as well"),
        ({"retain_readings": 3}, "QUANTRAC_RETAIN_READINGS", "0 or at least 4"),
        ({"retain_frames": 3, "retain_readings": 3}, "QUANTRAC_RETAIN_FRAMES", "0 or at least 4"),
        ({"retain_readings": 90, "retain_rollups": 30}, "QUANTRAC_RETAIN_ROLLUPS", "at least 90"),
    ],
)
def test_settings_that_contradict_each_other(
    given: dict[str, int], variable: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as refused:
        load(StoreSettings, environ={}, overrides=given)
    assert refused.value.setting == variable
    assert words in str(refused.value)
