"""Files of master data: what is taken, and that a fault says where it is and what to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantrac.imports.kinds import KINDS
from quantrac.imports.run import check_file
from telemetry.errors import UsageError
from tests.imported import read_rows

HEAD = "code,name,latitude,longitude"


def _levels(*values: float) -> list[dict[str, Any]]:
    return [{"level": level, "value": value} for level, value in enumerate(values, 1)]


def _stations(folder: Path, thresholds: object) -> Path:
    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [107.4, 11.2]},
        "properties": {"code": "cau", "name": "Cầu", "thresholds": thresholds},
    }
    file = folder / "stations.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), encoding="utf-8")
    return file


def _fault(file: Path) -> str:
    with pytest.raises(UsageError) as raised:
        read_rows(file, "stations")
    return str(raised.value)


def _csv(folder: Path, text: str) -> Path:
    file = folder / "stations.csv"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("levels", "falls"),
    [
        (_levels(104.5, 105.5, 106.5), False),
        (_levels(104.5, 105.5, 106.5)[::-1], False),
        (_levels(52, 50.5), True),
        (_levels(1), False),
        ([], False),
    ],
)
def test_ladders_that_rise_or_fall(tmp_path: Path, levels: list[Any], falls: bool) -> None:
    (row,) = check_file(_stations(tmp_path, {"water.level": levels}), KINDS["stations"])
    sentences = row.warnings
    assert (row.faults, len(sentences)) == ([], falls)
    if falls:
        assert "cau: thresholds.water.level fall (level 1 at 52, level 2 at 50.5)" in sentences[0]


@pytest.mark.parametrize(
    ("thresholds", "fault"),
    [
        (
            {"water.level": _levels(104.5, 106.5, 105.5)},
            "thresholds.water.level: with the level the values must rise, or fall, all the way; "
            "got level 1 at 104.5, level 2 at 106.5, level 3 at 105.5",
        ),
        ({"water.level": _levels(105, 105)}, "got level 1 at 105, level 2 at 105"),
        (
            {"water.level": [*_levels(1), {"level": 1, "value": 2}]},
            "thresholds.water.level: level 1 is there twice",
        ),
        (
            {"water.level": [{"level": 9, "value": 1}, 7]},
            "thresholds.water.level[0].level: a whole number from 1",
        ),
        ({"water.level": 5}, "thresholds.water.level: a list of {level, label, value} is needed, got 5"),
        ({"water.levl": []}, "thresholds.water.levl: unknown metric"),
    ],
)
def test_ladders_that_do_neither(tmp_path: Path, thresholds: object, fault: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_rows(_stations(tmp_path, thresholds), "stations")
    assert fault in str(raised.value)
    assert "stations.geojson, feature 1: " in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert _fault(tmp_path / "nosuch.csv").endswith("nosuch.csv: there is no such file")
    assert "is a folder" in _fault(tmp_path)
    (tmp_path / "old.csv").write_bytes(f"{HEAD}\ncau,C".encode() + b"\xff")
    assert "is not UTF-8 (byte 35), perhaps Windows-1258; save it as UTF-8" in _fault(tmp_path / "old.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators(tmp_path: Path, separator: str) -> None:
    text = f'\ufeff{HEAD}\r\n\r\ncau,"Cầu{separator} ""mới""",11.15,107.38\r\n'
    file = _csv(tmp_path, text.replace(",", separator))
    (station,) = read_rows(file, "stations")
    assert (station["name"], station["latitude"]) == (f'Cầu{separator} "mới"', 11.15)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{HEAD}\n\na,A,1,2\nb,B,1,2,3,4\n", "row 4: 6 cells, but the head has 4 columns"),
        (
            f"{HEAD}\na,A,1,2\n".replace(",", ";").replace("1;", "11,2;"),
            "row 2: latitude: '11,2' is no number from -90 to 90; write 11.15, with a point",
        ),
        ("code,name,height\na,A,1\n", "columns are code, name,"),
        ("code,name,code\na,A,1\n", "each once; got code, name, code"),
        ("", "got none"),
        (f'{HEAD}\na,"{"x" * 200_000}",1,2\n', "line 2: no CSV (field larger"),
    ],
)
def test_faults_of_a_csv(tmp_path: Path, text: str, fault: str) -> None:
    assert fault in _fault(_csv(tmp_path, text))


def test_empty_cells_beyond_the_head_are_no_fault(tmp_path: Path) -> None:
    assert len(read_rows(_csv(tmp_path, f"{HEAD}\na,A,1,2,,\n"), "stations")) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "no JSON (Expecting property name"),
        ("[]", "no GeoJSON FeatureCollection"),
        ('{"features": [3]}', "feature 1: a GeoJSON Feature is needed"),
        ('{"features": [{"geometry": null}]}', "feature 1: geometry: a Point is needed"),
        ('{"features": [{"geometry": {"type": "Point"}}]}', "geometry.coordinates: [longitude, latitude]"),
        ('{"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}}]}', "properties: missing"),
    ],
)
def test_faults_of_a_geojson(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "stations.json"
    file.write_text(text, encoding="utf-8")
    assert fault in _fault(file)


def test_variables_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "devices.csv"
    file.write_text(
        'dev_eui,device_type,variables\na840410000000001,x,"{""a"": 1, ""b"": NaN, ""c"": true}"\n', "utf-8"
    )
    with pytest.raises(UsageError) as raised:
        read_rows(file, "devices")
    assert [line.rpartition("row 2: ")[2] for line in str(raised.value).splitlines()] == [
        "variables.b: a number is needed, got nan",
        "variables.c: a number is needed, got True",
    ]
