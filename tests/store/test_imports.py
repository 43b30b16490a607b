"""Imports into a real store: compared, all or nothing, told row by row, and back again unchanged."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantrac.commands.registry import _import_over
from quantrac.exchange import export_csv
from quantrac.imports.kinds import KINDS
from quantrac.imports.package import installed_file, write_communes
from quantrac.imports.report import write_json
from quantrac.imports.run import begin_import
from quantrac.seed import seed
from telemetry.errors import UsageError
from telemetry.store.belonging import follow_successors
from telemetry.store.pool import connect

Database = psycopg.Connection[dict[str, Any]]
Told = dict[str, Any]
UNITS = """
    INSERT INTO admin_unit (code, name, level, valid_from, valid_to, successors) VALUES
        ('70', 'Bình Phước', 'province', NULL, '2025-07-01', '{75}'),
        ('75', 'Đồng Nai', 'province', NULL, '2025-07-01', '{75}'),
        ('75', 'Đồng Nai', 'province', '2025-07-01', NULL, '{}'),
        ('01', 'Hà Nội', 'province', NULL, NULL, '{}')
"""


class Imports:
    """`imports("stations", text)` imports a file of this text and tells what became of its rows."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._file = folder / "file.csv"

    def __call__(self, what: str, text: str, *, dry_run: bool = False) -> Told:
        self._file.write_text(text, encoding="utf-8")
        out = io.StringIO()
        with connect(self._url, application="test") as connection:
            done = begin_import(connection, self._file, KINDS[what])
            kept = not (dry_run or done.refused)
            write_json(done, self._file, kept=kept, out=out)
            if not kept:
                connection.rollback()
        told: Told = json.loads(out.getvalue())
        return told

    def export(self, what: str) -> str:
        out = io.StringIO(newline="")
        with connect(self._url, application="test") as connection:
            export_csv(connection, what, out)
        return out.getvalue()


@pytest.fixture
def imports(database_url: str, tmp_path: Path) -> Imports:
    return Imports(database_url, tmp_path)


def _outcomes(told: Told) -> list[str]:
    return [row["outcome"] for row in told["rows"]]


def _faults(told: Told) -> list[tuple[int, str]]:
    return [(row["row"], fault) for row in told["rows"] for fault in row["faults"]]


def test_what_becomes_of_each_row(imports: Imports, database: Database) -> None:
    head = "code,name,address\n"
    assert imports("owners", f"{head}a,A,x\nb,B,\n", dry_run=True)["counts"]["created"] == 2
    assert database.execute("SELECT FROM owner").rowcount == 0
    imports("owners", f"{head}a,A,x\nb,B,\n")
    told = imports("owners", f"{head}b,B mới,\na,A,x\n\nc,C,\n")
    assert [(row["row"], row["key"], row["outcome"], row["changes"]) for row in told["rows"]] == [
        (2, "b", "changed", ["name"]),
        (3, "a", "unchanged", []),
        (5, "c", "created", []),
    ]
    # A column that is not there stays; an empty cell empties.
    assert _outcomes(imports("owners", "code,name\na,A\n")) == ["unchanged"]
    imports("owners", f"{head}a,A,\n")
    assert database.execute("SELECT FROM owner WHERE code = 'a' AND address = ''").rowcount == 1


def test_one_wrong_row_and_nothing_is_kept(imports: Imports, database: Database) -> None:
    told = imports("owners", 'code,name\na,"A\nB"\nB,Hoa\na,A2\nc,\n')
    assert (told["kept"], told["counts"]["refused"]) == (False, 3)
    assert _faults(told) == [
        (3, "code: 'B': lower-case letters, digits and '-' are needed"),
        (4, "code: 'a' is there twice, first in row 2"),
        (5, "name: missing"),
    ]
    assert [row["line"] for row in told["rows"]] == [2, 4, 5, 6]
    assert database.execute("SELECT FROM owner").rowcount == 0


