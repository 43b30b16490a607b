"""`quantrac backup` and `quantrac restore`, beside real ingest and against every way to go wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import psycopg
import pytest
import zstandard
from psycopg import sql

from quantrac.backup import programs
from quantrac.backup.archive import DUMP, reading
from quantrac.backup.make import backup as make
from quantrac.backup.restore import Course, Stage, bring_up_to_date, restore
from quantrac.embedded import BrokerInfo, EmbeddedBroker, EmbeddedPostgres
from quantrac.embedded.broker import ROLES
from quantrac.embedded.files import new_passwords, write_private
from telemetry.clock import SystemClock
from telemetry.errors import QuantracError, StoreError, UsageError
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.edition import Edition, detect
from telemetry.store.migrate import current_revision, migrate, newest_revision
from telemetry.store.policies import apply_settings
from telemetry.store.rollups import refresh
from tests.chaos.traffic import READINGS, frames, paced, register_devices
from tests.e2e.conftest import Installation
from tests.program import Program, run
from tests.traffic import publish
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]


def SILENT(done: int, total: int) -> None:  # noqa: N802
    """Nobody watches the progress."""


# Held, pg_dump waits: unlike a table the command itself does not lock it.
HOLD_PG_DUMP = "ALTER SEQUENCE uplink_id OWNER TO CURRENT_USER"
Frames = dict[tuple[str, int], int]
ITS_SESSIONS = (
    "FROM pg_stat_activity WHERE application_name = 'quantrac backup' AND datname = current_database()"
)
KEY = "a-secret-key-of-at-least-32-letters"


def stored(url: str) -> Frames:
    """How often each frame is stored; every one has its readings."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT d.dev_eui, u.f_cnt, count(DISTINCT u.id), count(r.*) FROM uplink u"
            " JOIN device d ON d.id = u.device_id LEFT JOIN reading r ON r.uplink_id = u.id GROUP BY 1, 2"
        ).fetchall()
    assert {readings / uplinks for _, _, uplinks, readings in rows} <= {READINGS}
    return {(eui, f_cnt): uplinks for eui, f_cnt, uplinks, _ in rows}


def counts(url: str, names: list[str]) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        found = {}
        for name in names:
            row = connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*name.split(".")))
            ).fetchone()
            assert row is not None
            found[name] = row[0]
    return found


def edition_of(url: str) -> Edition:
    with psycopg.connect(url) as connection:
        return detect(connection)


