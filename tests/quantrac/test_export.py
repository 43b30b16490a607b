"""`quantrac export` of series: the same in every format, cut and gone on with, memory that does not grow."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from api.exports import files, parquet, series
from api.exports.run import export
from api.exports.selection import Selection
from quantrac.cli import app
from telemetry.errors import QuantracError, UsageError
from telemetry.store import binary
from telemetry.store.lanes import READING_DTYPE
from telemetry.store.pool import connect
from tests.program import run
from tests.proxy import TcpProxy

Database = psycopg.Connection[dict[str, Any]]
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
COPY = f"COPY reading ({binary.READING_COLUMNS}) FROM STDIN (FORMAT binary)"


@pytest.fixture
def filled(database: Database) -> Database:
    """Devices of a station whose name is a formula, without a station, and without readings."""
    database.execute(
        "INSERT INTO station (code, name, latitude, longitude)"
        ' VALUES (\'cau\', \'=HYPERLINK("http://x","Cầu, ""mới""")\', 11, 107)'
    )
    database.execute(
        "INSERT INTO device (dev_eui, station_id) VALUES ('00000000000000a1', 1), ('00000000000000a2', NULL),"
        " ('00000000000000a3', 1)"
    )
    return database


def fill(database: Database, count: int, series_count: int = 6) -> None:
    """`count` readings of two devices, in turns, as many a moment as there are series."""
    number = np.arange(count)
    tick, one = np.divmod(number, series_count)
    rows = np.zeros(count, READING_DTYPE)
    rows["time"] = int(BEGIN.timestamp() * 1_000_000) + tick * 1_000_000
    rows["value"], rows["uplink_id"] = number / 8, number
    rows["device_id"], rows["metric_id"], rows["quality"] = one % 2 + 1, one // 2 + 1, 1 + tick % 3
    with database.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write(binary.HEADER + binary.readings(rows) + binary.TRAILER)


