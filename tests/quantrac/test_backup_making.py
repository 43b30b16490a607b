"""`quantrac backup` that is stopped, cut off or held up, and what it may write to."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import psycopg
import pytest

from quantrac.backup import programs
from quantrac.backup.archive import reading
from telemetry.errors import QuantracError, UsageError
from tests.program import Program
from tests.sessions import LOCKED_HERE, OURS
from tests.wait import PATIENCE, until

from .backups import SILENT, Database, back_up, names

# Held, pg_dump waits: unlike a table the command itself does not lock it.
HOLD_PG_DUMP = "ALTER SEQUENCE uplink_id OWNER TO CURRENT_USER"
ITS_SESSIONS = f"FROM pg_stat_activity WHERE {OURS} AND application_name = 'quantrac backup'"


async def test_a_backup_that_is_stopped_leaves_no_file(
    installation: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    programs: dict[signal.Signals, Program] = {}
    with psycopg.connect(database_url) as holding:
        holding.execute(HOLD_PG_DUMP)
        for by in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            programs[by] = Program("backup", str(tmp_path / by.name), env=installation, cwd=tmp_path)
        waiting = f"SELECT {ITS_SESSIONS} AND wait_event_type = 'Lock'"
        await until(lambda: database.execute(waiting).rowcount == 3, 60)
        for by, program in programs.items():
            os.kill(program.pid, by)
        await until(lambda: all(program.status is not None for program in programs.values()))
    for by in (signal.SIGINT, signal.SIGTERM):
        assert (programs[by].stop(), names(tmp_path, by.name)) == (1, set())
        assert "interrupted; nothing was kept" in programs[by].output
    programs[signal.SIGKILL].stop()
    assert names(tmp_path, "SIGKILL") == {"SIGKILL.part"}
    await until(lambda: not database.execute(f"SELECT {ITS_SESSIONS}").rowcount)
    back_up(database_url, tmp_path / "SIGKILL")
    assert names(tmp_path, "SIGKILL") == {"SIGKILL"}


async def test_a_backup_whose_database_goes_away_leaves_no_file(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as holding:
        holding.execute(HOLD_PG_DUMP)
        making = asyncio.create_task(asyncio.to_thread(back_up, database_url, tmp_path / "d.backup"))
        await until(lambda: database.execute(f"SELECT {ITS_SESSIONS} AND wait_event_type = 'Lock'").rowcount)
        database.execute(f"SELECT pg_terminate_backend(pid) {ITS_SESSIONS}")
        with pytest.raises((QuantracError, psycopg.OperationalError)):
            await making
    assert not names(tmp_path, "d.backup")


@pytest.fixture
def pg_dump(backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`pg_dump(line, …)`: from now on these lines of a script are run as pg_dump; `$real` is the real one."""
    with reading(backup) as found:
        real = programs.find("pg_dump", found.manifest.postgresql)
    script = tmp_path / "pg_dump"
    monkeypatch.setattr(programs, "find", lambda name, least: replace(real, path=script))

    def plays(*lines: str) -> None:
        script.write_text("\n".join(["#!/bin/bash", f"real={real.path}", *lines]) + "\n")
        script.chmod(0o755)

    return plays


def test_pg_dump_that_fails_at_once_is_tried_again_and_one_that_fails_later_is_told(
    pg_dump: Callable[..., None], database_url: str, tmp_path: Path
) -> None:
    pg_dump(f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 1; }}", 'exec "$real" "$@"')
    back_up(database_url, tmp_path / "again.backup")
    with reading(tmp_path / "again.backup") as found:
        found.check(SILENT)
    pg_dump('"$real" "$@" | head -c 20000', "echo 'pg_dump: error: the disk broke' >&2", "exit 1")
    with pytest.raises(QuantracError, match="the disk broke"):
        back_up(database_url, tmp_path / "late.backup")
    assert not names(tmp_path, "late.backup")


async def test_who_waits_for_pg_dump_does_not_hold_up_the_comparison(
    pg_dump: Callable[..., None], database: Database, database_url: str, tmp_path: Path
) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    os.mkfifo(go)
    pg_dump(f'"$real" "$@" | {{ head -c 1; touch {began}; cat {go}; cat; }}')
    making = asyncio.create_task(asyncio.to_thread(back_up, database_url, tmp_path / "e.backup"))
    waits = f"SELECT FROM pg_locks WHERE {LOCKED_HERE} AND relation = 'reading'::regclass AND NOT granted"

    over = threading.Event()

    def change() -> None:  # as a policy that drops or compresses chunks
        with psycopg.connect(database_url) as policy:
            policy.execute("LOCK TABLE reading IN ACCESS EXCLUSIVE MODE")
            over.wait(2 * PATIENCE)

    await until(began.exists)
    changing = asyncio.create_task(asyncio.to_thread(change))
    try:
        await until(lambda: database.execute(waits).rowcount)
        await asyncio.to_thread(go.write_bytes, b"")
        await asyncio.wait({making}, timeout=PATIENCE)
    finally:
        over.set()
    assert making.done(), "it waited for who waited for pg_dump"
    await changing
    await making
    with reading(tmp_path / "e.backup") as found:
        found.check(SILENT)


def test_a_failed_comparison_ends_the_dump(
    pg_dump: Callable[..., None], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pg_dump("exec yes")  # a dump without an end
    failed = psycopg.errors.DiskFull("no room for a sort")
    monkeypatch.setattr("quantrac.backup.tables.measure", Mock(side_effect=failed))
    with pytest.raises(psycopg.errors.DiskFull):
        back_up(database_url, tmp_path / "f.backup")
    assert not names(tmp_path, "f.backup")


def test_existing_files_and_full_disks_are_refused_at_once(
    backup: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = backup.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        back_up(database_url, backup)
    with pytest.raises(UsageError, match="cannot be written"):
        back_up(database_url, tmp_path / "none" / "x")
    with pytest.raises(UsageError, match="is a folder"):
        back_up(database_url, tmp_path, force=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**8))
    with pytest.raises(QuantracError, match=r"0\.1 GB free"):
        back_up(database_url, backup, force=True)
    assert backup.read_bytes() == before
    monkeypatch.undo()
    back_up(database_url, backup, force=True)
    with reading(backup) as found:
        found.check(SILENT)
    assert names(tmp_path, "a.backup") == {"a.backup"}
