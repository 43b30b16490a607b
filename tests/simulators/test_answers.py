"""Answer sheets: when levels were really passed, and what of it must be found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from simulators.answers import write_answers
from simulators.run import DEFAULT_START, simulate
from simulators.scenario import Scenario
from simulators.sheet import AnswerSheet, read_answers
from simulators.traffic import Timeline, Traffic
from telemetry.errors import UsageError

START = datetime(2026, 11, 1, tzinfo=UTC)


def _sheet(scenario: Scenario, path: Path, speed: float = 1.0) -> AnswerSheet:
    scene = Traffic(scenario, seed=1, start=START).scene
    return write_answers(path, scenario, scene, Timeline(START, speed), seed=1)


def test_the_flood_passes_these_levels_and_the_world_agrees(flood: Scenario, tmp_path: Path) -> None:
    sheet = _sheet(flood, tmp_path / "đáp-án.json")
    found = {
        (target.station, level.level): level.passages
        for target in sheet.targets
        for level in target.levels
        if level.passages
    }
    assert set(found) == {("phu-hiep", 1), ("phu-hiep", 2), ("ta-lai", 1), ("tri-an", 1)}
    world = Traffic(flood, seed=1, start=START).scene.world
    (second,) = found["phu-hiep", 2]
    assert second.rising_at is not None
    hour = (second.rising_at - START) / timedelta(hours=1)
    assert world.level("phu-hiep", np.array(hour)) == pytest.approx(105.5, abs=0.002)
    assert second.sure
    assert second.peak > 106
    assert read_answers(tmp_path / "đáp-án.json") == sheet


def test_a_compressed_run_has_a_compressed_sheet(flood: Scenario, tmp_path: Path) -> None:
    slow, quick = _sheet(flood, tmp_path / "a"), _sheet(flood, tmp_path / "b", 600)
    pairs = zip(slow.targets[1].levels[0].passages, quick.targets[1].levels[0].passages, strict=True)
    for one, other in pairs:
        assert one.rising_at is not None
        assert other.rising_at is not None
        assert other.rising_at - START == pytest.approx(
            (one.rising_at - START) / 600, abs=timedelta(seconds=1)
        )


async def test_a_run_writes_it_beside_its_output(tmp_path: Path) -> None:
    await simulate("calm-day", out=tmp_path / "out", speed="max", answers=tmp_path / "answers.json")
    sheet = read_answers(tmp_path / "answers.json")
    assert (sheet.scenario, sheet.seed, sheet.starts) == ("calm-day", 1, DEFAULT_START)
    assert {target.station for target in sheet.targets} == {"phu-hiep", "ta-lai", "tri-an", "bien-hoa"}
    assert not any(level.passages for target in sheet.targets for level in target.levels)


def test_a_sheet_that_is_none_is_told_with_its_fault(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"version": 2, "scenario": "a", "seed": "?"}')
    with pytest.raises(UsageError, match=r"x\.json: seed: "):
        read_answers(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"version": 1, "scenario": "a"}')
    with pytest.raises(UsageError, match=r"version 1, .* write the sheet again with `quantrac simulate"):
        read_answers(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(UsageError, match="no answer sheet"):
        read_answers(tmp_path / "x.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_answers(tmp_path / "none")