def test_as_a_spreadsheet_in_vietnam_writes_it(imports: Imports, database: Database) -> None:
    database.execute(UNITS)
    imports("owners", "code,name\nso-tnmt,Sở\n")
    name = unicodedata.normalize("NFD", "Trạm Tà Lài")
    told = imports(
        "stations",
        "\ufeffMã trạm;Tên;Vĩ độ;Kinh độ;Mã ĐVHC;Chủ sở hữu\r\n"
        f'ta-lai; {name} ;11.37;107.35;75;so-tnmt\r\nxa;"A ""B""\r\nC";21.0;105.8;1;\r\n',
    )
    assert _faults(told) == []
    rows = database.execute("SELECT name, admin_unit FROM station ORDER BY code").fetchall()
    assert [(row["name"], row["admin_unit"]) for row in rows] == [
        ("Trạm Tà Lài", "Đồng Nai"),
        ('A "B"\r\nC', "Hà Nội"),
    ]


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ("11,37;107.35;;", "latitude: '11,37' is no number from -90 to 90; write 11.15, with a point"),
        ("107.35;11.37;;", "are swapped, it seems"),
        ("11.37;107.35;70;", "unit: '70' ended on 2025-07-01; its successor is 75"),
        ("11.37;107.35;99;", "unit: there is no '99'; import the units first"),
        ("11.37;107.35;;nobody", "owner: there is no 'nobody'; import the owners first"),
    ],
)
def test_faults_tell_the_cure(imports: Imports, database: Database, cells: str, fault: str) -> None:
    database.execute(UNITS)
    told = imports("stations", f"code;name;latitude;longitude;unit;owner\na;A;{cells}\n")
    ((row, said),) = _faults(told)
    assert row == 2
    assert fault in said


def test_outside_vietnam_is_told_and_taken(imports: Imports) -> None:
    told = imports("stations", "code,name,latitude,longitude\na,A,48.1,11.6\ntruong-sa,B,8.64,111.92\n")
    assert [row["warnings"] for row in told["rows"]] == [["latitude: 48.1, 11.6 lies outside Vietnam"], []]
    assert told["kept"]


def test_a_reform_in_one_file(database_url: str, imports: Imports, database: Database) -> None:
    head = "mã,tên,cấp,từ ngày,đến ngày,kế thừa,trực thuộc\n"
    before = f"{head}24,Bắc Giang,tỉnh,,,,\n27,Bắc Ninh,tỉnh,,,,\n213,Yên Thế,huyện,,,,24\n"
    assert imports("units", before)["kept"]
    imports("stations", "code,name,latitude,longitude,unit\na,A,21.3,106.2,24\nb,B,21.1,106.1,213\n")
    reform = (
        f"{head}24,Bắc Giang,tỉnh,,1/7/2025,24,\n27,Bắc Ninh,tỉnh,,1/7/2025,24,\n"
        "24,Bắc Ninh,tỉnh,01/07/2025,,,\n213,Yên Thế,huyện,,2025-07-01,,24\n7,Yên Thế,xã,2025-07-01,,,24\n"
    )
    told = imports("units", reform)
    assert _outcomes(told) == ["changed", "changed", "created", "changed", "created"]
    assert told["rows"][4]["warnings"] == ["code: 7 is read as 00007"]
    with connect(database_url, application="test") as connection:
        followed, left = follow_successors(connection.cursor())
    assert followed == [("station", "a", "24@2025-06-30", "24")]
    assert left == [("station", "b", "213@2025-06-30", [])]
    history = database.execute(
        "SELECT u.name, p.valid_to::text FROM station_unit_period p JOIN admin_unit u ON u.id = unit_id"
        " JOIN station s ON s.id = station_id WHERE s.code = 'a' ORDER BY valid_to"
    ).fetchall()
    assert [row["name"] for row in history] == ["Bắc Giang", "Bắc Ninh"]
    assert "2025-06-30 17:00:00" in history[0]["valid_to"]


def test_units_that_contradict_each_other(imports: Imports, database: Database) -> None:
    database.execute(UNITS)
    told = imports(
        "units",
        "code,name,level,parent,valid_from,valid_to,successors\n"
        "75,Nam Bộ,province,,2024-01-01,,\n00001,X,commune,98,,,\n02,Hà Giang,province,,,2025-07-01,08\n",
    )
    assert _faults(told) == [
        (2, "code: 75 is Đồng Nai from 2025-07-01 to further notice already; end that one first"),
        (2, "code: 75 is Đồng Nai from ever to 2025-07-01 already; end that one first"),
        (3, "parent: there is no 98 in that time; import it before, or with it"),
        (4, "successors: there is no 08 on 2025-07-01; import it before, or with it"),
    ]
    assert database.execute("SELECT FROM admin_unit").rowcount == 4


