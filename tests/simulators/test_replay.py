"""Replay: gaps, shifts, filters and faults, into a sink that keeps what it gets."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simulators.faults import Counts, Faults, mix
from simulators.message import Message
from simulators.recording import Recording, Recordings
from simulators.replay import Selection, Summary, replay
from simulators.run import run
from simulators.scenario import load_scenario
from simulators.shift import Shift
from telemetry.clock import ManualClock
from telemetry.errors import UsageError
from tests.samples import formats, samples

START = datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Kept:
    """A sink that keeps what it gets, and when."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.got: list[tuple[datetime, Message]] = []
        self.cuts: list[int] = []

    @property
    def messages(self) -> list[Message]:
        return [message for _, message in self.got]

    async def put(self, message: Message) -> None:
        self.got.append((self._clock.now(), message))

    async def drained(self) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()

    def cut(self) -> None:
        self.cuts.append(len(self.got))


async def play(path: Path, **options: Any) -> tuple[Kept, Summary]:
    clock = ManualClock(NOW)

    async def sleep(seconds: float) -> None:
        clock.advance(timedelta(seconds=seconds))

    sink = Kept(clock)
    return sink, await replay(Recordings([path]), sink, clock=clock, sleep=sleep, **options)


def written(path: Path, messages: list[Message]) -> Path:
    recording = Recording(path)
    recording.append(messages)
    recording.close()
    return path


