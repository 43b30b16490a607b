"""Root, the user namespace, "nobody" and an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from quantrac.embedded import EmbeddedBroker, EmbeddedPostgres, EmbeddedServerError, account
from quantrac.embedded.cluster import programs
from quantrac.embedded.mosquitto import Mosquitto

# The interpreter may lie where nobody can go, so the program loads what it needs before it drops its rights.
AS_NOBODY = """
import encodings.ascii, encodings.idna, os, pwd, sys
from pathlib import Path
import psycopg
from quantrac.embedded import EmbeddedBroker, EmbeddedPostgres
user = pwd.getpwnam("nobody")
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
server = EmbeddedPostgres(Path(sys.argv[1]))
for _ in range(2):
    with psycopg.connect(server.start()) as session:
        print(session.execute("SELECT 1").fetchone()[0], flush=True)
    server.stop()
for kind in sys.argv[2:]:
    broker = EmbeddedBroker(Path(sys.argv[1]), kind=kind)
    print(broker.start().kind, flush=True)
    broker.stop()
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@pytest.fixture
def nobody() -> pwd.struct_passwd:
    user = pwd.getpwnam("nobody")
    for folder in (programs(), *programs().parents):
        if not folder.stat().st_mode & 0o001:
            pytest.skip(f"nobody cannot reach PostgreSQL's programs below {folder}")
    return user


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    EmbeddedPostgres(folder / "data").stop()
    EmbeddedBroker(folder / "data").stop()
    shutil.rmtree(folder)


def uid_of(pid: int | None) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def test_ordinary_user(open_folder: Path, nobody: pwd.struct_passwd, run_child) -> None:
    os.chown(open_folder, nobody.pw_uid, nobody.pw_gid)
    kinds = ["mosquitto", "nats"] if Mosquitto.find() else ["nats"]
    child = run_child(AS_NOBODY, open_folder / "data", *kinds)
    assert [child.line() for _ in range(2 + len(kinds))] == ["1", "1", *kinds]
    assert child.process.wait(30) == 0
    assert (open_folder / "data" / "postgres" / "cluster").stat().st_uid == nobody.pw_uid


def test_root_without_namespaces_becomes_nobody_and_stays_it(
    open_folder: Path, nobody: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedPostgres(open_folder / "data")
    with monkeypatch.context() as patch:
        patch.setattr(account, "_NAMESPACE", ("false",))
        dsn = server.start()
        assert uid_of(server.pid) == nobody.pw_uid
        server.stop()
    assert server.start() == dsn
    assert uid_of(server.pid) == nobody.pw_uid
    with psycopg.connect(dsn) as session:
        session.execute("CREATE TABLE works ()")


def test_data_made_in_a_namespace_is_handed_to_nobody_when_namespaces_are_gone(
    open_folder: Path, nobody: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedPostgres(open_folder / "data")
    dsn = server.start()
    if (open_folder / "data" / "postgres").stat().st_uid != 0:
        pytest.skip("this machine gives root no user namespaces")
    with psycopg.connect(dsn) as session:
        session.execute("CREATE TABLE kept ()")
    server.stop()
    monkeypatch.setattr(account, "_NAMESPACE", ("false",))
    assert server.start() == dsn
    assert uid_of(server.pid) == nobody.pw_uid
    with psycopg.connect(dsn) as session:
        session.execute("SELECT FROM kept")


def test_nobody_below_a_private_folder_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "_NAMESPACE", ("false",))
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerError, match="whose parents every user may pass"):
        EmbeddedPostgres(private / "data").start()
    assert (private / "data" / "postgres").stat().st_uid == 0
