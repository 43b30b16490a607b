"""Traffic: outages and the bursts after them, what is remembered, orders, and any number of devices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from decoders.datalog import compile_datalog
from decoders.normalise import normalise
from simulators.devices import ClockSpec
from simulators.downlinks import read
from simulators.frames import Arrival
from simulators.message import Message
from simulators.run import DEFAULT_START
from simulators.scenario import Scenario
from simulators.traffic import Timeline, Traffic
from simulators.truths import FaultSpec, OutageSpec
from telemetry.errors import UsageError

HOUR = 3600.0
TIMELINE = Timeline(DEFAULT_START, 1.0)
AIR = "Nhiệt độ, độ ẩm Biên Hòa"
PHU_HIEP = "0251545200000002"


def _outage(**content: object) -> OutageSpec:
    return OutageSpec.model_validate({"begins_h": 1.0, "duration": "1h", **content})


def _traffic(scenario: Scenario, **options: Any) -> Traffic:
    return Traffic(scenario, seed=1, start=DEFAULT_START, **options)


def _messages(traffic: Traffic, end: float) -> Iterator[tuple[str, dict[str, Any], Message]]:
    for event in traffic.events(end=end):
        for message in event.messages(TIMELINE.when):
            yield message.topic.rsplit("/", 1)[1], json.loads(message.payload), message


@pytest.fixture(scope="module")
def steady(flood: Scenario) -> Scenario:
    """Without luck on the air."""
    return replace(flood, network=flood.network.model_copy(update={"loss": 0.0, "duplicates": 0.0}))


def _during(arrivals: list[Arrival]) -> list[Arrival]:
    return [a for a in arrivals if HOUR <= a.sent < 2 * HOUR and not a.frame.joining]


def test_nothing_is_heard_while_all_gateways_are_deaf(steady: Scenario) -> None:
    arrivals = list(_traffic(replace(steady, outages=(_outage(),))).arrivals(end=3 * HOUR))
    assert not _during(arrivals)
    counters = [a.frame.f_cnt for a in arrivals if a.frame.device == 1 and not a.frame.joining]
    assert counters[-1] + 1 > len(counters) + 1


def test_what_gateways_keep_comes_in_a_burst_after_the_outage(steady: Scenario) -> None:
    arrivals = list(_traffic(replace(steady, outages=(_outage(backhaul=True),))).arrivals(end=3 * HOUR))
    late = _during(arrivals)
    assert len({(a.frame.device, a.frame.f_cnt) for a in late}) > 20
    assert all(2 * HOUR <= a.at < 2 * HOUR + 60.0 for a in late)
    for gateway in range(len(steady.gateways)):
        alone = [a.sent for a in late if [heard.gateway for heard in a.heard] == [gateway]]
        assert alone == sorted(alone)
    assert any(len(a.heard) > 1 for a in late), "what two gateways deliver at once is one"
    assert late[-1].at - late[0].at > 0.05 * (len(late) // len(steady.gateways)), "one after another"
    assert [a.at for a in arrivals] == sorted(a.at for a in arrivals)


def test_the_server_takes_a_frame_once_and_logs_what_comes_again(steady: Scenario) -> None:
    near = steady.gateways[1].id
    cut = replace(steady, outages=(_outage(backhaul=True, gateways=[near]),))
    ups: Counter[tuple[str, int]] = Counter()
    logs = 0
    for kind, body, message in _messages(_traffic(cut, fmt="chirpstack-v4"), 3 * HOUR):
        if kind == "up":
            ups[body["deviceInfo"]["devEui"], body["fCnt"]] += 1
            # The frame's own time is the gateway's, where one with GNSS had it; the server's is later.
            assert message.time >= max(
                timedelta(0) + DEFAULT_START, min(_time(info["nsTime"]) for info in body["rxInfo"])
            )
        logs += kind == "log"
    assert set(ups.values()) == {1}
    assert logs > 2, "copies that another gateway had delivered"


def _time(text: str) -> Any:
    return Message.of(json.dumps({"topic": "t", "payload": "{}", "time": f"{text[:26]}+00:00"})).time


def test_a_device_tells_later_what_was_never_acknowledged(steady: Scenario) -> None:
    spec = next(spec for spec in steady.devices if spec.name == AIR)
    spec = spec.model_copy(update={"confirmed": True, "datalog": 20, "interval": 600.0})
    alone = replace(steady, devices=(spec,), size=1, outages=(_outage(),))
    traffic = _traffic(alone)
    plan = traffic.fleet.plan(0)
    read_datalog = compile_datalog(plan.type)
    assert read_datalog is not None
    measured: set[float] = set()
    told: set[float] = set()
    for arrival in traffic.arrivals(end=4 * HOUR):
        frame = arrival.frame
        if frame.joining:
            continue
        if frame.rows:
            fields, port, payload = traffic.words.recalled(0, frame.rows, TIMELINE.when)
            assert plan.codec.decode(port, payload) == fields
            found = read_datalog(fields, TIMELINE.when(arrival.at), spec.variables)
            assert not found.problems
            told |= {round((one.time - DEFAULT_START).total_seconds() / 60.0) for one in found.readings}
            for at, values in frame.rows:
                (celsius,) = {
                    one.value
                    for one in found.readings
                    if one.metric == "air.temperature"
                    and abs((one.time - TIMELINE.when(at)).total_seconds()) <= 1.0
                }
                index = [sense.metric for sense in plan.senses].index("air.temperature")
                assert celsius == pytest.approx(values[index], abs=0.06)
        else:
            measured.add(round(frame.at / 60.0))
            assert normalise(frame.fields, plan.type, spec.variables).problems == []
    assert any(60 <= minute < 120 for minute in told), "of the outage"
    both = sorted(measured | told)
    assert max(b - a for a, b in pairwise(both)) <= 45, "at most while it looked for the network anew"


def test_what_comes_late_fetches_no_orders(steady: Scenario) -> None:
    traffic = _traffic(replace(steady, outages=(_outage(backhaul=True),)))
    command = {"devEui": PHU_HIEP, "confirmed": True, "fPort": 2, "data": "AQABLA=="}
    topic = f"application/1/device/{PHU_HIEP}/command/down"
    told: list[str] = []
    for event in traffic.events(end=3 * HOUR):
        if event.at > 1.9 * HOUR and not told:
            told.append("ordered")
            traffic.words.mailbox.put(read(topic, json.dumps(command).encode()))
        for message in event.messages(TIMELINE.when):
            kind = message.topic.rsplit("/", 1)[1]
            if PHU_HIEP in message.topic and event.at > 2 * HOUR:
                told.append("late" if kind == "up" and event.at < 2 * HOUR + 30.0 else kind)
    assert "late" in told
    assert told.index("ack") > told.index("up") > max(i for i, one in enumerate(told) if one == "late")


def test_orders_are_obeyed_after_the_next_uplink(steady: Scenario) -> None:
    traffic = _traffic(steady)
    topic = f"application/1/device/{PHU_HIEP}/command/down"
    command = {"devEui": PHU_HIEP, "confirmed": True, "fPort": 2, "data": "AQABLA=="}  # 01 00012c: 300 s
    sent: list[float] = []
    acks = 0
    for kind, _, message in _messages(traffic, 8 * HOUR):
        if PHU_HIEP not in message.topic:
            continue
        if kind == "up":
            sent.append((message.time - DEFAULT_START).total_seconds())
            if len(sent) == 4:
                traffic.words.mailbox.put(read(topic, json.dumps(command).encode()))
        acks += kind == "ack"
    gaps = [b - a for a, b in pairwise(sent)]
    assert gaps[:4] == pytest.approx([1200.0] * 4, rel=0.02)
    assert gaps[6:] == pytest.approx([300.0] * len(gaps[6:]), rel=0.02)
    assert acks == 1


def test_a_silent_device_sends_nothing_and_then_goes_on(steady: Scenario) -> None:
    device = steady.devices[1].dev_eui
    fault = FaultSpec.model_validate({"device": device, "kind": "silent", "begins_h": 1, "duration": "1h"})
    alone = replace(steady, devices=steady.devices[1:2], size=1, faults=(fault,))
    arrivals = list(_traffic(alone).arrivals(end=3 * HOUR))
    assert not _during(arrivals)
    counters = [a.frame.f_cnt for a in arrivals if not a.frame.joining]
    assert counters == list(range(len(counters))), "what is silent counts nothing"
    assert arrivals[-1].sent > 2 * HOUR


def test_a_slow_clock_sends_seldomer(steady: Scenario) -> None:
    def count(drift: float) -> int:
        spec = steady.devices[0].model_copy(update={"clock": ClockSpec(drift_ppm=drift)})
        alone = replace(steady, devices=(spec,), size=1)
        return sum(not a.frame.joining for a in _traffic(alone).arrivals(end=96 * HOUR))

    assert count(0.0) == pytest.approx(288, abs=3)
    assert count(-10_000.0) == pytest.approx(285, abs=3)
    assert count(-10_000.0) < count(0.0) < count(10_000.0)


def test_any_number_of_devices(flood: Scenario) -> None:
    many = flood.multiplied(250)
    registrations = many.registrations()
    known = {device.dev_eui: device for device in registrations.devices}
    assert len(known) == 250
    codes = {station.code for station in registrations.stations}
    assert {device.station for device in registrations.devices} == codes
    assert all(station.simulated for station in registrations.stations)
    original = flood.registrations()
    assert {d.dev_eui for d in original.devices} <= known.keys()
    assert {s.code for s in original.stations} <= codes
    joined = set()
    first: dict[str, float] = {}
    for kind, body, _ in _messages(_traffic(many, fmt="chirpstack-v4"), HOUR):
        if kind == "join":
            joined.add(body["deviceInfo"]["devEui"])
        elif kind == "up":
            first.setdefault(body["deviceInfo"]["devEui"], body["fCnt"])
    assert joined == known.keys()
    assert len(first) > 240
    assert flood.multiplied(3).registrations().devices == original.devices[:3]


@pytest.mark.parametrize("size", [0, -1])
def test_no_devices_are_no_scenario(flood: Scenario, size: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        flood.multiplied(size)
    other = flood.devices[0].model_copy(update={"dev_eui": f"{int(PHU_HIEP, 16) + (1 << 16):016x}"})
    with pytest.raises(UsageError, match="would overlap"):
        replace(flood, devices=(*flood.devices, other)).multiplied(30)


def test_a_frame_that_cannot_be_filled_is_refused_before_the_run(flood: Scenario) -> None:
    spec = flood.devices[1].model_copy(update={"device_type": "decentlab-dl-ctd10"})
    with pytest.raises(
        UsageError, match=r"la-nga-flood.yaml:\d+: devices\[1\].device_type: a decentlab-dl-ctd10"
    ):
        _traffic(replace(flood, devices=(flood.devices[0], spec), size=2))
