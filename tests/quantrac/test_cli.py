"""The commands, as somebody types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from quantrac.cli import app
from tests.program import run

Database = psycopg.Connection[dict[str, Any]]


def _commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in getattr(group, "commands", {}).items():
        found += _commands(command, (*path, name))
    return found


@pytest.mark.parametrize("command", _commands(typer.main.get_command(app)), ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output
    assert len(result.output.splitlines()) > 5


@pytest.fixture
def env(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {"QUANTRAC_DATABASE_URL": database_url, "QUANTRAC_DATA_DIR": str(tmp_path / "data")}


def test_migrate_twice_and_status(empty_database_url: str, tmp_path: Path) -> None:
    env = {"QUANTRAC_DATABASE_URL": empty_database_url, "QUANTRAC_DATA_DIR": str(tmp_path)}
    before = run("status", env=env, cwd=tmp_path)
    assert before.returncode == 1
    assert "run `quantrac migrate`" in before.stderr
    assert "schema empty → 0001" in run("migrate", env=env, cwd=tmp_path).stdout
    assert "as it was" in run("migrate", env=env, cwd=tmp_path).stdout
    status = json.loads(run("status", "--json", env=env, cwd=tmp_path).stdout)
    for subject, name in (
        ("uplinks", "stored"), ("readings", "stored"), ("rejects", "open"), ("alerts", "firing"),
        ("deliveries", "pending"),
    ):  # fmt: skip
        assert status[subject][name] == 0
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute("SELECT count(*) FROM device_type WHERE builtin").fetchone()
        assert row is not None
        assert row[0] >= 5


def test_a_newer_schema_is_refused(env: dict[str, str], database: Database, tmp_path: Path) -> None:
    database.execute("UPDATE schema_version SET version_num = '9999'")
    done = run("migrate", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert "schema revision 9999" in done.stderr


def test_stations_and_devices_in_and_out(env: dict[str, str], database: Database, tmp_path: Path) -> None:
    assert run("migrate", env=env, cwd=tmp_path).returncode == 0
    stations = tmp_path / "trạm.csv"
    levels = '{""water.level"": [{""level"": 1, ""label"": ""BĐ1"", ""value"": 104.5}]}'
    stations.write_text(
        f'code,name,latitude,longitude,kind,thresholds\nphu-hiep,Phú Hiệp,11.15,107.38,river,"{levels}"\n',
        encoding="utf-8",
    )
    devices = tmp_path / "devices.csv"
    devices.write_text(
        "dev_eui,name,device_type,station,variables\n"
        'A8:40:41:00:00:00:00:01,Mực nước,dragino-ldds75,phu-hiep,"{""sensor_elevation_m"": 108}"\n',
        encoding="utf-8",
    )
    assert run("stations", "import", str(stations), env=env, cwd=tmp_path).stdout == "stations imported: 1\n"
    assert (
        run("devices", "import", "--dry-run", str(devices), env=env, cwd=tmp_path).stdout
        == "devices checked: 1\n"
    )
    assert database.execute("SELECT FROM device").rowcount == 0
    assert run("devices", "import", str(devices), env=env, cwd=tmp_path).stdout == "devices imported: 1\n"
    out = run("export", "devices", env=env, cwd=tmp_path).stdout
    again = tmp_path / "again.csv"
    again.write_text(out, encoding="utf-8")
    assert run("devices", "import", str(again), env=env, cwd=tmp_path).returncode == 0
    assert run("export", "devices", env=env, cwd=tmp_path).stdout == out
    assert "Phú Hiệp" in run("export", "stations", env=env, cwd=tmp_path).stdout


def test_a_bad_row_is_named_and_nothing_is_imported(
    env: dict[str, str], database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "stations.csv"
    file.write_text(
        "code,name,latitude,longitude\nok,Tốt,10,107\nBad Code,,99,107\nok,Hai,10,107\n", encoding="utf-8"
    )
    done = run("stations", "import", str(file), env=env, cwd=tmp_path)
    assert done.returncode == 2
    for part in (
        "row 3: code: 'Bad Code'",
        "row 3: name: missing",
        "row 3: latitude",
        "row 4: code: 'ok' is there twice",
    ):
        assert part in done.stderr
    assert database.execute("SELECT FROM station").rowcount == 0


def test_decode_and_vectors(tmp_path: Path) -> None:
    done = run(
        "decode", "--codec", "milesight-em300", "--fport", "85", "01755C0367340104686500", cwd=tmp_path
    )
    assert done.returncode == 1, "a byte too many"
    done = run("decode", "--codec", "milesight-em300", "--fport", "85", "01755C03673401046865", cwd=tmp_path)
    assert json.loads(done.stdout) == {"battery": 92, "temperature": 30.8, "humidity": 50.5}
    unknown = run("decode", "--codec", "milesight-em30", "--fport", "85", "00", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "milesight-em300" in unknown.stderr
    assert run("decode", "--codec", "cayenne-lpp", "--fport", "1", "zz", cwd=tmp_path).returncode == 2
    tested = run("codecs", "test", cwd=tmp_path)
    assert tested.returncode == 0
    assert tested.stdout.strip().endswith("passed, 0 failed")


def test_rules_check_and_apply(env: dict[str, str], database: Database, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "rules:\n  - {id: Bad Id, metric: water.levl, levels: station, for: soon}\n", encoding="utf-8"
    )
    done = run("rules", "check", str(file), env=env, cwd=tmp_path)
    assert done.returncode == 2
    for part in ("rules[0].id", "did you mean 'water.level'", "rules[0].for", "rules[0].name"):
        assert part in done.stderr
    file.write_text(
        "rules:\n  - {id: lũ, name: Lũ, metric: water.level, levels: station}\n".replace("lũ,", "lu,"),
        encoding="utf-8",
    )
    assert "1 of 1 rules changed" in run("rules", "apply", str(file), env=env, cwd=tmp_path).stdout
    assert "0 of 1 rules changed" in run("rules", "apply", str(file), env=env, cwd=tmp_path).stdout
    row = database.execute("SELECT version, definition FROM rule").fetchone()
    assert row is not None
    assert row["version"] == 1


def test_keys_and_accounts(env: dict[str, str], database: Database, tmp_path: Path) -> None:
    key = run(
        "key", "create", "--role", "viewer", "--name", "loa phường", env=env, cwd=tmp_path
    ).stdout.strip()
    assert key.startswith("qt_")
    row = database.execute("SELECT name, role, key_hash FROM api_key").fetchone()
    assert row is not None
    assert (row["name"], row["role"]) == ("loa phường", "viewer")
    assert key.encode() not in row["key_hash"]
    assert run("user", "add", "an", "--role", "operator", env=env, cwd=tmp_path).returncode == 0
    twice = run("user", "add", "an", env=env, cwd=tmp_path)
    assert twice.returncode == 1
    assert "exists already" in twice.stderr


def test_doctor_names_cures(env: dict[str, str], tmp_path: Path) -> None:
    broken = {**env, "QUANTRAC_MQTT_URL": "mqtt://127.0.0.1:1", "QUANTRAC_MQTT_TOPIC": "x"}
    done = run("doctor", "--json", env=broken, cwd=tmp_path)
    findings = {(f["subject"], f["level"]): f for f in json.loads(done.stdout)}
    assert done.returncode == 1
    assert "QUANTRAC_MQTT_TOPICS" in findings["settings", "warning"]["text"]
    assert findings["broker", "fault"]["cure"]
    assert ("database", "ok") in findings
    assert ("schema", "ok") in findings


def test_without_a_database_the_cure_is_named(tmp_path: Path) -> None:
    done = run("status", env={"QUANTRAC_DATA_DIR": str(tmp_path)}, cwd=tmp_path)
    assert done.returncode == 2
    assert "QUANTRAC_DATABASE_URL" in done.stderr
    gone = {
        "QUANTRAC_DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x",
        "QUANTRAC_DATA_DIR": str(tmp_path),
    }
    done = run("status", env=gone, cwd=tmp_path)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "geheim" not in done.stderr


def test_a_settings_file_is_read_and_its_faults_are_told(tmp_path: Path) -> None:
    (tmp_path / "quantrac.toml").write_text("api_port = 'many'\n", encoding="utf-8")
    done = run("up", "--data", str(tmp_path / "d"), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("quantrac: QUANTRAC_API_PORT: ")
    (tmp_path / "quantrac.toml").write_text("api_port = \n", encoding="utf-8")
    done = run("status", cwd=tmp_path)
    assert done.returncode == 2
    assert "quantrac.toml" in done.stderr


def test_simulating_into_a_file(tmp_path: Path) -> None:
    out = tmp_path / "day.ndjson"
    done = run(
        "simulate", "calm-day", "--speed", "max", "--out", str(out), "--start", "2026-01-01", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = out.read_text(encoding="utf-8").splitlines()
    assert len(lines) > 500
    assert json.loads(lines[0])["topic"]
    assert run("simulate", "calm-dya", "--out", str(out), cwd=tmp_path).returncode == 2
