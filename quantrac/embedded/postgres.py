"""The embedded PostgreSQL: `start`, `stop`, `is_running`."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from quantrac.embedded import cluster
from quantrac.embedded.account import choose_account, hand_over
from quantrac.embedded.errors import EmbeddedServerError, tail
from quantrac.embedded.files import new_passwords, private_folder, read_passwords, write_private
from quantrac.embedded.ports import keep_port
from quantrac.embedded.process import ServerProcess, spawn, wait_until

_HOST = "127.0.0.1"
_ATTEMPTS = 3
_ORPHANS_SECONDS = 15.0
_USERS = (cluster.SUPERUSER, cluster.USER)


@dataclass(frozen=True, slots=True)
class _PidFile:
    """What we use of `postmaster.pid`.

    Lines: pid, data folder, start, port, socket folder, address, shared memory key and id, state.
    Source: PostgreSQL's src/include/utils/pidfile.h.
    """

    pid: int
    port: int | None
    memory: int | None
    ready: bool

    @classmethod
    def read(cls, file: Path) -> _PidFile | None:
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            # Not complete from the first instant: the server adds the later lines while it starts.
            port = int(lines[3]) if len(lines) > 3 else None
            memory = int(lines[6].split()[1]) if len(lines) > 6 and lines[6].split()[1:] else None
            return cls(int(lines[0]), port, memory, len(lines) > 7 and lines[7].strip() == "ready")
        except (FileNotFoundError, ValueError, IndexError):
            return None


class EmbeddedPostgres:
    """PostgreSQL under `data_dir/postgres`, on a TCP port of 127.0.0.1 that stays the same.

    Hold the `DataDirLock` of the folder meanwhile: two callers must not make the same cluster at once.
    """

    def __init__(self, data_dir: Path) -> None:
        self._home = data_dir / "postgres"
        self._server: ServerProcess | None = None

    def start(self, timeout: float = 120.0) -> str:
        """Start the server, or adopt the one that outlived its parent; returns the DSN of our role.

        `timeout` in seconds bounds the wait for a server that recovers from a crash. Calling it again is
        harmless. Raises `EmbeddedServerError`.
        """
        deadline = time.monotonic() + timeout
        private_folder(self._home.parent)
        self._home = private_folder(self._home)
        for _ in range(_ATTEMPTS):
            self._server = (self._outlived() if self._passwords() else None) or self._launch()
            # A second try settles a port taken between choice and use, and a server found while it shut down.
            if self._server is not None and self._wait_ready(self._server, deadline):
                return self._dsn(cluster.USER, cluster.DATABASE)
        raise EmbeddedServerError("The embedded PostgreSQL does not start", log=self._log_tail())

    def stop(self, timeout: float = 60.0) -> None:
        """Disconnect the clients and stop the server in order, after `timeout` seconds at once.

        Also stops a server that outlived its parent. Does nothing when none runs.
        """
        server, self._server = self._outlived() or self._server, None
        # https://www.postgresql.org/docs/current/server-shutdown.html: SIGINT fast, SIGQUIT immediate.
        if server and not server.stop(
            (signal.SIGINT, timeout), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)
        ):
            raise EmbeddedServerError(
                f"PostgreSQL (process {server.pid}) does not end",
                cure="Its disk hangs, most likely: check it (dmesg), then end the process by hand.",
                log=self._log_tail(),
            )

    def is_running(self) -> bool:
        return self._server is not None and self._server.alive()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._server.pid if self._server is not None and self._server.alive() else None

    @property
    def _pgdata(self) -> Path:
        return self._home / "cluster"

    @property
    def _pid_file(self) -> Path:
        return self._pgdata / "postmaster.pid"

    def _passwords(self) -> dict[str, str] | None:
        return read_passwords(self._home / "passwords.json", _USERS)

    def _outlived(self) -> ServerProcess | None:
        """The live server of this very cluster, whoever started it."""
        noted = _PidFile.read(self._pid_file)
        process = ServerProcess.of(noted.pid) if noted else None
        if process is None or not process.command() or Path(process.command()[0]).name != "postgres":
            return None
        return process if process.works_in(self._pgdata) else None

    def _launch(self) -> ServerProcess | None:
        """Start a server anew, making what is missing of the cluster and its passwords."""
        # Nothing may run on the cluster now: its owner may change, and single-user mode needs it alone.
        self.stop()
        self._clear_stale_pid_file()
        program = cluster.programs() / "postgres"
        account = choose_account(self._home, program)
        if not self._pgdata.exists():
            cluster.make_cluster(self._pgdata, account)
        cluster.check_version(self._pgdata, program)
        if self._passwords() is None:
            passwords = new_passwords(_USERS)
            cluster.set_passwords(self._pgdata, account, passwords)
            write_private(self._home / "passwords.json", json.dumps(passwords))
        logs = private_folder(self._home / "log")
        if account.uid is not None and account.gid is not None:
            hand_over(logs, account.uid, account.gid)
        cluster.configure(self._pgdata, keep_port(self._home / "port", _HOST), logs)
        command = account.command(program, "-D", self._pgdata)
        return spawn(command, log=logs / "start.log", cwd=self._home, **account.popen)

    def _clear_stale_pid_file(self) -> None:
        """Remove a dead server's pid file: PostgreSQL would be misled by another process that got its id.

        The file also names the shared memory by which PostgreSQL would notice orphans of that server, so it
        goes only once nobody is attached to that.
        """
        noted = _PidFile.read(self._pid_file)
        if noted is None:
            return
        if not wait_until(lambda: not _attached(noted.memory), _ORPHANS_SECONDS):
            raise EmbeddedServerError(
                f"PostgreSQL (process {noted.pid}) is gone, but its processes still use {self._pgdata}",
                cure="Wait for their end or end them (ps -ef | grep postgres), then start again.",
            )
        self._pid_file.unlink(missing_ok=True)

    def _wait_ready(self, server: ServerProcess, deadline: float) -> bool:
        """Wait until the server takes connections; False when it ended instead."""

        def settled() -> bool:
            noted = _PidFile.read(self._pid_file)
            return not server.alive() or (noted is not None and noted.pid == server.pid and noted.ready)

        if not wait_until(settled, deadline - time.monotonic()):
            raise EmbeddedServerError(
                f"PostgreSQL (process {server.pid}) is not ready yet; it may still be recovering",
                cure="It goes on in the background: start again in a minute, and it is found.",
                log=self._log_tail(),
            )
        if not server.alive():
            return False
        self._check()
        return True

    def _check(self) -> None:
        """Make sure that the stored password opens this very cluster."""
        try:
            with psycopg.connect(self._dsn(cluster.SUPERUSER, "postgres"), connect_timeout=10) as session:
                row = session.execute("SHOW data_directory").fetchone()
        except psycopg.OperationalError as error:
            raise EmbeddedServerError(
                f"The embedded PostgreSQL refuses our connection: {' '.join(str(error).split())}",
                cure=f"If its password was changed, delete {self._home}/passwords.json: a new one is set.",
                log=self._log_tail(),
            ) from error
        if row is None or not Path(row[0]).samefile(self._pgdata):
            raise EmbeddedServerError(
                f"The server on the port of {self._pgdata} serves another folder: {row}"
            )

    def _dsn(self, user: str, database: str) -> str:
        noted, passwords = _PidFile.read(self._pid_file), self._passwords()
        if noted is None or noted.port is None or passwords is None:
            raise EmbeddedServerError("The embedded PostgreSQL ended while it started", log=self._log_tail())
        return f"postgresql://{user}:{passwords[user]}@{_HOST}:{noted.port}/{database}"

    def _log_tail(self) -> str:
        logs = sorted((self._home / "log").glob("*.log"), key=lambda file: file.stat().st_mtime)
        return tail(*logs[-2:])


def _attached(memory: int | None) -> bool:
    """Whether a process is attached to the System V shared memory with this id (proc(5))."""
    try:
        rows = [
            line.split() for line in Path("/proc/sysvipc/shm").read_text(encoding="utf-8").splitlines()[1:]
        ]
    except OSError:
        return False
    return any(int(row[1]) == memory and int(row[6]) > 0 for row in rows)
