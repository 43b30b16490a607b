"""Running: byte-identical files, fixed or wall-clock stamps, history, and refusals."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulators.publish import Publisher
from simulators.run import DEFAULT_START, run, simulate
from simulators.scenario import Scenario, load_scenario
from simulators.traffic import Timeline, Traffic, history
from telemetry.errors import SettingsError, UsageError
from telemetry.mqtt import MqttAddress

START = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
PROGRAM = """
import asyncio, sys
from simulators.run import simulate
asyncio.run(simulate("la-nga-flood", seed=int(sys.argv[1]), out=sys.argv[2]))
"""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 11), ("b", 11), ("c", 12)):
        command = [sys.executable, "-c", PROGRAM, str(seed), str(tmp_path / name)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert _sha256(tmp_path / "a") == _sha256(tmp_path / "b")
    assert _sha256(tmp_path / "a") != _sha256(tmp_path / "c")


async def test_the_start_moves_the_stamps(flood: Scenario, tmp_path: Path) -> None:
    await run(flood, seed=1, out=tmp_path / "a")
    await run(flood, seed=1, out=tmp_path / "b", start=START)
    first, other = (json.loads(_lines(tmp_path / name)[0]) for name in "ab")
    gap = datetime.fromisoformat(other["time"]) - datetime.fromisoformat(first["time"])
    assert gap == START - DEFAULT_START
    assert first.keys() == {"topic", "payload", "qos", "time"}
    assert first["qos"] == 1


async def test_two_runs_share_no_identifier(flood: Scenario, tmp_path: Path) -> None:
    await run(flood, seed=1, out=tmp_path / "a", fmt="chirpstack-v4")
    await run(flood, seed=1, out=tmp_path / "b", fmt="chirpstack-v4", start=START)
    ids = [
        {json.loads(json.loads(line)["payload"])["deduplicationId"] for line in _lines(tmp_path / name)}
        for name in "ab"
    ]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(("speed", "seconds"), [("max", 96 * 3600), (1200.0, 288), (None, 576)])
async def test_speed_compresses_the_stamps(
    flood: Scenario, tmp_path: Path, speed: Any, seconds: float
) -> None:
    summary = await run(flood, seed=1, out=tmp_path / "a", speed=speed)
    lines = _lines(tmp_path / "a")
    assert summary.messages == len(lines)
    assert summary.world_seconds == 96 * 3600
    times = [datetime.fromisoformat(json.loads(line)["time"]) for line in lines]
    assert times == sorted(times)
    assert (times[-1] - DEFAULT_START).total_seconds() == pytest.approx(seconds, rel=0.01)


async def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[float] = []
    await simulate("calm-day", out=tmp_path / "a", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0, abs=0.01)


class _World:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += timedelta(seconds=seconds)


class _Enough(Exception):
    """Ends a run that would go on for ever."""


class _Catcher(Publisher):
    """Takes messages with the time they were handed over, and holds the run up once."""

    caught: list[tuple[datetime, datetime]]
    world: _World
    hold_up = timedelta(0)
    most = 10**9

    async def put(self, message: Any) -> None:
        self.caught.append((self.world.now(), message.time))
        if len(self.caught) == 200:
            self.world.time += self.hold_up
        if len(self.caught) >= self.most:
            raise _Enough

    async def run(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def catcher(monkeypatch: pytest.MonkeyPatch) -> type[_Catcher]:
    class Fresh(_Catcher):
        caught = []  # noqa: RUF012
        world = _World()

    monkeypatch.setattr("simulators.run.Publisher", Fresh)
    return Fresh


NOWHERE = MqttAddress("127.0.0.1", 1, False, None, None)


async def test_a_live_run_is_paced_by_the_clock(flood: Scenario, catcher: type[_Catcher]) -> None:
    world = catcher.world
    await run(flood, seed=1, out=NOWHERE, clock=world, sleep=world.sleep)
    assert world.now() - START == pytest.approx(timedelta(seconds=576), abs=timedelta(seconds=3))
    assert all(abs(handed - stamped) < timedelta(milliseconds=1) for handed, stamped in catcher.caught)


async def test_after_a_long_stop_nothing_is_made_up_for(flood: Scenario, catcher: type[_Catcher]) -> None:
    catcher.hold_up = timedelta(hours=1)
    world = catcher.world
    await run(flood, seed=1, out=NOWHERE, clock=world, sleep=world.sleep)
    assert world.now() - START == pytest.approx(timedelta(seconds=576 + 3600), abs=timedelta(seconds=6))
    late = [handed - stamped for handed, stamped in catcher.caught]
    assert sum(lag > timedelta(seconds=5) for lag in late) <= 3


async def test_a_demo_goes_on_after_its_story(catcher: type[_Catcher]) -> None:
    catcher.most = 3000
    world = catcher.world
    with pytest.raises(_Enough):
        await run(
            load_scenario("calm-day"), seed=1, out=NOWHERE, clock=world, sleep=world.sleep, keep_going=True
        )
    assert world.now() - START > 3 * timedelta(hours=24) / 60


async def test_flat_out_ends_now(flood: Scenario, catcher: type[_Catcher]) -> None:
    await run(flood, seed=1, speed="max", out=NOWHERE, clock=catcher.world)
    stamps = [stamped for _, stamped in catcher.caught]
    assert max(stamps) == pytest.approx(START, abs=timedelta(hours=1))
    assert START - min(stamps) == pytest.approx(timedelta(hours=96), abs=timedelta(hours=1))


def test_history_ends_where_the_run_begins(flood: Scenario) -> None:
    messages = list(history(flood, START, 24.0))
    times = [message.time for message in messages]
    assert times == sorted(times)
    assert timedelta(hours=24) >= START - times[0] > timedelta(hours=23, minutes=45)
    assert timedelta(0) < START - times[-1] < timedelta(minutes=11)
    frames = len({message.payload for message in messages if message.topic.endswith("/up")})
    assert frames == pytest.approx(len(flood.devices) * 24 * 6, rel=0.05)
    assert not any(message.topic.endswith("/join") for message in messages)


def test_history_is_calm_and_joins_the_run(flood: Scenario) -> None:
    phu_hiep = "0251545200000002"
    levels = [
        108.5 - json.loads(message.payload)["object"]["distance_mm"] / 1000
        for message in history(flood, START, 24.0)
        if phu_hiep in message.topic and message.topic.endswith("/up")
    ]
    assert max(levels) < 104.4
    assert max(levels) - min(levels) > 0.02
    world = Traffic(flood, seed=1, start=START).scene.world
    assert levels[-1] == pytest.approx(world.level("phu-hiep", np.array(0.0)), abs=0.03)


def test_timeline() -> None:
    timeline = Timeline(START, 600.0)
    assert timeline.when(3600.0) == START + timedelta(seconds=6)
    timeline.shift(timedelta(seconds=10))
    assert timeline.when(3600.0) == START + timedelta(seconds=16)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"speed": 0.0}, "speed: "),
        ({"speed": float("nan")}, "speed: "),
        ({"keep_going": True}, "keep_going: "),
        ({"start": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001
        ({"fmt": "loriot"}, "format: 'loriot' is none of chirpstack-v4, chirpstack-v4.0, "),
        ({"out": "mqtt"}, "out: mqtt needs a broker"),
        ({"out": "/nowhere/at/all"}, "cannot write /nowhere/at/all"),
        ({"out": "mqtt", "mqtt_url": "mqtt://127.0.0.1:1", "start": START}, "start: a live simulation"),
    ],
)
async def test_refusals(tmp_path: Path, options: dict[str, Any], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        await simulate("calm-day", **{"out": tmp_path / "a", **options})


async def test_a_broken_broker_address_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="QUANTRAC_MQTT_URL"):
        await simulate("calm-day", out="mqtt", mqtt_url="http://127.0.0.1")
