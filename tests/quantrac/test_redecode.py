"""`quantrac redecode`, as somebody types it."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

from decoders.registry import load_codecs
from telemetry.store.master import save_device_type
from telemetry.store.writer import FENCE
from tests.ingest.store import NOW, up, writer
from tests.program import Program, run
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
WRONG = [{"field": "temperature", "metric": "air.temperature", "scale": 10}]
RIGHT = """
map:
  - {field: temperature, metric: air.temperature}
  - {field: humidity, metric: air.humidity}
"""
SINCE = ("redecode", "--device-type", "ours", "--since", "2026-11-01")
TYPE = {"id": "ours", "vendor": "v", "model": "m", "codec": "milesight-em300", "expected_interval": 600}


@pytest.fixture
def env(database_url: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bản-đồ.yaml").write_text(RIGHT, encoding="utf-8")
    return {"QUANTRAC_DATABASE_URL": database_url, "QUANTRAC_DATA_DIR": str(tmp_path / "data")}


def register(database: Database, *euis: str) -> None:
    insert = "INSERT INTO device (dev_eui, status, device_type) SELECT unnest(%s::text[]), 'active', 'ours'"
    database.execute(insert, (list(euis),))


def send(database: Database, url: str, frames: int, devices: int = 2) -> None:
    """So many frames in all, a minute apart, of devices whose map is wrong by a factor of ten."""
    with database.transaction(), psycopg.Cursor(database) as cursor:
        save_device_type(cursor, {**TYPE, "map": WRONG})
    euis = [f"{n:016x}" for n in range(devices)]
    register(database, *euis)
    messages = (
        up(str(n), eui=euis[n % devices], time=at, at=at, data="AXVcA2c0AQRoZQ==")
        for n in range(frames)
        for at in [NOW + timedelta(minutes=n)]
    )
    with writer(url, load_codecs()) as commit:
        while some := list(islice(messages, 1000)):
            commit(*some)


def readings(database: Database) -> list[tuple[str, float, int]]:
    rows = database.execute(
        "SELECT m.key, r.value, count(*) FROM reading r JOIN metric m ON m.id = r.metric_id"
        " GROUP BY 1, 2 ORDER BY 1"
    ).fetchall()
    return [(row["key"], row["value"], row["count"]) for row in rows]


def test_dry_run_then_done(
    env: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    send(database, database_url, 30)
    asked = (*SINCE, "--map", "bản-đồ.yaml")
    dry = run(*asked, "--dry-run", env=env, cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert "30 frames of 2 devices; nothing was written" in dry.stdout
    assert "30  would give other readings" in dry.stdout
    assert "308 → 30.8 Cel" in dry.stdout
    assert "none → 50.5 %" in dry.stdout
    assert readings(database) == [("air.temperature", 308.0, 30)]
    assert database.execute("SELECT mapping FROM device_type WHERE id = 'ours'").fetchone() == {
        "mapping": WRONG
    }

    found = json.loads(run(*asked, "--dry-run", "--json", env=env, cwd=tmp_path).stdout)
    assert (found["frames"], found["changed"], found["untouched"]) == (30, 30, 0)
    assert found["metrics"]["air.temperature"] == {
        "altered": 30, "added": 0, "removed": 0, "largest": pytest.approx(277.2)
    }  # fmt: skip

    done = run(*asked, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "redecoding 1 (ours, since 2026-11-01 00:00Z): done, 2 of 2 devices, 30 of 30 frames; 30 changed"
        in done.stdout
    )
    assert readings(database) == [("air.humidity", 50.5, 30), ("air.temperature", 30.8, 30)]
    row = database.execute("SELECT actor, detail -> 'map' -> 1 ->> 'metric' AS metric FROM audit").fetchone()
    assert row is not None
    assert row["actor"].startswith("command line")
    assert row["metric"] == "air.humidity"

    for again in (SINCE, asked):
        seen = run(*again, "--dry-run", env=env, cwd=tmp_path)
        assert "30  carry the present stamp already" in seen.stdout
    told = json.loads(run(*SINCE, "--all", "--json", env=env, cwd=tmp_path).stdout)
    assert (told["id"], told["frames"], told["changed"], told["waiting"]) == (2, 30, 0, 0)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_ended_on_the_way_and_resumed(
    env: dict[str, str], database: Database, database_url: str, tmp_path: Path, how: str
) -> None:
    send(database, database_url, 12_000, devices=3)
    program = Program(*SINCE, "--map", "bản-đồ.yaml", env=env, cwd=tmp_path)

    def reached() -> int:
        row = database.execute("SELECT coalesce(sum(frames), 0)::int AS n FROM decode_job").fetchone()
        assert row is not None
        return int(row["n"])

    await until(lambda: reached() > 1000, 60)
    if how == "kill":
        program.kill()
    else:
        assert program.stop() == 1
        assert "interrupted; `quantrac redecode --resume 1` goes on" in program.output
    assert 1000 < reached() < 12_000
    (state,) = json.loads(run("redecode", "--list", "--json", env=env, cwd=tmp_path).stdout)
    assert (state["id"], state["expected"]) == (1, 12_000)
    assert state["waiting"] > 0
    resumed = run("redecode", "--resume", "1", env=env, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "done, 3 of 3 devices, 12000 of 12000 frames; 12000 changed" in resumed.stdout
    assert readings(database) == [("air.humidity", 50.5, 12_000), ("air.temperature", 30.8, 12_000)]
    row = database.execute("SELECT count(*), count(DISTINCT uplink_id) AS frames FROM superseded").fetchone()
    assert row == {"count": 12_000, "frames": 12_000}


def test_left_to_ingest_and_cancelled(
    env: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    send(database, database_url, 20)
    left = run(*SINCE, "--all", "--detach", env=env, cwd=tmp_path)
    assert "redecoding 1: left to ingest" in left.stdout
    assert "2 devices are left as they are" in run("redecode", "--cancel", "1", env=env, cwd=tmp_path).stdout
    assert "cancelled" in run("redecode", "--list", env=env, cwd=tmp_path).stdout
    for late in ("--cancel", "--resume"):
        done = run("redecode", late, "1", env=env, cwd=tmp_path)
        assert (done.returncode, "ended" in done.stderr) == (1, True)


def test_a_type_without_devices_is_looked_at_too(
    env: dict[str, str], database: Database, tmp_path: Path
) -> None:
    with database.transaction(), psycopg.Cursor(database) as cursor:
        save_device_type(cursor, {**TYPE, "map": WRONG})
    wrong = run(*SINCE, "--codec", "none-such", env=env, cwd=tmp_path)
    assert (wrong.returncode, "unknown codec 'none-such'" in wrong.stderr) == (2, True)
    done = run(*SINCE, "--map", "bản-đồ.yaml", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no frames of such devices in this time; ours is changed all the same" in done.stdout


def test_a_writer_that_hangs_is_told(
    env: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    send(database, database_url, 4)
    with psycopg.connect(database_url) as hangs:
        hangs.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
        done = run(*SINCE, "--map", "bản-đồ.yaml", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert "a transaction of a writer hangs" in done.stderr
    assert database.execute("SELECT FROM decode_job").rowcount == 0


def test_frames_that_cannot_be_stored_are_told(
    env: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    send(database, database_url, 6)
    database.execute("ALTER TABLE reading ADD CONSTRAINT unlucky CHECK (value <> 50.5)")
    done = run(*SINCE, "--map", "bản-đồ.yaml", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert "6 frames of 2 devices are as they were" in done.stderr
    assert "unlucky" in done.stderr
    database.execute("ALTER TABLE reading DROP CONSTRAINT unlucky")
    assert run(*SINCE, env=env, cwd=tmp_path).returncode == 0
    assert readings(database) == [("air.humidity", 50.5, 6), ("air.temperature", 30.8, 6)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "1d"), "name the frames with --device-type"),
        (("--device-type", "ours"), "--since is needed"),
        (("--device-type", "our", "--since", "1d"), "did you mean ours?"),
        (("--device-type", "ours", "--since", "gestern"), "'gestern' is no time"),
        (("--device-type", "ours", "--since", "1d", "--until", "2d"), "--until must be later"),
        (("--device", "xyz", "--since", "1d"), "is no DevEUI"),
        (("--device", "aabbccddeeff0011", "--since", "1d"), "is not registered"),
        (("--device-type", "ours", "--since", "1d", "--codec", "none-such"), "unknown codec 'none-such'"),
        (("--device-type", "ours", "--since", "1d", "--map", "none.yaml"), "there is no such file"),
        (("--device-type", "ours", "--since", "1d", "--map", "bad.yaml"), "unknown metric"),
        (("--device-type", "milesight-em300", "--since", "1d", "--map", "bản-đồ.yaml"), "comes with the"),
        (("--device", "aabbccddeeff0011", "--since", "1d", "--map", "bản-đồ.yaml"), "--device-type"),
        (("--resume", "7"), "there is no redecoding 7"),
        (("--resume", "7", "--since", "1d"), "goes with no other"),
        (("--list", "--all"), "goes with no other"),
        (("--device-type", "ours", "--since", "1d", "--codec", "@1"), "names no codec"),
    ],
)  # fmt: skip
def test_wrong_usage_names_the_cure(
    env: dict[str, str], database: Database, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "bad.yaml").write_text("map: [{field: t, metric: air.temprature}]", encoding="utf-8")
    with database.transaction(), psycopg.Cursor(database) as cursor:
        save_device_type(cursor, {**TYPE, "map": WRONG})
    register(database, "00000000000000aa")
    if "milesight-em300" in arguments:
        assert run("migrate", env=env, cwd=tmp_path).returncode == 0
        database.execute("UPDATE device SET device_type = 'milesight-em300'")
    done = run("redecode", *arguments, env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_codec_versions_of_the_store(
    env: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    """A vendor's JavaScript that was wrong: the corrected version is activated, then read with."""
    send(database, database_url, 10)
    source = (
        "function decodeUplink(input) {{ return {{ data: {{ temperature: input.bytes[0] * {factor} }} }} }}"
    )
    for name, factor in (("first", 1), ("second", 2)):
        folder = tmp_path / name / "acme"
        folder.mkdir(parents=True)
        (folder / "codec.js").write_text(source.format(factor=factor))
        added = run("codecs", "add", str(folder), "--force", env=env, cwd=tmp_path)
        assert added.returncode == 0, added.stderr
    assert run(*SINCE, "--codec", "acme", env=env, cwd=tmp_path).returncode == 0
    assert readings(database) == [("air.temperature", 20.0, 10)], "1 × 2 in a map that multiplies by ten"
    row = database.execute("SELECT version FROM codec ORDER BY added_at LIMIT 1").fetchone()
    assert row is not None
    done = run(*SINCE, "--codec", f"acme@{row['version']}", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert readings(database) == [("air.temperature", 10.0, 10)]
    assert database.execute("SELECT codec_version FROM device_type WHERE id = 'ours'").fetchone() == {
        "codec_version": row["version"]
    }
