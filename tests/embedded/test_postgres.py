"""The embedded PostgreSQL through starts, stops and deaths."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
from pathlib import Path

import psycopg
import pytest

from quantrac.embedded import EmbeddedPostgres, EmbeddedServerError, account
from quantrac.embedded.process import ServerProcess, wait_until
from tests.wait import PATIENCE

LAUNCHER = """
import sys
from pathlib import Path
from quantrac.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), flush=True)
print(server.pid, flush=True)
sys.stdin.read()
"""


def put(dsn: str, value: int) -> None:
    with psycopg.connect(dsn) as session:
        session.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        session.execute("INSERT INTO kept VALUES (%s)", [value])


def kept(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as session:
        return [row[0] for row in session.execute("SELECT value FROM kept ORDER BY value")]


def kill(pid: int) -> None:
    process = ServerProcess.of(pid)
    assert process is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not process.alive(), PATIENCE)


def test_restart_keeps_data_address_and_password(postgres) -> None:
    first = postgres()
    dsn = first.start()
    put(dsn, 1)
    assert first.is_running()
    first.stop()
    assert not first.is_running()
    again = postgres()
    assert again.start() == dsn
    assert kept(dsn) == [1]


def test_start_of_a_running_server_changes_nothing(postgres) -> None:
    server = postgres()
    dsn, pid = server.start(), server.pid
    assert (server.start(), server.pid) == (dsn, pid)


def test_database_is_ours_safe_and_vietnamese(postgres, data_dir: Path) -> None:
    with psycopg.connect(postgres().start()) as session:

        def ask(query: str) -> object:
            row = session.execute(query).fetchone()
            assert row is not None
            return row[0]

        assert ask("SELECT lower('SÔNG LA NGÀ, ĐỒNG NAI')") == "sông la ngà, đồng nai"
        assert ask("SELECT current_database()") == "quantrac"
        assert ask("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        wanted = {
            "server_encoding": "UTF8",
            "fsync": "on",
            "synchronous_commit": "on",
            "listen_addresses": "127.0.0.1",
            "max_connections": "100",
            "TimeZone": "UTC",
            "data_checksums": "on",
        }
        assert {name: ask(f"SHOW {name}") for name in wanted} == wanted
    assert stat.S_IMODE((data_dir / "postgres" / "passwords.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700


def test_wrong_password_is_refused(postgres) -> None:
    dsn = postgres().start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn.replace("quantrac:", "quantrac:x"))


def test_works_below_a_private_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    server = EmbeddedPostgres(home / "data")
    try:
        put(server.start(), 1)
    finally:
        server.stop()
        shutil.rmtree(home)


def test_server_that_outlived_its_killed_launcher_is_adopted(postgres, data_dir: Path, run_child) -> None:
    launcher = run_child(LAUNCHER, data_dir)
    dsn, pid = launcher.line(), int(launcher.line())
    put(dsn, 7)
    launcher.kill()
    server = postgres()
    assert server.start() == dsn
    assert server.pid == pid
    assert kept(dsn) == [7]
    server.stop()
    assert ServerProcess.of(pid) is None


def test_killed_server_recovers(postgres) -> None:
    server = postgres()
    dsn = server.start()
    put(dsn, 1)
    kill(server.pid)
    assert not server.is_running()
    assert server.start() == dsn
    assert kept(dsn) == [1]


def test_pid_file_whose_id_another_process_got(postgres, data_dir: Path) -> None:
    server = postgres()
    dsn = server.start()
    put(dsn, 1)
    pid_file = data_dir / "postgres" / "cluster" / "postmaster.pid"
    text = pid_file.read_text()
    server.stop()
    pid_file.write_text(text.replace(text.splitlines()[0], str(os.getpid()), 1))
    assert server.start() == dsn
    assert server.pid != os.getpid()
    assert kept(dsn) == [1]


def test_interrupted_making_is_begun_anew(postgres, data_dir: Path, run_child) -> None:
    home = data_dir / "postgres"
    launcher = run_child(LAUNCHER, data_dir)
    assert wait_until(lambda: any(home.glob("making-*/PG_VERSION")), 30)
    launcher.kill()
    assert not (home / "cluster").exists()
    put(postgres().start(), 1)


def test_port_taken_by_another_program(postgres) -> None:
    server = postgres()
    dsn = server.start()
    put(dsn, 1)
    server.stop()
    port = psycopg.conninfo.conninfo_to_dict(dsn)["port"]
    with socket.create_server(("127.0.0.1", int(port))):
        other = server.start()
    assert other != dsn
    assert kept(other) == [1]
    server.stop()
    assert server.start() == other


def test_lost_passwords_are_replaced(postgres, data_dir: Path) -> None:
    server = postgres()
    put(server.start(), 1)
    file = data_dir / "postgres" / "passwords.json"
    before = json.loads(file.read_text())
    file.unlink()
    dsn = postgres().start()
    assert kept(dsn) == [1]
    assert before["quantrac"] not in dsn


def test_settings_of_the_operator_win_and_their_faults_are_shown(postgres, data_dir: Path) -> None:
    server = postgres()
    dsn = server.start()
    server.stop()
    local = data_dir / "postgres" / "cluster" / "local.conf"
    local.write_text("max_connections = 37\n")
    server.start()
    with psycopg.connect(dsn) as session:
        assert session.execute("SHOW max_connections").fetchone() == ("37",)
    server.stop()
    local.write_text("max_conections = 37\n")
    with pytest.raises(EmbeddedServerError, match=r'does not start.*\n(.*\n)*.*"max_conections"'):
        server.start()


def test_cluster_of_another_version_is_left_alone(postgres, data_dir: Path) -> None:
    server = postgres()
    server.start()
    server.stop()
    version = data_dir / "postgres" / "cluster" / "PG_VERSION"
    version.write_text("12\n")
    with pytest.raises(EmbeddedServerError, match=r"made by PostgreSQL 12.*quantrac backup"):
        server.start()


def test_running_server_is_adopted_without_touching_its_owner(
    postgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = postgres()
    dsn = first.start()
    owner = (data_dir / "postgres" / "cluster").stat().st_uid
    monkeypatch.setattr(account, "_NAMESPACE", ("false",))
    second = postgres()
    assert second.start() == dsn
    assert second.pid == first.pid
    assert (data_dir / "postgres" / "cluster").stat().st_uid == owner


def test_stop_without_start_is_harmless(postgres) -> None:
    postgres().stop()
