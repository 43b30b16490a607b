"""`quantrac rejects`, as somebody types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from quantrac.commands.rejects import DUMPED_BYTES, hex_dump
from tests.program import run

Database = psycopg.Connection[dict[str, Any]]
Env = dict[str, str]


@pytest.fixture
def env(database_url: str, tmp_path: Path) -> Env:
    return {"QUANTRAC_DATABASE_URL": database_url, "QUANTRAC_DATA_DIR": str(tmp_path / "data")}


def add(database: Database, reason: str, message: bytes, **columns: Any) -> int:
    values = {"reason": reason, "message": message, "detail": "vì \x1b[31mthế", "topic": "t", **columns}
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    row = database.execute(
        f"INSERT INTO reject (key, source, received_at, {names})"
        f" VALUES (gen_random_uuid(), 'mqtt', '2026-11-21 12:00Z', {marks}) RETURNING id",
        values,
    ).fetchone()
    assert row is not None
    return int(row["id"])


def states(database: Database) -> list[str]:
    return [row["state"] for row in database.execute("SELECT state FROM reject ORDER BY id").fetchall()]


def test_hex_dump() -> None:
    assert hex_dump(b"{\x00\xc4\x91 0123456789abcdef}") == [
        "00000000  7b 00 c4 91 20 30 31 32 33 34 35 36 37 38 39 61  {... 0123456789a",
        "00000010  62 63 64 65 66 7d                                bcdef}",
    ]


def test_list_and_show(env: Env, database: Database, tmp_path: Path) -> None:
    assert run("rejects", "list", env=env, cwd=tmp_path).stdout == "none\n"
    first = add(database, "not_json", b"\xff\x1b[31m\n" + "Đo mưa".encode(), dev_eui="a840410000000001")
    second = add(database, "too_large", b"x" * (DUMPED_BYTES + 5), state="dismissed")
    listed = run("rejects", "list", env=env, cwd=tmp_path).stdout
    assert f"{first}  2026-11-21 12:00:00  open       not_json         a840410000000001" in listed
    assert "\x1b" not in listed
    everything = run("rejects", "list", "--state", "all", "--json", env=env, cwd=tmp_path).stdout
    assert [row["id"] for row in json.loads(everything)] == [second, first]
    shown = run("rejects", "show", str(first), env=env, cwd=tmp_path).stdout
    for part in ("not_json", "\ufffd·[31m", "Đo mưa", "00000000  ff 1b 5b 33 31 6d 0a c4"):
        assert part in shown
    assert "\x1b" not in shown
    assert "… 5 bytes more" in run("rejects", "show", str(second), env=env, cwd=tmp_path).stdout
    told = json.loads(run("rejects", "show", str(first), "--json", env=env, cwd=tmp_path).stdout)
    assert told["message_hex"].startswith("ff1b5b")
    file = tmp_path / "message"
    assert run("rejects", "show", str(second), "--out", str(file), env=env, cwd=tmp_path).returncode == 0
    assert file.read_bytes() == b"x" * (DUMPED_BYTES + 5)


def test_retry_and_dismiss(env: Env, database: Database, tmp_path: Path) -> None:
    ids = [str(add(database, reason, b"{")) for reason in ("a", "a", "b", "b")]
    done = run("rejects", "retry", ids[0], ids[2], env=env, cwd=tmp_path)
    assert done.stdout == "2 wait to be tried again\n"
    done = run("rejects", "retry", "--reason", "a", "--json", env=env, cwd=tmp_path)
    assert json.loads(done.stdout) == {"waiting": 1}
    before = ("--before", "2026-11-21T12:00:00")
    done = run("rejects", "dismiss", "--reason", "b", *before, env=env, cwd=tmp_path)
    assert done.stdout == "0 dismissed\n"
    done = run("rejects", "dismiss", "--reason", "b", env=env, cwd=tmp_path)
    assert done.stdout == "1 dismissed\n"
    assert states(database) == ["waiting", "waiting", "waiting", "dismissed"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["retry"], 2, "--reason"),
        (["retry", "1", "--reason", "a"], 2, "--reason"),
        (["dismiss", "1", "--network", "tts-v3"], 2, "--reason"),
        (["retry", "--reason", "a", "--device", "zz"], 2, "--device: a DevEUI has 16"),
        (["list", "--state", "shut"], 2, "--state: 'shut'"),
        (["retry", "1", "2"], 1, "There is no reject '2'"),
        (["show", "99"], 1, "There is no reject '99'"),
    ],
)
def test_what_cannot_be_done(
    words: list[str], status: int, says: str, env: Env, database: Database, tmp_path: Path
) -> None:
    add(database, "a", b"{")
    done = run("rejects", *words, env=env, cwd=tmp_path)
    assert done.returncode == status
    assert says in done.stderr
    assert states(database) == ["open"], "all or nothing"
