"""The commands, as somebody types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from api.credentials import verify_password
from quantrac.cli import app
from telemetry.store.revision import newest_revision
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
    assert f"schema empty → {newest_revision()}" in run("migrate", env=env, cwd=tmp_path).stdout
    assert "as it was" in run("migrate", env=env, cwd=tmp_path).stdout
    status = json.loads(run("status", "--json", env=env, cwd=tmp_path).stdout)
    for subject, name in (
        ("uplinks", "stored"), ("readings", "stored"), ("rejects", "open"), ("alerts", "firing"),
        ("deliveries", "pending"), ("health", "open"), ("ingest", "members"),
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
        "dev_eui,name,device_type,station,variables,firmware\n"
        'A8:40:41:00:00:00:00:01,Mực nước,dragino-ldds75,phu-hiep,"{""sensor_elevation_m"": 108}",v1.2\n',
        encoding="utf-8",
    )
    assert run("stations", "import", str(stations), env=env, cwd=tmp_path).stdout == "stations imported: 1\n"
    assert (
        run("devices", "import", "--dry-run", str(devices), env=env, cwd=tmp_path).stdout
        == "devices checked: 1\n"
    )
    told = run("devices", "import", "--dry-run", str(devices), env=env, cwd=tmp_path).stderr
    assert "row 2: created a840410000000001\n1 created, 0 changed, 0 unchanged, 0 refused" in told
    assert database.execute("SELECT FROM device").rowcount == 0
    assert run("devices", "import", str(devices), env=env, cwd=tmp_path).stdout == "devices imported: 1\n"
    out = run("export", "devices", env=env, cwd=tmp_path).stdout
    assert ",v1.2,False" in out
    again = tmp_path / "again.csv"
    again.write_text(out, encoding="utf-8")
    assert run("devices", "import", str(again), env=env, cwd=tmp_path).returncode == 0
    assert run("export", "devices", env=env, cwd=tmp_path).stdout == out
    report = json.loads(run("devices", "import", "--json", str(again), env=env, cwd=tmp_path).stdout)
    assert report["counts"] == {"created": 0, "changed": 0, "unchanged": 1, "refused": 0}
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


STATIONS = (
    "code;name;latitude;longitude;kind;basin;thresholds\n"
    'phu-hiep;Phú Hiệp;11.15;107.38;river;Đồng Nai;"{""water.level"": [{""level"": 1, ""value"": 104.5}]}"\n'
)
DEVICES = "dev_eui,device_type,station,variables\n"


def _prepare(env: dict[str, str], folder: Path, devices: str = "") -> None:
    assert run("migrate", env=env, cwd=folder).returncode == 0
    (folder / "s.csv").write_text(STATIONS, encoding="utf-8")
    (folder / "d.csv").write_text(DEVICES + devices, encoding="utf-8")
    assert run("stations", "import", "s.csv", env=env, cwd=folder).stdout == "stations imported: 1\n"


@pytest.mark.usefixtures("database")
def test_thresholds_that_fall_are_told(env: dict[str, str], tmp_path: Path) -> None:
    levels = '"{""water.level"": [{""level"": 1, ""value"": 105}, {""level"": 2, ""value"": 104}]}"'
    (tmp_path / "s.csv").write_text(f"code;name;latitude;longitude;thresholds\na;A;1;2;{levels}\n", "utf-8")
    done = run("stations", "import", "s.csv", env=env, cwd=tmp_path)
    assert done.stdout == "stations imported: 1\n"
    assert (
        "warning: s.csv, row 2: a: thresholds.water.level fall (level 1 at 105, level 2 at 104)"
        in done.stderr
    )


def test_faults_only_the_database_knows_are_told_at_once(
    env: dict[str, str], database: Database, tmp_path: Path
) -> None:
    _prepare(
        env,
        tmp_path,
        "a840410000000001,dragino-ldds57,phu-heip,\n"
        "a840410000000002,dragino-ldds75,phu-hiep,\n"
        'a840410000000003,dragino-ldds75,phu-hiep,"{""sensor_elevaton_m"": 108}"\n',
    )
    for extra in ((), ("--dry-run",)):
        done = run("devices", "import", "d.csv", *extra, env=env, cwd=tmp_path)
        assert done.returncode == 2
        for part in (
            "d.csv, row 2: station: there is no 'phu-heip' (did you mean 'phu-hiep'?)",
            "d.csv, row 2: device_type: there is no 'dragino-ldds57' (did you mean 'dragino-ldds75'",
            "d.csv, row 4: variables.sensor_elevaton_m: a dragino-ldds75 has no use for it "
            "(did you mean 'sensor_elevation_m'?)",
        ):
            assert part in done.stderr
        assert "row 3" not in done.stderr
    assert database.execute("SELECT FROM device").rowcount == 0


def test_a_variable_that_is_missing_is_told(env: dict[str, str], database: Database, tmp_path: Path) -> None:
    _prepare(env, tmp_path, "a840410000000002,dragino-ldds75,phu-hiep,\n")
    done = run("devices", "import", "d.csv", env=env, cwd=tmp_path)
    assert done.stdout == "devices imported: 1\n"
    assert "warning: d.csv, row 2: variables.sensor_elevation_m: missing" in done.stderr
    assert database.execute("SELECT FROM device WHERE status = 'active'").rowcount == 1


@pytest.mark.usefixtures("database")
def test_rules_apply_tells_what_each_rule_chooses(env: dict[str, str], tmp_path: Path) -> None:
    elevation = '"{""sensor_elevation_m"": 108}"'
    _prepare(
        env,
        tmp_path,
        f"a840410000000001,dragino-ldds75,phu-hiep,{elevation}\n"
        f"a840410000000002,dragino-ldds75,,{elevation}\n"
        "a840410000000003,dragino-ldds75,phu-hiep,\n",
    )
    assert run("devices", "import", "d.csv", env=env, cwd=tmp_path).returncode == 0
    (tmp_path / "r.yaml").write_text(
        """
