"""A PostgreSQL server of the test's own, and the ways it can fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from quantrac.embedded import EmbeddedPostgres
from quantrac.embedded.process import ServerProcess, wait_until
from tests.wait import PATIENCE


class Database:
    """A migrated server in `home`; its port stays the same from start to start."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._server = EmbeddedPostgres(home)
        self._looking: psycopg.Connection[Any] | None = None
        self.url = ""

    def start(self) -> None:
        self.url = self._server.start()

    def stop(self) -> None:
        """In order, but without asking the clients: PostgreSQL's fast shutdown."""
        self._blink()
        self._server.stop()

    def kill(self) -> None:
        """kill -9 of the server's first process; the others end when they notice."""
        self._blink()
        process = ServerProcess.of(self._server.pid or -1)
        assert process is not None, "the database does not run"
        os.kill(process.pid, signal.SIGKILL)
        assert wait_until(lambda: not process.alive(), PATIENCE)

    def configure(self, **settings: object) -> None:
        """Settings of the next start."""
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self.cluster / "local.conf").write_text(lines, encoding="utf-8")

    @property
    def cluster(self) -> Path:
        return self.home / "postgres" / "cluster"

    @property
    def port(self) -> int:
        return int(str(conninfo_to_dict(self.url)["port"]))

    def through(self, port: int) -> str:
        """The program's address of the server behind a proxy on that port."""
        return self.url.replace(f":{self.port}/", f":{port}/")

    def log(self) -> str:
        """What the server wrote."""
        return "".join(
            file.read_text(encoding="utf-8", errors="replace")
            for file in (self.home / "postgres" / "log").glob("*.log")
        )

    def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a statement, asked as the superuser, who gets in when nobody else does."""
        for attempt in (1, 2):
            if self._looking is None:
                self._looking = self.connect(superuser=True)
            try:
                cursor = self._looking.execute(query, parameters)
                return cursor.fetchall() if cursor.description is not None else []
            except psycopg.OperationalError:  # it was restarted since
                self._blink()
                if attempt == 2:
                    raise
        raise AssertionError

    def number(self, query: str, *parameters: object) -> int:
        return int(self.ask(query, *parameters)[0][0] or 0)

    def connect(self, *, superuser: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
        url = self.url
        if superuser:
            words = json.loads((self.home / "postgres" / "passwords.json").read_text(encoding="utf-8"))
            url = f"postgresql://postgres:{words['postgres']}@127.0.0.1:{self.port}/quantrac"
        return psycopg.connect(url, autocommit=True)

    def stored(self) -> int:
        return self.number("SELECT count(*) FROM uplink")

    def fail_commits(self, condition: str, error: str) -> None:
        """Let a COMMIT that brings uplinks fail with this SQLSTATE where `condition` holds for one of them.

        `condition` may say `NEW.…`; a deferred trigger asks it, so every statement before succeeded.
        """
        self.ask(
            f"CREATE OR REPLACE FUNCTION chaos_fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {condition} THEN RAISE EXCEPTION 'COMMIT refused' USING ERRCODE = '{error}'; END IF;"
            f" RETURN NULL; END $$"
        )
        self.ask(
            "CREATE CONSTRAINT TRIGGER chaos_fail AFTER INSERT ON uplink DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION chaos_fail()"
        )

    def heal_commits(self) -> None:
        self.ask("DROP TRIGGER chaos_fail ON uplink")

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """No connection is left to ordinary users, ingest's own taken from it too."""
        hogs: list[psycopg.Connection[Any]] = []
        try:
            while not hogs or self._ingest_is_in():
                self.ask(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'quantrac%%'"
                )
                try:
                    while True:
                        hogs.append(self.connect())
                except psycopg.OperationalError as error:
                    assert "connection slots" in str(error) or "too many" in str(error)  # noqa: PT017
            yield
        finally:
            for hog in hogs:
                hog.close()

    def _ingest_is_in(self) -> bool:
        return bool(self.ask("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'quantrac%%'"))

    def write_log_until_it_ends(self) -> None:
        """Begin one file of the transaction log after another, until the disk has no room for the next."""
        with contextlib.suppress(psycopg.OperationalError), self.connect(superuser=True) as session:
            while True:
                session.execute("SELECT pg_logical_emit_message(true, 'chaos', 'x'), pg_switch_wal()")
        assert wait_until(lambda: not self._server.is_running(), 60), self.log()

    def move_to_tablespace(self, folder: Path) -> None:
        """Keep the tables that grow with every frame in `folder`."""
        owner = self.cluster.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        self.ask(f"CREATE TABLESPACE small LOCATION '{folder}'")
        for name, kind in self.ask(
            "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'i') AND relname ~ '^(uplink|reading)'"
        ):
            what = "TABLE" if kind == "r" else "INDEX"
            self.ask(f"ALTER {what} {name} SET TABLESPACE small")

    def _blink(self) -> None:
        if self._looking is not None:
            self._looking.close()
            self._looking = None

    def close(self) -> None:
        self._blink()
        self._server.stop()
