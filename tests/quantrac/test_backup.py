"""`quantrac restore`: what it takes for a backup, where it may, and what is there afterwards."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import zstandard

from quantrac.backup.archive import DUMP, reading
from quantrac.embedded import EmbeddedPostgres
from quantrac.embedded.broker import ROLES
from quantrac.embedded.files import new_passwords
from telemetry.errors import QuantracError, StoreError, UsageError
from telemetry.settings import StoreSettings
from telemetry.store.edition import Edition, detect
from telemetry.store.migrate import current_revision, migrate, newest_revision
from telemetry.store.policies import apply_settings
from telemetry.store.rollups import refresh
from tests.program import run

from .backups import KEY, SILENT, Database, back_up, edition_of, empty, forged, number, restored


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


def test_secret_key_stays_behind_and_the_broker_access_comes_along(
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
