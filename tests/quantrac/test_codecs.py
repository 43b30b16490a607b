"""`quantrac codecs` and `quantrac decode`, as somebody types them, on small trees of our own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from quantrac.cli import app
from quantrac.codec_add import add_single
from telemetry.errors import UsageError
from tests.decoders.repo_trees import CHIRPSTACK, CODEC, TTN, write
from tests.program import run

Database = psycopg.Connection[dict[str, Any]]
Quantrac = Callable[..., subprocess.CompletedProcess[str]]

TANK = """\
function decodeUplink(input) {
  console.log('port', input.fPort, input.recvTime.toISOString());
  if (input.bytes.length !== 2) throw new Error('two bytes are needed');
  const mm = input.bytes[0] * 256 + input.bytes[1];
  return { data: { mm, gain: input.variables.gain }, warnings: ['dusty'] };
}
"""
TANK_TYPE = """\
id: acme-tank-2
vendor: Acme
model: TANK-2
codec: acme-tank
expected_interval: 900
map:
  - {field: mm, metric: distance, unit: mm}
"""
TANK_VECTORS: dict[str, Any] = {
    "source": ["https://example.com/tank.pdf"],
    "vectors": [
        {"name": "the manual's", "origin": "vendor", "f_port": 1, "payload": "04 D2", "fields": {"mm": 1234}},
        {"name": "cut off", "origin": "layout", "f_port": 1, "payload": "04", "error": "two bytes"},
    ],
}


@pytest.fixture
def quantrac(database_url: str, tmp_path: Path) -> Quantrac:
    """The program on the test's database."""
    env = {"QUANTRAC_DATABASE_URL": database_url, "QUANTRAC_DATA_DIR": str(tmp_path / "data")}
    return lambda *arguments: run(*arguments, env=env, cwd=tmp_path)


def tank(folder: Path, **files: str) -> Path:
    """A folder with one vendor's codec; `files` by their name with _ for the dot."""
    folder.mkdir()
    (folder / "tank.js").write_text(TANK, encoding="utf-8")
    (folder / "device_type.yaml").write_text(TANK_TYPE, encoding="utf-8")
    (folder / "vectors.json").write_text(json.dumps(TANK_VECTORS), encoding="utf-8")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def types(database: Database) -> dict[str, dict[str, Any]]:
    rows = database.execute("SELECT * FROM device_type WHERE NOT builtin").fetchall()
    return {row["id"]: row for row in rows}