def write(url: str, file: Path, *, resume: bool = False, tell: Any = None, **selection: Any) -> int:
    asked = Selection.model_validate({"format": file.suffix[1:], "to": END, **selection})
    with connect(url, application="test", autocommit=True) as connection:
        return export(connection, asked, file, resume=resume, tell=tell or (lambda rows, share: None))


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of any format, as NDJSON has them."""
    if file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows: list[dict[str, Any]] = [
                {k: v or None for k, v in row.items()} for row in csv.DictReader(opened)
            ]
        return [
            {**row, **{k: float(row[k]) for k in ("value", "raw") if row[k]},
             **{k: int(row[k]) for k in ("channel", "quality")}, "simulated": row["simulated"] == "true"}
            for row in rows
        ]  # fmt: skip
    if file.suffix == ".ndjson":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = pq.read_table(file).to_pylist()
    return [{**r, "time": r["time"].strftime("%Y-%m-%dT%H:%M:%SZ"), "uplink": str(r["uplink"])} for r in rows]


def test_the_same_rows_in_every_format(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "WINDOW", 7)  # ends within series, and within moments
    fill(filled, 60)
    filled.execute("UPDATE device SET simulated = true WHERE id = 2")
    filled.execute("UPDATE reading SET raw = value + 1 WHERE uplink_id = 4")
    filled.execute(  # as a map may give: one series, one moment, one frame, other values
        "INSERT INTO reading (time, value, uplink_id, device_id, metric_id, channel, quality)"
        " SELECT time, value + n, uplink_id, device_id, metric_id, channel, quality FROM reading,"
        " generate_series(1, 7) n WHERE uplink_id = 6"
    )
    told = {}
    for ending in ("csv", "ndjson", "parquet"):
        assert write(database_url, tmp_path / f"x.{ending}") == 67
        told[ending] = rows_of(tmp_path / f"x.{ending}")
    stored = filled.execute(
        "SELECT uplink_id, value FROM reading ORDER BY device_id, metric_id, time, channel, uplink_id, value"
    ).fetchall()
    assert [(row["uplink"], row["value"]) for row in told["ndjson"]] == [
        (str(row["uplink_id"]), row["value"]) for row in stored
    ]
    assert told["parquet"] == told["ndjson"]
    assert {(row["dev_eui"][-1], row["simulated"]) for row in told["ndjson"]} == {("1", False), ("2", True)}
    assert told["ndjson"][0]["station_name"].startswith("=HYPERLINK")
    assert told["csv"][0]["station_name"] == "'" + told["ndjson"][0]["station_name"]
    for row in told["csv"]:
        row["station_name"] = row["station_name"] and row["station_name"][1:]
    assert told["csv"] == told["ndjson"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.ndjson", "x.parquet"]
    schema = pq.read_schema(tmp_path / "x.parquet")
    assert str(schema.field("time").type) == "timestamp[us, tz=UTC]"
    assert b"quantrac.version" in schema.metadata


def test_a_workbook_has_texts_numbers_and_local_times(
    filled: Database, database_url: str, tmp_path: Path
) -> None:
    fill(filled, 12)
    assert write(database_url, tmp_path / "x.xlsx", zone="+07:00") == 12
    with ZipFile(tmp_path / "x.xlsx") as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet  # no formula
    assert "=HYPERLINK" in sheet
    assert "time (UTC+07:00)" in sheet
    days = (BEGIN + timedelta(hours=7) - datetime(1899, 12, 30, tzinfo=UTC)) / timedelta(days=1)
    assert f"<v>{days:.6f}"[:12] in sheet


def test_filters(filled: Database, database_url: str, tmp_path: Path) -> None:
    fill(filled, 60)
    file = tmp_path / "x.ndjson"
    assert write(database_url, file, devices=["00-00-00-00-00-00-00-A2"], quality=[1, 2]) == 21
    assert {(row["dev_eui"], row["quality"]) for row in rows_of(file)} == {
        ("00000000000000a2", q) for q in (1, 2)
    }
    second = BEGIN + timedelta(seconds=1)
    assert write(database_url, file, **{"from": BEGIN, "to": second}, stations=["cau"]) == 3
    assert write(database_url, file, metrics=["water.level"], devices=["00000000000000a3"]) == 0
    with pytest.raises(UsageError, match="unknown metric"):
        write(database_url, file, metrics=["water.lvl"])
    with pytest.raises(UsageError, match="unknown device 'ffffffffffffffff'"):
        write(database_url, file, devices=["00000000000000a1", "ffffffffffffffff"])
    with pytest.raises(UsageError, match="unknown station 'cua'"):
        write(database_url, file, what="transitions", stations=["cua"])
    assert write(database_url, file, what="rollups", resolution="1d") == 6
    assert {row["count"] for row in rows_of(file)} == {10}
    # Their day began at 17:00 the evening before: it comes whole, though they lie behind the end.
    evening = {"from": BEGIN - timedelta(hours=7), "to": BEGIN - timedelta(hours=6)}
    assert write(database_url, file, what="rollups", resolution="1d", **evening) == 6
    assert {row["count"] for row in rows_of(file)} == {10}
    assert write(database_url, file, what="rollups", **evening) == 0
    assert write(database_url, file, what="rollups", to="9999-12-31T23:59:59Z") == 6
    assert write(database_url, tmp_path / "x.csv", what="transitions") == 0


def test_rows_before_a_move_stay_the_old_stations(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device leaves its station for another, for a while for none, and comes back."""
    monkeypatch.setattr(series, "WINDOW", 4)
    fill(filled, 120)  # 20 seconds of 3 metrics of each device
    new = "INSERT INTO station (code, name, latitude, longitude) VALUES ('moi', 'Mới', 11, 107)"
    filled.execute(new)
    for station, second in ((2, 5), (None, 10), (1, 15)):
        since = BEGIN + timedelta(seconds=second)
        filled.execute("SELECT set_belonging('device_station', 1, %s, %s, NULL)", (station, since))
    file = tmp_path / "x.ndjson"
    device = {"devices": ["00000000000000a1"]}
    assert write(database_url, file, **device) == 60
    told = {"cau": [*range(5), *range(15, 20)], "moi": [*range(5, 10)], None: [*range(10, 15)]}
    for station, seconds in told.items():
        rows = [row for row in rows_of(file) if row["station"] == station]
        assert sorted(int(row["time"][-3:-1]) for row in rows) == sorted(seconds * 3)
        if station != "cau":
            assert {row["station_name"] for row in rows} == {"Mới" if station else None}
        if station:
            assert write(database_url, tmp_path / "of.ndjson", stations=[station]) == len(rows)
            assert rows_of(tmp_path / "of.ndjson") == rows
    span = {"from": BEGIN + timedelta(seconds=7), "to": BEGIN + timedelta(seconds=16)}
    assert write(database_url, file, stations=["moi", "cau"], **span) == (3 + 1) * 3
    assert (
        write(database_url, file, what="rollups", resolution="1d", stations=["moi"]) == 0
    )  # began at the other


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 7, 60])
def test_equal_rows_come_all_and_once(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(series, "WINDOW", window)
    fill(filled, 12)
    filled.execute(
        "INSERT INTO reading SELECT r.* FROM reading r, generate_series(1, 1 + uplink_id::int % 3)"
    )
    file = tmp_path / "x.ndjson"
    assert write(database_url, file) == 12 + 6 * 4
    told = [row["uplink"] for row in rows_of(file)]
    assert sorted(told, key=int) == [str(n) for n in range(12) for _ in range(2 + n % 3)]


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet", "xlsx"])
def test_a_cut_export_leaves_no_half_file_and_goes_on(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(series, "WINDOW", 10)
    monkeypatch.setattr(files, "CHECKPOINT_ROWS", 20)
    fill(filled, 120)
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    write(database_url, whole)
    began: list[int] = []

    def stop(rows: int, share: float) -> None:
        began.append(rows)
        if rows == 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(database_url, cut, tell=stop)
    assert not cut.exists()
    if ending in ("csv", "ndjson"):  # as a kill leaves it: more than the notes tell of
        with files.part_of(cut).open("ab") as part:
            part.write(b"half a li")
    began.clear()
    if ending != "xlsx":  # which has nothing to go on with
        with pytest.raises(UsageError, match="something else"):
            write(database_url, cut, resume=True, quality=[1])
    assert write(database_url, cut, resume=True, tell=lambda rows, share: began.append(rows)) == 120
    assert began[0] == (10 if ending == "xlsx" else 70)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([whole.name, cut.name])
    if ending != "xlsx":
        assert rows_of(cut) == rows_of(whole)


async def test_a_cut_connection_leaves_what_can_be_gone_on_with(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "WINDOW", 10)
    monkeypatch.setattr(files, "CHECKPOINT_ROWS", 20)
    fill(filled, 120)
    file, loop = tmp_path / "x.ndjson", asyncio.get_running_loop()
    info = filled.info
    async with TcpProxy(info.host, info.port) as proxy:
        through = make_conninfo(database_url, host="127.0.0.1", port=proxy.port)

        def cut(rows: int, share: float) -> None:
            if rows == 50:
                asyncio.run_coroutine_threadsafe(proxy.cut(), loop).result(20)

        with pytest.raises(psycopg.OperationalError):
            await asyncio.to_thread(write, through, file, tell=cut)
        assert not file.exists()
        refused = await asyncio.to_thread(
            run, "export", "readings", "--out", str(file), "--resume", env={"QUANTRAC_DATABASE_URL": through}
        )
        assert refused.returncode not in (0, 2)
        assert "Traceback" not in refused.stderr
        assert not file.exists()
        proxy.mend()
        assert await asyncio.to_thread(write, through, file, resume=True) == 120
    uplinks = [int(row["uplink"]) for row in rows_of(file)]
    assert sorted(uplinks) == list(range(120))


def test_a_full_disk_is_told(filled: Database, database_url: str, tmp_path: Path) -> None:
    fill(filled, 12)
    (tmp_path / "x.csv.part").symlink_to("/dev/full")
    with pytest.raises(QuantracError, match="disk is full"):
        write(database_url, tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_killed_and_gone_on_with_from_the_command_line(
    filled: Database, database_url: str, tmp_path: Path
) -> None:
    fill(filled, 3_000)
    file = tmp_path / "x.parquet"
    asked = ("export", "readings", "--out", str(file))
    killed = alone(
        "import os, signal; from api.exports import files, series;"
        "series.WINDOW = 100; files.CHECKPOINT_ROWS = 400; note = files._note;"
        "files._note = lambda *a: note(*a) or a[1].rows > 900 and os.kill(os.getpid(), signal.SIGKILL)",
        database_url, *asked,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not file.exists()
    env = {"QUANTRAC_DATABASE_URL": database_url}
    done = CliRunner().invoke(app, [*asked, "--resume"], env=env)
    assert (done.exit_code, done.stdout) == (0, "readings exported: 3000\n"), done.output
    uplinks = pq.read_table(file, columns=["uplink"])["uplink"].to_numpy()
    assert np.array_equal(np.sort(uplinks), np.arange(3_000))


def test_a_wrong_option_is_named(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["export", "readings", "--quality", "7", "--out", str(tmp_path / "x.csv")])
    assert isinstance(told.exception, UsageError)
    assert "--quality" in str(told.exception)


def test_memory_does_not_grow_with_the_rows(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of Python and numpy, and that of Arrow: blocks and row groups are in these."""
    monkeypatch.setattr(parquet, "ROW_GROUP", 5_000)
    monkeypatch.setattr(series, "WINDOW", 5_000)
    monkeypatch.setattr(files, "CHECKPOINT_ROWS", 10_000)
    fill(filled, 60_000)
    peaks = []
    short = BEGIN + timedelta(seconds=2_500)
    for end in (short, short, END):  # to load what there is to load; 15,000 rows; 60,000 rows
        tracemalloc.start()
        write(database_url, tmp_path / "x.parquet", to=end)
        peaks.append((tracemalloc.get_traced_memory()[1], pa.system_memory_pool().max_memory()))
        tracemalloc.stop()
    for small, large in zip(*peaks[1:], strict=True):
        assert large < 1.3 * small, peaks


def alone(first: str, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`quantrac …` in a process of its own that runs some code `first`."""
    return subprocess.run(
        [sys.executable, "-c", f"{first}\nfrom quantrac.cli import main; main()", *arguments],
        env={**os.environ, "QUANTRAC_DATABASE_URL": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
