"""Publishing to a real Mosquitto: everything arrives, live stamps are now, outages are survived."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from simulators.run import run
from simulators.scenario import load_scenario
from telemetry.errors import SettingsError
from telemetry.mqtt import MqttAddress

DEADLINE_S = 30.0


class Listener:
    """Keeps what arrives, with the time it came."""

    def __init__(self) -> None:
        self.got: list[tuple[datetime, aiomqtt.Message]] = []
        self.ready = asyncio.Event()
        self._more = asyncio.Condition()

    async def listen(self, port: int) -> None:
        """Receive on a session that outlives connections, until cancelled."""
        while True:
            try:
                async with aiomqtt.Client(
                    "127.0.0.1", port, identifier="listener", clean_session=False
                ) as client:
                    await client.subscribe("#", qos=1)
                    self.ready.set()
                    async for message in client.messages:
                        async with self._more:
                            self.got.append((datetime.now(UTC), message))
                            self._more.notify_all()
            except aiomqtt.MqttError:
                await asyncio.sleep(0.1)

    async def until(self, enough: Callable[[list[tuple[datetime, aiomqtt.Message]]], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S), self._more:
            await self._more.wait_for(lambda: enough(self.got))


@asynccontextmanager
async def _listener(port: int) -> AsyncIterator[Listener]:
    listener = Listener()
    task = asyncio.create_task(listener.listen(port))
    try:
        await asyncio.wait_for(listener.ready.wait(), DEADLINE_S)
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _address(port: int) -> MqttAddress:
    return MqttAddress("127.0.0.1", port, False, None, None)


async def test_flat_out_everything_arrives_in_order(make_mosquitto: Callable[..., Any]) -> None:
    broker = make_mosquitto()
    async with _listener(broker.port) as listener:
        summary = await run(load_scenario("calm-day"), seed=3, speed="max", out=_address(broker.port))
        await listener.until(lambda got: len(got) >= summary.messages)
    assert len(listener.got) == summary.messages > 700
    assert all(message.qos == 1 and not message.retain for _, message in listener.got)
    counters: dict[str, list[int]] = {}
    for _, message in listener.got:
        body = json.loads(message.payload)
        if "fCnt" in body:
            counters.setdefault(str(message.topic), []).append(body["fCnt"])
    assert counters
    assert all(numbers == sorted(numbers) for numbers in counters.values())


async def test_live_stamps_are_wall_clock(make_mosquitto: Callable[..., Any]) -> None:
    broker = make_mosquitto()
    async with _listener(broker.port) as listener:
        summary = await run(load_scenario("calm-day"), seed=3, speed=43_200.0, out=_address(broker.port))
        await listener.until(lambda got: len(got) >= summary.messages)
    lags = []
    for came, message in listener.got:
        body = json.loads(message.payload)
        lags.append(came - datetime.fromisoformat(body.get("time") or body["received_at"]))
    assert min(lags) > timedelta(0)
    assert sorted(lags)[len(lags) // 2] < timedelta(
        seconds=10
    )  # the scenario's own clock is hours ahead by then


async def test_an_outage_of_the_broker_costs_nothing(
    make_mosquitto: Callable[..., Any], tmp_path: Path
) -> None:
    calm = load_scenario("calm-day")
    await run(calm, seed=3, out=tmp_path / "all")
    lines = (tmp_path / "all").read_text(encoding="utf-8").splitlines()
    sent = [(json.loads(line)["topic"], json.loads(line)["payload"]) for line in lines]
    broker = make_mosquitto()
    async with _listener(broker.port) as listener:
        running = asyncio.create_task(run(calm, seed=3, speed=17_280.0, out=_address(broker.port)))
        await listener.until(lambda got: len(got) >= 50)
        assert len(listener.got) < len(sent) / 2
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(DEADLINE_S):
            await running
        # Some come twice after the outage, so their number does not tell when all are there.
        expected = _frames(sent)
        await listener.until(lambda got: len(got) >= len(expected) and _frames(_texts(got)) >= expected)
    assert _frames(_texts(listener.got)) == expected


def _texts(got: Iterable[tuple[Any, aiomqtt.Message]]) -> Iterator[tuple[str, str]]:
    return ((str(message.topic), message.payload.decode()) for _, message in got)


def _frames(messages: Iterable[tuple[str, str]]) -> set[tuple[str, int]]:
    """Topic and frame counter of every uplink."""
    found = set()
    for topic, payload in messages:
        body = json.loads(payload)
        if topic.endswith("/up"):
            found.add((topic, body["fCnt"] if "fCnt" in body else body["uplink_message"].get("f_cnt", 0)))
    return found


async def test_a_command_on_the_broker_is_obeyed(make_mosquitto: Callable[..., Any]) -> None:
    """What is none is refused, and the rest goes on."""
    broker = make_mosquitto()
    eui = "0251545200000002"
    topic = f"application/1/device/{eui}/command/down"
    async with _listener(broker.port) as listener:
        running = asyncio.create_task(
            run(load_scenario("calm-day"), seed=3, speed=17_280.0, out=_address(broker.port))
        )
        await listener.until(lambda got: len(got) >= 50)
        async with aiomqtt.Client("127.0.0.1", broker.port) as network:
            await network.publish(topic, b"nonsense", qos=1)
            command = {"devEui": eui, "fPort": 2, "data": "AQAAPA=="}  # 01 00003c: every 60 seconds
            await network.publish(topic, json.dumps(command), qos=1)
        async with asyncio.timeout(DEADLINE_S):
            await running
    sent = [m for _, m in listener.got if eui in str(m.topic) and str(m.topic).endswith("/up")]
    assert len(sent) > 300, "instead of 144 in a day of ten minutes each"


async def test_a_broker_that_refuses_us_is_no_outage(make_mosquitto: Callable[..., Any]) -> None:
    broker = make_mosquitto(anonymous=False)
    address = MqttAddress("127.0.0.1", broker.port, False, "nobody", "wrong")
    with pytest.raises(SettingsError, match="refuses this user"):
        async with asyncio.timeout(DEADLINE_S):
            await run(load_scenario("calm-day"), seed=3, out=address)
