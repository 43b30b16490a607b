"""A score as it is printed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from quantrac.score_report import show
from simulators.score import Finding, Score, Tally
from simulators.sheet import AnswerSheet, Hazard, Target
from simulators.yamlfile import Text

T = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
TARGET = Target(dev_eui="02", station="s", point="s", metric="water.level", levels=())


def sheet(*targets: Target) -> AnswerSheet:
    return AnswerSheet(scenario="x", seed=1, starts=T, ends=T, tolerance_s=0, targets=targets)


def hazard(kind: str, found_by: Literal["threshold"] | None, **more: Any) -> Hazard:
    return Hazard(kind=kind, name=Text(vi="Lũ", en="Flood"), ends=None, found_by=found_by, **more)


SCORE = Score(
    [Tally("river", 1, detected=1, fooled_at=[T], delays=[1500.0], told=[1600.0])],
    [
        Finding(hazard("flood", None, station="phu-hiep", begins=T), ("river",), 60.0, 90.0),
        Finding(hazard("haze", "threshold", station="bien-hoa", begins=None)),
        Finding(hazard("gateway-outage", None, gateways=("a", "b"), begins=T + timedelta(hours=1))),
    ],
)


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    show(sheet(TARGET), SCORE)
    assert capsys.readouterr().out.splitlines() == [
        "rule   level  detected  missed  false  fooled  lingering  delay  worst   told  worst",
        "river      1         1       0      0       1          0  1,500  1,500  1,600  1,600",
        "",
        "hazard          where       begins             found                       delay  told",
        "flood           phu-hiep    2026-11-01 05:30Z  river                          60    90",
        "haze            bien-hoa    -                  no; a threshold rule could      -     -",
        "gateway-outage  2 gateways  2026-11-01 06:30Z  no rule yet finds it            -     -",
    ]


def test_json_has_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    show(sheet(TARGET), SCORE, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["scores"][0]["fooled_at"] == [T.isoformat()]
    assert [(h["kind"], h["found"], h["rules"], h["delay_s"]) for h in told["hazards"]] == [
        ("flood", True, ["river"], 60.0), ("haze", False, [], None), ("gateway-outage", False, [], None),
    ]  # fmt: skip


def test_why_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show(sheet(TARGET), Score([], []))
    assert "quantrac rules apply" in capsys.readouterr().out
    show(sheet(), Score([], []))
    assert capsys.readouterr().out == "no sensor's station has levels for what it measures\n"