rules:
  - {id: legal, name: a, metric: water.level, levels: station, where: {kinds: [river], basins: [Đồng Nai]}}
  - {id: low, name: b, metric: water.level, direction: below, levels: [{level: 1, value: 100}]}
  - {id: near, name: c, metric: distance, direction: below, levels: [{level: 1, value: 1}]}
  - {id: "off", name: d, metric: distance, enabled: false, levels: [{level: 1, value: 1}]}
  - {id: typo, name: e, metric: water.level, levels: station, where: {stations: [phu-heip], kinds: [Sông]}}
""",
        encoding="utf-8",
    )
    done = run("rules", "apply", "r.yaml", env=env, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        "legal: 1 series chosen now",
        "low: 2 series chosen now",
        "near: 3 series chosen now",
        "typo: 0 series chosen now",
    ]
    warnings = done.stderr.splitlines()
    assert len(warnings) == 3
    assert "typo: where.stations: nothing is called 'phu-heip' (did you mean 'phu-hiep'?)" in warnings[0]
    assert "typo: where.kinds: nothing is called 'Sông'" in warnings[1]
    assert "typo: no active device that it chooses gives water.level" in warnings[2]


def test_faults_of_rules_have_a_separator(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("rules: [3, {id: a}]\n", encoding="utf-8")
    done = run("rules", "check", "r.yaml", cwd=tmp_path)
    assert "r.yaml: rules[0]: a rule is a mapping" in done.stderr
    assert "r.yaml: rules[1].name: " in done.stderr
    assert "nosuch.yaml: there is no such file" in run("rules", "check", "nosuch.yaml", cwd=tmp_path).stderr


def test_names_that_are_none(env: dict[str, str], database: Database, tmp_path: Path) -> None:
    for name in ("", "  ", "x" * 501):
        done = run("key", "create", "--role", "viewer", "--name", name, env=env, cwd=tmp_path)
        assert done.returncode == 2
        assert "--name: " in done.stderr
    for login in ("", "a b", "a\n", "x" * 101):
        done = run("user", "add", login, env=env, cwd=tmp_path)
        assert done.returncode == 2
        assert "login: " in done.stderr
    assert database.execute("SELECT FROM api_key").rowcount == 0
    assert database.execute("SELECT FROM account").rowcount == 0


def test_a_forgotten_password(env: dict[str, str], database: Database, tmp_path: Path) -> None:
    shown = tmp_path / "data" / "admin-password"
    shown.parent.mkdir()
    shown.write_text("old", encoding="utf-8")
    old = run("user", "add", "admin", "--role", "admin", env=env, cwd=tmp_path).stdout.strip()
    database.execute("UPDATE account SET must_change = false")
    database.execute(
        "INSERT INTO session SELECT %s, id, now(), now() + interval '1 day' FROM account", (b"x",)
    )
    database.execute("INSERT INTO login_failure VALUES ('admin', '127.0.0.1', now())")
    done = run("user", "password", "admin", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    new = done.stdout.strip()
    row = database.execute("SELECT password_hash, must_change FROM account").fetchone()
    assert row is not None
    assert row["must_change"]
    assert verify_password(row["password_hash"], new)
    assert not verify_password(row["password_hash"], old)
    for table in ("session", "login_failure"):
        assert database.execute(f"SELECT FROM {table}").rowcount == 0  # type: ignore[arg-type]
    assert not shown.exists(), "`up` would go on showing the old one"
    unknown = run("user", "password", "an", env=env, cwd=tmp_path)
    assert unknown.returncode == 2
    assert "there is no account 'an'" in unknown.stderr
