"""An installation to be backed up, backups of it, and what is in a database."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import psycopg

from quantrac.backup.archive import DUMP, reading
from quantrac.backup.make import backup as make
from quantrac.backup.restore import Course, Stage, bring_up_to_date, restore
from telemetry.clock import SystemClock
from telemetry.secrets import SecretBox
from telemetry.store.edition import Edition, detect
from tests.chaos.traffic import register_devices

Database = psycopg.Connection[dict[str, Any]]
KEY = "a-secret-key-of-at-least-32-letters"


def SILENT(done: int, total: int) -> None:  # noqa: N802
    """Nobody watches the progress."""


def furnished(database_url: str, home: Path) -> dict[str, str]:
    """Something of everything in the database; the environment of an installation that has it."""
    with psycopg.connect(database_url, autocommit=True) as database:
        register_devices(database)
        database.execute(
            "INSERT INTO reading SELECT '2026-01-01Z'::timestamptz + n * interval '1 minute', n / 7.0, n,"
            " n % 20, 1, 0, 1 FROM generate_series(1, 30000) n"
        )
        database.execute("ALTER SEQUENCE uplink_id RESTART WITH 31000")
        database.execute("INSERT INTO account (login, password_hash, role) VALUES ('lan', 'x', 'admin')")
        database.execute("INSERT INTO session SELECT 'x', id, now(), now() + interval '1 day' FROM account")
        database.execute(
            "INSERT INTO endpoint (name, url, secret) VALUES ('Loa', 'https://a.vn', %s)",
            (SecretBox(KEY).encrypt(b"s"),),
        )
    return {
        "QUANTRAC_DATABASE_URL": database_url,
        "QUANTRAC_DATA_DIR": str(home / "data"),
        "QUANTRAC_SECRET_KEY": KEY,
    }


def back_up(url: str, file: Path, *, force: bool = False) -> None:
    make(url, file, beside={}, force=force, clock=SystemClock(), progress=SILENT)


def restored(file: Path, url: str) -> bool:
    course = Course()
    with reading(file) as found:
        found.check(SILENT)
        restore(url, found, SILENT, course)
    assert course.stage is Stage.WHOLE
    return bring_up_to_date(url)


def forged(file: Path, to: str, **changes: Any) -> Path:
    """A copy whose manifest says something else; `dump` replaces the dump, with its checksum."""
    made = file.with_name(to)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w") as new:
        manifest = json.loads(old.read("manifest.json"))
        dump = changes.pop("dump", old.read(DUMP))
        manifest["parts"][DUMP] = {"bytes": len(dump), "sha256": hashlib.sha256(dump).hexdigest()}
        new.writestr(DUMP, dump)
        new.writestr("manifest.json", json.dumps({**manifest, **changes}))
    return made


def names(folder: Path, prefix: str) -> set[str]:
    return {path.name for path in folder.glob(f"{prefix}*")}


def empty(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT to_regclass('reading') IS NULL").fetchone() == (True,)


def edition_of(url: str) -> Edition:
    with psycopg.connect(url) as connection:
        return detect(connection)


def number(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])