def test_an_import_moves_a_device_and_decodes_what_waited(imports: Imports, database: Database) -> None:
    database.execute("INSERT INTO device_type VALUES ('t', 'V', 'M', 'c', 600, '[]', false)")
    imports("stations", "code,name,latitude,longitude\na,A,11,107\nb,B,11,107\n")
    database.execute("INSERT INTO device (dev_eui) VALUES ('a840410000000001')")
    row = "dev_eui,device_type,station\nA8-40-41-00-00-00-00-01,t,"
    assert _outcomes(imports("devices", f"{row}a\n")) == ["changed"]
    assert _outcomes(imports("devices", f"{row}a\n")) == ["unchanged"]
    assert database.execute("SELECT FROM decode_job").rowcount == 1
    imports("devices", f"{row}b\n")
    assert imports.export("placements").count("a840410000000001") == 2
    database.execute("UPDATE device SET status = 'retired'")
    (told,) = imports("devices", f"{row}b\n")["rows"]
    assert "a840410000000001 was retired and is active again" in told["warnings"][0]
    assert imports("devices", f"{row}b\n")["rows"][0]["warnings"] == []


def test_no_exported_text_becomes_a_formula(imports: Imports, database: Database) -> None:
    names = ("=1+1", "'=1+1", "-2", "'bình thường", "@x")
    for name in names:
        database.execute("INSERT INTO owner (code, name) VALUES (%s, %s)", (f"o{names.index(name)}", name))
    exported = imports.export("owners")
    cells = [row["name"] for row in csv.DictReader(io.StringIO(exported))]
    assert cells == ["'=1+1", "''=1+1", "'-2", "'bình thường", "'@x"]
    assert set(_outcomes(imports("owners", exported))) == {"unchanged"}