def body(seconds: float) -> bytes:
    time = (START + timedelta(seconds=seconds)).isoformat()
    return json.dumps({"time": time, "n": seconds}).encode()


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Messages at 0, 1, 10 and 60 s."""
    return written(
        tmp_path / "four.ndjson",
        [Message(f"t/{n}", body(n), START + timedelta(seconds=n)) for n in (0, 1, 10, 60)],
    )


@pytest.mark.parametrize("speed", [1.0, 20.0])
async def test_gaps_are_those_of_the_recording(four: Path, speed: float) -> None:
    sink, summary = await play(four, speed=speed)
    first = sink.got[0][0]
    assert [(at - first).total_seconds() * speed for at, _ in sink.got] == pytest.approx([0, 1, 10, 60])
    assert sink.messages == list(Recordings([four]))
    assert (summary.read, summary.sent, summary.left_out) == (4, 4, 0)


async def test_flat_out_waits_for_nothing(four: Path) -> None:
    sink, _ = await play(four, speed="max")
    assert {at for at, _ in sink.got} == {NOW}


def times(message: Message) -> tuple[datetime, datetime]:
    return message.time, datetime.fromisoformat(json.loads(message.payload)["time"])


@pytest.mark.parametrize("speed", [1.0, 20.0])
async def test_shifted_to_now_each_message_is_of_the_moment_it_is_sent(four: Path, speed: float) -> None:
    sink, _ = await play(four, speed=speed, shift_to="now", loop=2)
    assert len(sink.got) == 8
    for sent, message in sink.got:
        assert times(message)[0] == times(message)[1]
        assert abs(times(message)[0] - sent) < timedelta(seconds=1)
    told = [times(message)[0] for message in sink.messages]
    assert told == sorted(set(told))


async def test_shifted_flat_out_the_last_is_of_now(four: Path) -> None:
    sink, _ = await play(four, speed="max", shift_to="now", loop=3)
    told = [times(message)[0] for message in sink.messages]
    assert timedelta(0) <= NOW - told[-1] < timedelta(seconds=2)
    assert told == sorted(set(told))
    assert [b - a for a, b in pairwise(told[:4])] == [timedelta(seconds=s) for s in (1, 9, 50)]


async def test_shifted_to_a_time(four: Path) -> None:
    sink, _ = await play(four, speed="max", shift_to=datetime(2030, 1, 1, tzinfo=UTC))
    assert times(sink.messages[0])[0] == datetime(2030, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)


async def test_what_cannot_be_shifted_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ndjson", [Message("a", b"{}", START), Message("b", b"\x0a\x01x", START)])
    with pytest.raises(UsageError, match=r"a\.ndjson:2: b: its payload is no JSON"):
        await play(path, shift_to="now")
    sink, _ = await play(path, shift_to="now", selection=Selection(topics=["a"]))
    assert len(sink.got) == 1
    assert len((await play(path))[0].got) == 2


_STAMP = re.compile(rb"20\d\d-\d\d-\d\dT")
BY = timedelta(days=100)


@pytest.mark.parametrize("format_", [one for one in formats() if one != "chirpstack_v4_protobuf"])
def test_every_time_of_a_server_moves_and_nothing_else(format_: str) -> None:
    from ingest.pipeline import parse
    from telemetry.model import RawMessage, Uplink

    for sample in samples(format_):
        message = Message(sample.topic, sample.payload, START)
        shift = Shift(START, START + BY)
        moved = shift.payload(message)
        assert len(moved.payload) == len(message.payload)
        assert Shift(START + BY, START).payload(moved) == message
        assert not set(_STAMP.findall(message.payload)) & set(_STAMP.findall(moved.payload))
        then, now = (parse(RawMessage(m.topic, m.payload, START), 10**6) for m in (message, moved))
        assert type(then) is type(now)
        if isinstance(then, Uplink) and isinstance(now, Uplink):
            for name in ("time", "ns_time"):
                was, became = getattr(then, name), getattr(now, name)
                assert (was is None) == (became is None)
                assert was is None or became - was == BY
            assert [g.time and g.time + BY for g in then.gateways] == [g.time for g in now.gateways]


def test_a_compressed_world_moves_each_time_by_its_own_distance() -> None:
    payload = b'{"time":"2026-01-01T00:01:00.250Z","ts":1767225660250,"timeSinceGpsEpoch":"1451260878.250s"}'
    moved = Shift(START, START, 60.0).payload(Message("t", payload, START))
    assert json.loads(moved.payload) == {
        "time": "2026-01-01T00:00:01.250000Z",
        "ts": 1767225601250,
        "timeSinceGpsEpoch": "1451260819.250000s",
    }


def test_what_only_looks_like_a_time_stays() -> None:
    payload = b'{"a":"0001-01-01T00:00:00Z","b":"2026-13-01T00:00:00Z","c":"at 2026-01-01T00:00:00Z"'
    payload += b',"ts":5,"n":1767225660}'
    assert Shift(START, START + BY).payload(Message("t", payload, START)).payload == payload


async def test_filters(tmp_path: Path) -> None:
    found = [Message(s.topic, s.payload, START + timedelta(minutes=n)) for n, s in enumerate(
        samples("chirpstack_v3", "chirpstack_v4", "chirpstack_v4_protobuf", "tts_v3")
    )]  # fmt: skip
    path = written(tmp_path / "all.ndjson", found)

    async def chosen(**options: Any) -> list[Message]:
        sink, summary = await play(path, speed="max", selection=Selection(**options))
        assert summary.left_out == len(found) - len(sink.got)
        return sink.messages

    chirpstack = [m for m in found if m.topic.startswith("application/")]
    assert await chosen(devices=["24E124136B502217"]) == chirpstack
    things = [m for m in found if m.topic.startswith("v3/")]
    assert await chosen(devices=["70:b3:d5:2d:d6:00:03:5a"]) == things
    assert await chosen(topics=["application/+/device/+/event/up", "v3/#"]) == [
        m for m in found if m.topic.endswith("event/up") or m.topic.startswith("v3/")
    ]
    since, until = START + timedelta(minutes=3), START + timedelta(minutes=7)
    assert await chosen(since=since, until=until) == found[3:7]
    with pytest.raises(UsageError, match="nothing to replay"):
        await chosen(devices=["0000000000000001"])


def test_wrong_filters_are_refused() -> None:
    for options, match in (
        ({"devices": ["12"]}, "no DevEUI"),
        ({"topics": ["a/#/b"]}, "no topic filter"),
        ({"since": NOW, "until": START}, "lies before"),
    ):
        with pytest.raises(UsageError, match=match):
            Selection(**options)
    with pytest.raises(UsageError, match="--drop: a share"):
        Faults(drop=1.5)


def thousand() -> list[Message]:
    return [Message("t", b'{"n":%d}' % n, START + timedelta(seconds=n)) for n in range(1000)]


ALL: dict[str, Any] = {"drop": 0.1, "duplicate": 0.1, "reorder": 0.1, "delay": 0.1, "corrupt": 0.1}


def test_the_same_seed_gives_the_same_faults() -> None:
    counts = Counts(), Counts()
    first, second = (list(mix(thousand(), Faults(**ALL, seed=7), count)) for count in counts)
    assert first == second
    assert counts[0] == counts[1]
    assert first != list(mix(thousand(), Faults(**ALL, seed=8), Counts()))
    assert first != list(mix(thousand(), Faults(**ALL, seed=7), Counts(), turn=1))
    assert all(50 < count < 170 for count in (counts[0].dropped, counts[0].delayed, counts[0].reordered))


@pytest.mark.parametrize("fault", ALL)
def test_each_fault_does_what_it_says(fault: str) -> None:
    sent, counts = thousand(), Counts()
    given: dict[str, Any] = {fault: 0.2}
    got = list(mix(sent, replace(Faults(), **given), counts))
    struck = {"drop": "dropped", "duplicate": "duplicated", "reorder": "reordered", "delay": "delayed",
              "corrupt": "corrupted"}[fault]  # fmt: skip
    number = getattr(counts, struck)
    assert 150 < number < 250
    assert sum(getattr(counts, name) for name in counts.__slots__) == number
    assert [m.time for m in got] == sorted(m.time for m in got)
    payloads = Counter(m.payload for m in got)
    if fault == "drop":
        assert got == [m for m in sent if m in got]
        assert len(got) == 1000 - number
    elif fault == "duplicate":
        assert Counter(payloads.values()) == {1: 1000 - number, 2: number}
    elif fault == "corrupt":
        assert len(got) == 1000
        assert sum(a != b for a, b in zip(sent, got, strict=True)) == number
    else:
        assert set(payloads) == {m.payload for m in sent}
        late = [m.time - sent[json.loads(m.payload)["n"]].time for m in got]
        longest = timedelta(seconds=60 if fault == "delay" else 10)
        assert sum(one > timedelta(0) for one in late) >= number * 0.9
        assert max(late) <= longest


def test_a_share_leaves_the_other_faults_where_they_were() -> None:
    alone = list(mix(thousand(), Faults(drop=0.1), Counts()))
    beside = list(mix(thousand(), Faults(drop=0.1, duplicate=0.3), Counts()))
    assert {m.payload for m in alone} == {m.payload for m in beside}


async def test_connections_are_cut_and_turns_differ(four: Path) -> None:
    sink, summary = await play(four, speed="max", loop=3, cut_every=5)
    assert (sink.cuts, summary.cuts, summary.sent) == ([5, 10], 2, 12)


async def test_a_simulation_can_be_shifted(tmp_path: Path) -> None:
    path = tmp_path / "calm.ndjson"
    await run(load_scenario("calm-day"), seed=3, out=path)
    sink, _ = await play(path, speed="max", shift_to="now")
    text = b"".join(message.payload for message in sink.messages)
    assert not re.search(rb"2026-01-0[123]T", text)
