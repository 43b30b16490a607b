"""Stations: levels and coordinates with their evidence, and a file's faults by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.stations import BUILTIN_FILE, load_stations
from telemetry.errors import UsageError

LEVELS = {
    "ta-pao": [(2, "BĐ2", 120.0)],
    "phu-hiep": [(1, "BĐ1", 104.5), (2, "BĐ2", 105.5), (3, "BĐ3", 106.5)],
    "ta-lai": [(1, "BĐ1", 112.0), (2, "BĐ2", 112.5), (3, "BĐ3", 113.0)],
    "tri-an": [(1, "BĐ1", 61.4)],
    "bien-hoa": [(1, "BĐ1", 1.8), (2, "BĐ2", 2.0), (3, "BĐ3", 2.2)],
}


@pytest.mark.parametrize("code", LEVELS)
def test_alarm_levels(code: str) -> None:
    levels = load_stations()[code].thresholds["water.level"]
    assert [(level["level"], level["label"], level["value"]) for level in levels] == LEVELS[code]


def test_everything_says_where_it_comes_from() -> None:
    for station in load_stations().values():
        assert station.source
        assert station.certainty
        for levels in station.thresholds.values():
            assert all(set(level) == {"level", "label", "value", "certainty", "source"} for level in levels)


def test_levels_that_no_document_gives_are_of_low_certainty() -> None:
    unseen = [
        level["certainty"]
        for station in load_stations().values()
        for levels in station.thresholds.values()
        for level in levels
        if "none seen" in level["source"] or "inferred" in level["source"]
    ]
    assert unseen == ["low"] * 3


def test_simulation_marks_a_copy() -> None:
    station = load_stations()["phu-hiep"]
    assert station.as_simulated().simulated
    assert not station.simulated


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("value: 105.5", "value: 104.0", ": stations[1].levels.water.level: a higher level must have"),
        ("code: ta-lai", "code: ta-pao", ": stations[2].code: 'ta-pao' is listed twice"),
        (
            "latitude: 11.37",
            "latitude: 111.37",
            "[2].position.latitude: must be 90 or less, not 111",
        ),
        (
            "certainty: medium-high",
            "certainty: sure",
            "levels.water.level[0].certainty: 'sure' is none of",
        ),
        ("kind: reservoir", "sort: reservoir", "stations[3].kind: is missing"),
        ("water.level:", "water.lewel:", "stations[0].levels.water.lewel: is no metric of the catalogue"),
    ],
)
def test_faults_have_a_line_and_a_cause(tmp_path: Path, old: str, new: str, cause: str) -> None:
    text = BUILTIN_FILE.read_text(encoding="utf-8")
    path = tmp_path / "stations.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_stations(path)
    first = str(refused.value).splitlines()[0]
    assert cause in first
    line = int(first.removeprefix(f"{path}:").split(":")[0])
    changed = text[: text.index(old)].count("\n") + 1
    assert abs(line - changed) <= 12