def test_nothing_is_told_kept_that_was_not(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "owners.csv"
    file.write_text("code,name\no,O\n", encoding="utf-8")
    with connect(database_url, application="test") as connection:
        gone = Mock(side_effect=psycopg.OperationalError("gone"))
        monkeypatch.setattr(connection, "commit", gone)
        with pytest.raises(psycopg.OperationalError):
            _import_over(connection, "owners", file, dry_run=False, as_json=True, kind=KINDS["owners"])
        assert capsys.readouterr().out == ""
        monkeypatch.undo()
        connection.rollback()
        _import_over(connection, "owners", file, dry_run=False, as_json=True, kind=KINDS["owners"])
    assert json.loads(capsys.readouterr().out)["kept"]


def test_provinces_from_the_start(database_url: str, imports: Imports, database: Database) -> None:
    seed(database_url)
    today = "FROM admin_unit u WHERE daterange(valid_from, valid_to) @> date '{}'"
    for day, number in (("2025-06-30", 63), ("2025-07-01", 34), ("2024-12-31", 63)):
        assert database.execute(f"SELECT {today.format(day)}").rowcount == number  # type: ignore[arg-type]
    rows = database.execute("SELECT code FROM admin_unit WHERE '75' = ANY(successors) ORDER BY 1").fetchall()
    assert [row["code"] for row in rows] == ["70", "75"]  # Đồng Nai took Bình Phước
    assert set(_outcomes(imports("units", imports.export("units")))) == {"unchanged"}
    database.execute("UPDATE admin_unit SET name_en = 'Dong Nai Province' WHERE code = '75'")
    seed(database_url)
    assert database.execute("SELECT FROM admin_unit WHERE name_en = 'Dong Nai Province'").rowcount == 2


_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
_NAME = _TEXT.map(lambda text: unicodedata.normalize("NFC", text).strip()).filter(bool)
_CELL = _TEXT.map(lambda text: unicodedata.normalize("NFC", text).strip())
_CODES = st.sampled_from(["a", "b", "c"])
_FLOAT = st.floats(-90, 90)
_STATION = st.fixed_dictionaries(
    {
        "code": _CODES,
        "name": _NAME,
        "river": _CELL,
        "admin_unit": _CELL,
        "latitude": _FLOAT,
        "longitude": _FLOAT,
        "level": st.none() | st.floats(-1e9, 1e9),
        "unit_id": st.sampled_from([None, "01", "75", "75@2025-06-30", "70@2020-01-01"]),
        "owner": st.sampled_from([None, "o"]),
    }
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(stations=st.lists(_STATION, min_size=1, max_size=3, unique_by=lambda one: one["code"]))
def test_exported_and_imported_nothing_changes(
    imports: Imports, database: Database, stations: list[dict[str, Any]]
) -> None:
    database.execute("DELETE FROM station; DELETE FROM owner; DELETE FROM admin_unit")
    database.execute(UNITS)
    database.execute("INSERT INTO owner (code, name) VALUES ('o', 'O')")
    for station in stations:
        level = station["level"]
        ladder = [] if level is None else [{"level": 1, "value": level, "label": station["name"]}]
        database.execute(
            "INSERT INTO station (code, name, river, admin_unit, latitude, longitude, thresholds, unit_id,"
            " owner_id) SELECT %(code)s, %(name)s, %(river)s, %(admin_unit)s, %(latitude)s, %(longitude)s,"
            " %(thresholds)s, unit_id_of(%(unit_id)s), (SELECT id FROM owner WHERE code = %(owner)s)",
            {**station, "thresholds": json.dumps({"water.level": ladder})},
        )
    exported = imports.export("stations")
    told = imports("stations", exported)
    assert (_faults(told), set(_outcomes(told))) == ([], {"unchanged"})
    database.execute("DELETE FROM station")
    assert imports("stations", exported)["kept"]
    assert imports.export("stations") == exported


def test_communes_of_the_package_where_it_is_installed(
    imports: Imports, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is not installed here"):
        installed_file()
    data = tmp_path / "site" / "vietnam_provinces" / "data" / "nested-divisions.json"
    data.parent.mkdir(parents=True)
    wards = [{"code": 4, "name": "Phường Ba Đình"}]
    data.write_text(json.dumps([{"code": 1, "name": "Thành phố Hà Nội", "wards": wards}]), "utf-8")
    info = tmp_path / "site" / "vietnam_provinces-2025.10.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: vietnam-provinces\nVersion: 2025.10.1\n")
    (info / "RECORD").write_text("vietnam_provinces/data/nested-divisions.json,,\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    seed(database_url)
    made = tmp_path / "communes.csv"
    assert write_communes(*installed_file(), made) == 1
    (row,) = imports("units", made.read_text(encoding="utf-8"))["rows"]
    assert (row["key"], row["outcome"], row["faults"]) == ("00004", "created", [])
    assert "00004,Phường Ba Đình,,commune,01,2025-07-01,,,vietnam-provinces 2025.10.1" in imports.export(
        "units"
    )


def test_a_stations_range_that_hides_a_flood_is_refused(imports: Imports) -> None:
    steps = '[{""level"": 1, ""label"": ""BD1"", ""value"": 14}]'
    station = 'code,name,latitude,longitude,thresholds,quality\nx,X,10,107,"{""water.level"": %s}","%s"\n'
    narrow = '{""metrics"": {""water.level"": {""gross_range"": {""fail"": [0, 9]}}}}'
    told = imports("stations", station % (steps, narrow))
    assert "leaves out the threshold of level 1 at 14" in json.dumps(told)
    quiet = '{""metrics"": {""water.level"": {""flat_line"": {""tolerance"": 0, ""fail"": 3600}}}}'
    told = imports("stations", station % (steps, quiet))
    assert "with `suspect` alone none is missed" in json.dumps(told)
    narrower = narrow.replace("[0, 9]", "[0, 20]")
    imports("stations", station % (steps, narrower))
    bare = (station % (steps.replace("14", "21"), "")).replace(",quality", "").replace(',""\n', "\n")
    told = imports("stations", bare)
    assert "leaves out the threshold of level 1 at 21" in json.dumps(told), "what is stored counts"
