"""A PgBouncer of the test's own, in transaction mode, as its package brings it: nothing is ignored for us."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from tests.ports import free_port
from tests.wait import PATIENCE

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pgbouncer(database_url: str, folder: Path, *, pool_size: int = 4, more: str = "") -> Iterator[str]:
    """The database's address through it; `more` are further lines of its configuration."""
    assert PROGRAM is not None
    server, port = conninfo_to_dict(database_url), free_port()
    users, config = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{server["user"]}" "{server.get("password", "")}"\n', encoding="utf-8")
    config.write_text(
        f"""[databases]
* = host={server["host"]} port={server.get("port", 5432)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {"scram-sha-256" if server.get("password") else "trust"}
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
{more}
""",
        encoding="utf-8",
    )
    command = [PROGRAM, str(config)]
    if os.geteuid() == 0:  # it refuses to run as root
        command += ["-u", "nobody"]
        for path in (folder, users, config, *list(folder.parents)[:2]):
            path.chmod(0o755)
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(port, process, folder / "pgbouncer.log")
            user = f"{server['user']}:{server.get('password', '')}"
            yield f"postgresql://{user}@127.0.0.1:{port}/{server['dbname']}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"PgBouncer does not listen: {log.read_text(encoding='utf-8', errors='replace')}")