@pytest.mark.parametrize(
    ("command", "url", "status", "told"),
    [
        (command, url, status, told)
        for url, status, told in (
            ("postgresql://x@127.0.0.1:1/x", 1, "Is `quantrac up` running"),
            ("postgresql://x@127.0.0.1:port/x", 2, "postgresql://user:password@host:5432/database"),
            ("127.0.0.1", 2, "postgresql://user:password@host:5432/database"),
        )
        for command in (
            "codecs list",
            "codecs show none",
            "codecs add tank",
            "decode --codec none --fport 1 00",
        )
    ],
)
def test_a_database_that_cannot_be_reached(
    command: str, url: str, status: int, told: str, tmp_path: Path
) -> None:
    tank(tmp_path / "tank")
    done = run(*command.split(), env={"QUANTRAC_DATABASE_URL": url}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert [told in line for line in done.stderr.splitlines()] == [True]
    assert "QUANTRAC_DATABASE_URL" in done.stderr


def test_one_codec_is_added_once_and_decodes(quantrac: Quantrac, database: Database, tmp_path: Path) -> None:
    folder = tank(tmp_path / "tank")
    done = quantrac("codecs", "add", "tank")
    assert done.returncode == 0, done.stderr
    assert "codecs: 1 added" in done.stdout
    again = json.loads(quantrac("codecs", "add", "tank", "--json").stdout)
    assert again["codecs"] == {"added": 0, "new versions": 0, "there already": 1}
    assert types(database)["acme-tank-2"]["codec"] == "acme-tank"
    tank_js = folder / "tank.js"
    tank_js.write_text(TANK + "// 2\n", encoding="utf-8")
    assert "1 new versions" in quantrac("codecs", "add", "tank").stdout
    tank_js.write_text(TANK, encoding="utf-8")
    assert "there already, but a later version runs" in quantrac("codecs", "add", "tank").stdout
    listed = {row["id"]: row for row in json.loads(quantrac("codecs", "list", "--json").stdout)}
    assert (
        listed["acme-tank"].items() >= {"kind": "javascript", "versions": 2, "origin": "folder tank"}.items()
    )
    assert listed["dragino-ldds75"]["kind"] == "python"
    shown = quantrac("codecs", "show", "acme-tank").stdout
    assert "device types: acme-tank-2" in shown
    newest = shown.splitlines()[1].split()[0]
    assert newest == listed["acme-tank"]["version"]
    assert quantrac("codecs", "show", "acme-tank", "--source").stdout.startswith(TANK + "// 2")

    arguments = ("decode", "--codec", "acme-tank", "--fport", "1", "--time", "2026-01-01", "--device-type")
    done = quantrac(*arguments, "acme-tank-2", "--variables", '{"gain": "2"}', "BNI=")
    assert json.loads(done.stdout) == {"mm": 1234, "gain": "2"}
    for told in (
        "distance = 1.234 m  (quality 1 good)  2026-01-01T00:00:00Z",
        "not mapped: gain",
        "warning: dusty",
        "console: port 1 2026-01-01T00:00:00.000Z",
        "time used: ",
    ):
        assert told in done.stderr
    whole = json.loads(quantrac(*arguments, "acme-tank-2", "--json", "ff ff").stdout)
    assert [(m["metric"], m["value"], m["quality"]) for m in whole["metrics"]] == [("distance", 65.535, 1)]
    failed = quantrac("decode", "--codec", f"acme-tank@{newest}", "--fport", "1", "00")
    assert failed.returncode == 1
    assert "two bytes are needed (line 3)" in failed.stderr
    wrong = quantrac("decode", "--codec", "acme-tank@00", "--fport", "1", "00")
    assert wrong.returncode == 2
    assert newest in wrong.stderr
    assert "did you mean acme-tank" in quantrac("decode", "--codec", "acme-tan", "--fport", "1", "00").stderr


@pytest.mark.parametrize(
    "files",
    [
        {
            "vectors__json": json.dumps(
                {**TANK_VECTORS, "vectors": [{**TANK_VECTORS["vectors"][0], "payload": "04D3"}]}
            )
        },
        {"test_decode_tank__json": '[{"input": {"bytes": [0, 1]}, "expected": {"data": {"mm": 2}}}]'},
        {"examples__yaml": "uplinkDecoder: {examples: [{input: {bytes: [0, 1]}, output: {data: {mm: 2}}}]}"},
        {"test_decode_tank__json": "[{"},
        {"vectors__json": '{"vectors": [{"name": "a", "origin": "vendor", "f_port": 1, "payload": "04"}]}'},
        {"tank__js": "function decodeUplink("},
        {"tank__js": "function other() {}"},
    ],
    ids=["ours", "chirpstack", "ttn", "no json", "no fields", "no javascript", "no decoder"],
)
def test_a_codec_whose_own_examples_fail_is_refused(
    database_url: str, database: Database, tmp_path: Path, files: dict[str, str]
) -> None:
    folder = tank(tmp_path / "tank", **files)

    def add(*, force: bool) -> dict[str, str]:
        return add_single(database_url, folder, (), id_=None, fresh=False, force=force).refused

    assert add(force=False).keys() == {"acme-tank"}
    assert database.execute("SELECT FROM codec").rowcount == 0
    assert types(database) == {}
    assert add(force=True) == {}
    assert database.execute("SELECT FROM codec").rowcount == 1


def test_a_refusal_is_told(quantrac: Quantrac, tmp_path: Path) -> None:
    tank(tmp_path / "tank", tank__js=TANK.replace("* 256", "* 16"))
    done = quantrac("codecs", "add", "tank")
    assert done.returncode == 1
    assert "refused:\n  acme-tank: vectors.json: vectors[0] (the manual's):\n" in done.stdout
    assert "data.mm: expected 1234, got 274" in done.stdout


def test_wrong_usage(
    database_url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTRAC_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    tank(tmp_path / "tank")
    tank(tmp_path / "two", other__js="")
    tank(tmp_path / "builtin", device_type__yaml=TANK_TYPE.replace("acme-tank-2", "dragino-ldds75"))
    for arguments, told in (
        (("codecs", "add", "empty"), "no JavaScript file"),
        (("codecs", "add", "two"), "2 JavaScript files"),
        (("codecs", "add", "tank", "--id", "milesight-em300"), "milesight-em300 already"),
        (("codecs", "add", "tank", "--id", "Tank"), "cannot be a codec's id"),
        (("codecs", "add", "tank", "--id", "other"), "acme-tank-2 names the codec acme-tank"),
        (("codecs", "add", "builtin"), "comes with the program"),
        (("codecs", "test", "empty"), "no checkout of a device repository"),
        (("codecs", "show", "milesight-em30"), "did you mean milesight-em300"),
        (("decode", "--codec", "cayenne-lpp", "--fport", "1", "zz"), "neither hex nor base64"),
        (("decode", "--codec", "nowhere.js", "--fport", "1", "00"), "cannot be read"),
        (("decode", "--codec", "cayenne-lpp", "--fport", "1", "--variables", "[]", "00"), "an object"),
        (("decode", "--codec", "cayenne-lpp", "--fport", "1", "--device-type", "x", "00"), "there is no 'x'"),
    ):
        error = CliRunner().invoke(app, arguments).exception
        assert isinstance(error, UsageError), (arguments, error)
        assert told in str(error), arguments
    assert CliRunner().invoke(app, ("codecs", "add", "nowhere")).exit_code == 2
    assert database.execute("SELECT FROM codec").rowcount == 0


def test_without_a_database(tmp_path: Path) -> None:
    (tmp_path / "tank.js").write_text(TANK, encoding="utf-8")
    listed = run("codecs", "list", cwd=tmp_path, env={"QUANTRAC_DATA_DIR": str(tmp_path)})
    assert "milesight-em300" in listed.stdout
    assert "no database is named" in listed.stderr
    done = run("decode", "--codec", "tank.js", "--fport", "1", "04d2", cwd=tmp_path)
    assert json.loads(done.stdout) == {"mm": 1234}
    done = run(
        "decode", "--codec", "dragino-ldds75", "--fport", "2", "0cea00e4000000", "--device-type",
        "dragino-ldds75", "--json", cwd=tmp_path, env={"QUANTRAC_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert json.loads(done.stdout)["metrics"], done.stderr


def test_the_folder_of_the_user_goes_first(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "acme-tank.js").write_text(TANK, encoding="utf-8")
    tank(tmp_path / "tank")
    env = {
        "QUANTRAC_DATABASE_URL": database_url,
        "QUANTRAC_DATA_DIR": str(tmp_path / "data"),
        "QUANTRAC_CODECS_DIR": str(tmp_path / "mine"),
    }
    assert (
        run("decode", "--codec", "acme-tank", "--fport", "1", "04d2", env=env, cwd=tmp_path).returncode == 0
    )
    refused = run("codecs", "add", "tank", env=env, cwd=tmp_path)
    assert refused.returncode == 2
    assert "a codec of this machine" in refused.stderr


def test_a_whole_repository(quantrac: Quantrac, database: Database, tmp_path: Path) -> None:
    write(tmp_path / "ttn", TTN)
    done = quantrac("codecs", "add", "ttn")
    assert done.returncode == 0, done.stdout + done.stderr
    codec = "ttn.river-works.rw100"
    assert done.stdout.splitlines() == [
        "codecs: 1 added, 0 new versions, 0 there already, 0 refused",
        "device types: 2 added, 0 changed, 0 there already, 0 left as they are",
    ]
    found = types(database)
    assert found.keys() == {"river-works-rw100", "river-works-rw200"}
    assert found["river-works-rw100"].items() >= {
        "vendor": "River Works", "model": "RW100", "codec": codec, "mapping": [], "codec_version": None,
        "codecs": [{"codec": codec, "firmware": "1.10"}, {"codec": codec, "firmware": "2.0"}],
    }.items()  # fmt: skip
    before = database.execute("SELECT version FROM registry_version").fetchone()
    assert quantrac("codecs", "add", "ttn").stdout.splitlines() == [
        "codecs: 0 added, 0 new versions, 1 there already, 0 refused",
        "device types: 0 added, 0 changed, 2 there already, 0 left as they are",
    ]
    assert database.execute("SELECT version FROM registry_version").fetchone() == before
    # What an engineer made of a device type stays; the new source is a new version under the same id.
    database.execute("UPDATE device_type SET mapping = '[{}]', expected_interval = 7 WHERE id ~ 'rw100'")
    write(
        tmp_path / "ttn",
        TTN,
        {"rw100.js": CODEC + "// 2", "rw200.yaml": TTN["vendor/river-works/rw200.yaml"]},
    )
    assert "0 added, 1 new versions" in quantrac("codecs", "add", "ttn").stdout
    assert database.execute("SELECT FROM codec WHERE id = %s", (codec,)).rowcount == 2
    assert types(database)["river-works-rw100"].items() >= {"mapping": [{}], "expected_interval": 7}.items()


def test_a_repository_with_a_codec_that_fails(quantrac: Quantrac, database: Database, tmp_path: Path) -> None:
    write(tmp_path / "ttn", TTN, {"rw100.js": CODEC.replace("/ 10,", "/ 5,")})
    done = quantrac("codecs", "add", "ttn")
    assert done.returncode == 1
    assert "data.level: expected 2.1, got 4.2" in done.stdout
    assert "codecs: 0 added, 0 new versions, 0 there already, 1 refused" in done.stdout
    assert {row["codec"] for row in types(database).values()} == {""}
    assert quantrac("codecs", "add", "ttn", "--force").returncode == 0
    assert {row["codec"] for row in types(database).values()} == {"ttn.river-works.rw100"}


def test_both_repositories(quantrac: Quantrac, database: Database, tmp_path: Path) -> None:
    same = {name.replace("river-works-rw300", "rw100"): text for name, text in CHIRPSTACK.items()}
    write(tmp_path / "cs", same)
    write(tmp_path / "ttn", TTN)
    assert quantrac("codecs", "add", "cs").returncode == 0
    assert types(database)["river-works-rw100"]["codec"] == "chirpstack.river-works.rw300-01"
    assert "1 added, 1 changed" in quantrac("codecs", "add", "ttn").stdout
    assert types(database)["river-works-rw100"]["codec"] == "ttn.river-works.rw100"
    again = quantrac("codecs", "add", "cs")
    assert "has it too and goes first: river-works-rw100" in again.stdout
    assert types(database)["river-works-rw100"]["codec"] == "ttn.river-works.rw100"


def test_testing_what_lies_in_folders(tmp_path: Path) -> None:
    tank(tmp_path / "tank")
    write(tmp_path / "ttn", TTN)
    write(tmp_path / "cs", CHIRPSTACK, {"test_encode_rw300-01.json": "[{bytes: 0x01}]"})
    done = run("codecs", "test", "tank", "ttn", "cs", cwd=tmp_path)
    assert done.returncode == 0
    *_, skipped, last = done.stdout.splitlines()
    assert skipped == "1 skipped: 1 is not JSON"
    assert last == "11 passed, 0 failed"
    write(tmp_path / "ttn", TTN, {"rw100.js": CODEC.replace("/ 10,", "/ 5,")})
    done = run("codecs", "test", "ttn/vendor/river-works", cwd=tmp_path)
    assert done.returncode == 1
    assert "\n  data.level: expected 2.1, got 4.2" in done.stdout
    told = json.loads(run("codecs", "test", "ttn", "--json", cwd=tmp_path).stdout)
    assert (told["passed"], told["failed"]) == (6, 2)