def number(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


def following(url: str) -> set[str]:
    """The followers that have seen all of every lane."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT f.name FROM follower f WHERE NOT EXISTS (SELECT FROM lane LEFT JOIN follower_cursor c"
            " ON c.follower = f.name AND c.lane = lane.id WHERE coalesce(c.seq, 0) < lane.seq)"
        ).fetchall()
    return {name for (name,) in rows}


class Traffic:
    """Uplinks in the background until `stop`; `sent` has them."""

    def __init__(self, url: str, rate: float) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url, rate))
        self._thread.start()

    def _run(self, url: str, rate: float) -> None:
        def noted() -> Iterator[tuple[str, bytes]]:
            for _, topic, payload in paced(frames(0, 100_000), rate):
                if self._enough.is_set():
                    return
                self.sent.append((topic, payload))
                yield topic, payload

        publish(url, noted())

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()


async def test_a_backup_under_load_holds_all_that_was_stored_before_it_and_ingest_goes_on(
    broker: BrokerInfo, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    file, data = tmp_path / "sao lưu.backup", {"QUANTRAC_DATA_DIR": str(tmp_path)}
    env = {"QUANTRAC_MQTT_URL": broker.urls["ingest"], "QUANTRAC_MQTT_CLIENT_ID": "station", **data}
    with psycopg.connect(database_url, autocommit=True) as connection:
        register_devices(connection)
    ingest = Program("ingest", env={"QUANTRAC_DATABASE_URL": database_url, **env})
    await until(lambda: number(database_url, "SELECT count(*) FROM ingest_member WHERE connected"), 60)
    traffic = Traffic(broker.urls["network"], rate=150)
    try:
        await until(lambda: number(database_url, "SELECT count(*) FROM uplink") >= 300, 60)
        before = stored(database_url)
        made = await asyncio.to_thread(
            run, "backup", str(file), "--json", env={"QUANTRAC_DATABASE_URL": database_url, **data}
        )
        assert made.returncode == 0, made.stderr
        told = json.loads(made.stdout)
        assert stored(database_url).keys() > before.keys(), "ingest stood still"
    finally:
        traffic.stop()
        ingest.stop()

    back = {"QUANTRAC_DATABASE_URL": empty_database_url, **data}
    done = await asyncio.to_thread(run, "restore", str(file), "--json", env=back)
    assert done.returncode == 0, done.stderr
    after = stored(empty_database_url)
    assert set(after.values()) == {1}
    assert after.keys() >= before.keys(), "stored before the backup began, but not in it"
    tables = told["tables"]
    assert json.loads(done.stdout)["tables"] == tables
    assert tables["public.uplink"] == len(after) > len(before)
    seeded = ("admin_unit", "device_type", "device_type_map", "registry_version")
    kept = [name for name in tables if name.startswith("public.") and name[7:] not in seeded]
    assert counts(empty_database_url, kept) == {name: tables[name] for name in kept}
    assert number(empty_database_url, "SELECT count(*) FROM session") == 0
    assert number(empty_database_url, "SELECT (nextval('uplink_id') > max(id))::int FROM uplink"), (
        "ids would be given twice"
    )

    # Everything comes again, and more: the network server's own repetition.
    lane = "SELECT seq FROM lane WHERE writer = 'station'"
    seq = number(empty_database_url, lane)
    again = Program("ingest", env={**env, **back})
    alert = Program("alert", env={**env, **back})
    try:
        await until(
            lambda: number(
                empty_database_url,
                "SELECT count(*) FROM ingest_member WHERE connected AND seen_at > now() - interval '4 s'",
            ),
            60,
        )
        new = [(topic, payload) for _, topic, payload in frames(len(traffic.sent), 100)]
        await asyncio.to_thread(publish, broker.urls["network"], [*traffic.sent, *new])
        total = len(traffic.sent) + len(new)
        await until(lambda: number(empty_database_url, "SELECT count(*) FROM uplink") >= total, 60)
        await until(lambda: following(empty_database_url) >= {"alerting", "increments", "latest"}, 30)
    finally:
        again.stop()
        alert.stop()
    assert number(empty_database_url, lane) > seq
    final = stored(empty_database_url)
    assert len(final) == total
    assert set(final.values()) == {1}


@pytest.fixture
def installation(database: Database, database_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a database with something of everything in it."""
    register_devices(database)  # type: ignore[arg-type]
    database.execute(
        "INSERT INTO reading SELECT '2026-01-01Z'::timestamptz + n * interval '1 minute', n / 7.0, n, n % 20,"
        " 1, 0, 1 FROM generate_series(1, 30000) n"
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
        "QUANTRAC_DATA_DIR": str(tmp_path / "data"),
        "QUANTRAC_SECRET_KEY": KEY,
    }


def back_up(url: str, file: Path, *, force: bool = False) -> None:
    make(url, file, beside={}, force=force, clock=SystemClock(), progress=SILENT)


@pytest.fixture
def backup(installation: dict[str, str], tmp_path: Path) -> Path:
    file, url = tmp_path / "a.backup", installation["QUANTRAC_DATABASE_URL"]
    back_up(url, file)
    return file


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


def test_what_a_file_can_be_instead_of_a_backup(backup: Path) -> None:
    whole = backup.read_bytes()
    (backup.parent / "short").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (backup.parent / "flipped").write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    for path, error, said in (
        (backup.parent / "none", UsageError, "no such file"),
        (backup.parent, UsageError, "cannot be read"),
        (backup.parent / "short", UsageError, "cut short"),
        (backup.parent / "flipped", QuantracError, "is damaged"),
        (forged(backup, "newer", format=2), UsageError, "a newer Quantrac"),
        (forged(backup, "wild", tables=3), UsageError, "manifest is damaged"),
        (forged(backup, "rooted", parts=_part("beside//etc/x")), QuantracError, "leads outside"),
        (forged(backup, "above", parts=_part("beside/../x")), QuantracError, "leads outside"),
    ):
        with pytest.raises(error, match=said), reading(path) as found:
            found.check(SILENT)
    listed = forged(backup, "moved")
    with zipfile.ZipFile(listed, "a") as archive:
        archive.writestr("other", b"")
    with reading(listed) as found:
        found.check(SILENT)


def _part(name: str) -> dict[str, dict[str, Any]]:
    part = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    return {DUMP: part, name: part}


def test_restores_only_where_it_may(backup: Path, database_url: str, empty_database_url: str) -> None:
    cases = (
        (database_url, {}, "is not empty"),
        (empty_database_url, {"schema": "4711"}, "schema revision 4711"),
        (empty_database_url, {"postgresql": 99}, "Use a server of PostgreSQL 99"),
        (empty_database_url, {"namespace": "theirs"}, "lie in the schema 'theirs'"),
        (empty_database_url, {"timescaledb": "1.0.0"}, "superuser|needs TimescaleDB 1.0.0"),
    )
    for url, changes, said in cases:
        with pytest.raises(QuantracError, match=said):
            restored(forged(backup, "changed", **changes), url)
    with (
        psycopg.connect(empty_database_url, application_name="quantrac ingest"),
        pytest.raises(QuantracError, match=r"is in use \(quantrac ingest\)"),
    ):
        restored(backup, empty_database_url)
    assert empty(empty_database_url)


def test_a_restore_that_fails_leaves_nothing_or_what_nobody_takes_for_whole(
    backup: Path, empty_database_url: str
) -> None:
    with zipfile.ZipFile(backup) as archive:
        dump = zstandard.ZstdDecompressor().decompressobj().decompress(archive.read(DUMP))
    short = zstandard.ZstdCompressor().compress(dump[:-2000])
    with pytest.raises(QuantracError, match="pg_restore"):
        restored(forged(backup, "short", dump=short), empty_database_url)
    assert empty(empty_database_url)
    with reading(backup) as found:
        tables = json.loads(msgspec.json.encode(found.manifest.tables))
    tables["public.device"]["checksum"] = "0" * 16
    with pytest.raises(QuantracError, match=r"differs from the backup in public\.device"):
        restored(forged(backup, "other", tables=tables), empty_database_url)
    with pytest.raises(StoreError, match="was cut short"):
        migrate(empty_database_url)


def test_restored_database_is_whole_and_of_the_same_edition(
    backup: Path, database: Database, database_url: str, empty_database_url: str
) -> None:
    assert restored(backup, empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert current_revision(connection) == newest_revision()
        edition = detect(connection)
        assert edition is edition_of(database_url)
        assert connection.execute("SELECT nextval('uplink_id')").fetchone() == (31000,)
        sums = "SELECT count(*), sum(value) FROM reading"
        row = database.execute(sums).fetchone()
        assert row is not None
        assert connection.execute(sums).fetchone() == tuple(row.values())
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (0,)
        connection.execute(
            "INSERT INTO reading VALUES ('2027-01-01Z', 1, 1, 1, 1, 0, 1), ('2026-01-02Z', 1, 1, 1, 1, 0, 1)"
        )
        assert connection.execute(sums).fetchone() == (row["count"] + 2, pytest.approx(row["sum"] + 2))  # type: ignore[operator]
        if edition is not Edition.PLAIN:
            assert connection.execute("SHOW timescaledb.restoring").fetchone() == ("off",)
            chunks = "SELECT count(*) FROM show_chunks('reading')"
            before = database.execute(chunks).fetchone()
            assert before is not None
            assert connection.execute(chunks).fetchone() == (int(str(before["count"])) + 1,)
    assert migrate(empty_database_url).hypertables == []


def test_columnstore_rollups_and_policies_come_back_as_they_were(
    installation: dict[str, str], database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    if edition_of(database_url) is not Edition.COMMUNITY:
        pytest.skip("only TimescaleDB Community has them")
    with psycopg.connect(database_url, autocommit=True) as connection:
        apply_settings(connection, StoreSettings())
        connection.execute("SELECT compress_chunk(c) FROM show_chunks('reading') c ORDER BY 1 LIMIT 2")
        refresh(connection, None, None)
        before = _of_community(connection)
        back_up(database_url, tmp_path / "community.backup")
    with reading(tmp_path / "community.backup") as found:
        tables = found.manifest.tables
    rollups = {name: table.rows for name, table in tables.items() if "_materialized_" in name}
    assert len(rollups) == 2
    assert all(rollups.values())
    assert restored(tmp_path / "community.backup", empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        compressed, *after = _of_community(connection)
        assert compressed >= before[0]  # a policy may be at work already
        assert after == before[1:]
        connection.execute(
            "INSERT INTO reading SELECT time, 7, uplink_id, device_id, metric_id, 1, 1"
            " FROM reading ORDER BY time LIMIT 1"
        )
        refresh(connection, None, None)
        row = connection.execute("SELECT count(*) FROM reading_1h WHERE channel = 1").fetchone()
        assert row == (1,)


def _of_community(connection: psycopg.Connection[Any]) -> list[Any]:
    return [
        connection.execute(query).fetchall()
        for query in (
            "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed",
            "SELECT count(*), sum(count), min(min), max(max) FROM reading_1h",
            "SELECT count(*), sum(count), min(min), max(max) FROM reading_1d",
            "SELECT proc_name, schedule_interval, hypertable_name, scheduled"
            " FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY job_id",
        )
    ]


def test_a_plain_backup_becomes_timescale_where_the_server_has_it(
    empty_database_url: str, database_server: str, tmp_path: Path
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'").rowcount:
            pytest.skip("the test's server has no TimescaleDB")
    home = tmp_path / "plain"
    server = EmbeddedPostgres(home)
    try:
        url = server.start()
        migrate(url)
        with psycopg.connect(url) as connection:
            connection.execute(
                "INSERT INTO reading SELECT '2026-01-01Z'::timestamptz + n * interval '1 hour', n, n, 1,"
                " 1, 0, 1 FROM generate_series(1, 1000) n"
            )
        file = tmp_path / "plain.backup"
        back_up(url, file)
    finally:
        server.stop()
    restored(file, empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert detect(connection) is not Edition.PLAIN
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (1000,)
        assert number(empty_database_url, "SELECT count(*) FROM show_chunks('reading')") > 1


async def test_secret_key_stays_behind_and_the_broker_access_comes_along(
    installation: dict[str, str], tmp_path: Path
) -> None:
    data = Path(installation["QUANTRAC_DATA_DIR"])
    (data / "broker").mkdir(parents=True)
    passwords = new_passwords(ROLES)
    (data / "broker" / "passwords.json").write_text(json.dumps(passwords))
    (data / "secret.key").write_text("the-key-in-the-file")
    codecs = tmp_path / "mã"
    codecs.mkdir()
    (codecs / "ours.js").write_text("function decodeUplink() {}")
    (tmp_path / "quantrac.toml").write_text('secret_key = "the-key-in-settings"\nlog_level = "debug"\n')
    file = tmp_path / "b.backup"
    made = run("backup", str(file), env={**installation, "QUANTRAC_CODECS_DIR": str(codecs)}, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "not in it: QUANTRAC_SECRET_KEY" in made.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as archive:
        held = b"".join(archive.read(name) for name in archive.namelist())
        assert archive.read("beside/quantrac.toml") == b'log_level = "debug"\n'
        dump = zstandard.ZstdDecompressor().decompressobj().decompress(archive.read(DUMP))
    for secret in (KEY.encode(), b"the-key-in-the-file", b"the-key-in-settings"):
        assert secret not in held + dump
    new = tmp_path / "mới"
    done = run("restore", str(file), "--data", str(new), cwd=codecs)
    if edition_of(installation["QUANTRAC_DATABASE_URL"]) is not Edition.PLAIN:
        assert (done.returncode, "the embedded database has none" in done.stderr) == (1, True), done.stderr
        assert not new.exists()
        return
    assert done.returncode == 0, done.stderr
    assert "1 endpoints have secrets under the old machine's QUANTRAC_SECRET_KEY" in done.stdout
    assert json.loads((new / "broker" / "passwords.json").read_text()) == passwords
    assert (new / "restored" / "codecs" / "ours.js").is_file()
    assert not EmbeddedPostgres(new).is_running()
    (tmp_path / "quantrac.toml").unlink()
    write_private(new / "secret.key", KEY)
    world = Installation(new)
    try:
        await world.start()
        assert number(str(world.runtime()["database_url"]), "SELECT count(*) FROM reading") == 30000
        with world.client() as client:
            assert client.get("devices").raise_for_status().json()["items"]
            assert client.get("endpoints").raise_for_status().json()["items"][0]["name"] == "Loa"
    finally:
        await world.stop()
        for embedded in (EmbeddedBroker(new), EmbeddedPostgres(new)):
            await asyncio.to_thread(embedded.stop)


async def test_a_backup_that_is_stopped_leaves_no_file(
    installation: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    programs: dict[signal.Signals, Program] = {}
    with psycopg.connect(database_url) as holding:
        holding.execute(HOLD_PG_DUMP)
        for by in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            programs[by] = Program("backup", str(tmp_path / by.name), env=installation, cwd=tmp_path)
        waiting = f"SELECT {ITS_SESSIONS} AND wait_event_type = 'Lock'"
        await until(lambda: database.execute(waiting).rowcount == 3, 60)
        for by, program in programs.items():
            os.kill(program.pid, by)
        await until(lambda: all(program.status is not None for program in programs.values()))
    for by in (signal.SIGINT, signal.SIGTERM):
        assert (programs[by].stop(), names(tmp_path, by.name)) == (1, set())
        assert "interrupted; nothing was kept" in programs[by].output
    programs[signal.SIGKILL].stop()
    assert names(tmp_path, "SIGKILL") == {"SIGKILL.part"}
    await until(lambda: not database.execute(f"SELECT {ITS_SESSIONS}").rowcount)
    back_up(database_url, tmp_path / "SIGKILL")
    assert names(tmp_path, "SIGKILL") == {"SIGKILL"}


async def test_a_backup_whose_database_goes_away_leaves_no_file(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as holding:
        holding.execute(HOLD_PG_DUMP)
        making = asyncio.create_task(asyncio.to_thread(back_up, database_url, tmp_path / "d.backup"))
        await until(lambda: database.execute(f"SELECT {ITS_SESSIONS} AND wait_event_type = 'Lock'").rowcount)
        database.execute(f"SELECT pg_terminate_backend(pid) {ITS_SESSIONS}")
        with pytest.raises((QuantracError, psycopg.OperationalError)):
            await making
    assert not names(tmp_path, "d.backup")


def test_pg_dump_that_fails_at_once_is_tried_again_and_one_that_fails_later_is_told(
    backup: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading(backup) as found:
        real = programs.find("pg_dump", found.manifest.postgresql)
    script = tmp_path / "pg_dump"
    monkeypatch.setattr(programs, "find", lambda name, least: replace(real, path=script))

    def plays(*lines: str) -> None:
        script.write_text("\n".join(["#!/bin/bash", f"real={real.path}", *lines]) + "\n")
        script.chmod(0o755)

    plays(f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 1; }}", 'exec "$real" "$@"')
    back_up(database_url, tmp_path / "again.backup")
    with reading(tmp_path / "again.backup") as found:
        found.check(SILENT)
    plays('"$real" "$@" | head -c 20000', "echo 'pg_dump: error: the disk broke' >&2", "exit 1")
    with pytest.raises(QuantracError, match="the disk broke"):
        back_up(database_url, tmp_path / "late.backup")
    assert not names(tmp_path, "late.backup")


async def test_who_waits_for_pg_dump_does_not_hold_up_the_comparison(
    backup: Path, database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading(backup) as found:
        real = programs.find("pg_dump", found.manifest.postgresql)
    script, began, go = tmp_path / "pg_dump", tmp_path / "began", tmp_path / "go"
    os.mkfifo(go)
    script.write_text(f'#!/bin/bash\n{real.path} "$@" | {{ head -c 1; touch {began}; cat {go}; cat; }}\n')
    script.chmod(0o755)
    monkeypatch.setattr(programs, "find", lambda name, least: replace(real, path=script))
    making = asyncio.create_task(asyncio.to_thread(back_up, database_url, tmp_path / "e.backup"))
    waits = "SELECT FROM pg_locks WHERE relation = 'reading'::regclass AND NOT granted"

    over = threading.Event()

    def change() -> None:  # as a policy that drops or compresses chunks
        with psycopg.connect(database_url) as policy:
            policy.execute("LOCK TABLE reading IN ACCESS EXCLUSIVE MODE")
            over.wait(20)

    await until(began.exists)
    changing = asyncio.create_task(asyncio.to_thread(change))
    try:
        await until(lambda: database.execute(waits).rowcount)
        await asyncio.to_thread(go.write_bytes, b"")
        await asyncio.wait({making}, timeout=20)
    finally:
        over.set()
    assert making.done(), "it waited for who waited for pg_dump"
    await changing
    await making
    with reading(tmp_path / "e.backup") as found:
        found.check(SILENT)


def test_a_failed_comparison_ends_the_dump(
    backup: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading(backup) as found:
        real = programs.find("pg_dump", found.manifest.postgresql)
    script = tmp_path / "pg_dump"
    script.write_text("#!/bin/bash\nexec yes\n")  # a dump without an end
    script.chmod(0o755)
    monkeypatch.setattr(programs, "find", lambda name, least: replace(real, path=script))
    failed = psycopg.errors.DiskFull("no room for a sort")
    monkeypatch.setattr("quantrac.backup.tables.measure", Mock(side_effect=failed))
    with pytest.raises(psycopg.errors.DiskFull):
        back_up(database_url, tmp_path / "f.backup")
    assert not names(tmp_path, "f.backup")


def test_existing_files_and_full_disks_are_refused_at_once(
    backup: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = backup.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        back_up(database_url, backup)
    with pytest.raises(UsageError, match="cannot be written"):
        back_up(database_url, tmp_path / "none" / "x")
    with pytest.raises(UsageError, match="is a folder"):
        back_up(database_url, tmp_path, force=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**8))
    with pytest.raises(QuantracError, match=r"0\.1 GB free"):
        back_up(database_url, backup, force=True)
    assert backup.read_bytes() == before
    monkeypatch.undo()
    back_up(database_url, backup, force=True)
    with reading(backup) as found:
        found.check(SILENT)
    assert names(tmp_path, "a.backup") == {"a.backup"}
