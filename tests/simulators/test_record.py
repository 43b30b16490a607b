"""The recorder on a real Mosquitto: nothing acknowledged is lost, whatever ends it."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from simulators.message import Message
from simulators.publish import Publisher
from simulators.record import Recorded, Recorder
from simulators.recording import Recording, Recordings
from simulators.replay import replay
from telemetry.errors import SettingsError, UsageError
from telemetry.mqtt import MqttAddress
from tests.program import Program
from tests.wait import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def address(port: int) -> MqttAddress:
    return MqttAddress("127.0.0.1", port, False, None, None)


class Running:
    """A recorder in a thread."""

    def __init__(self, port: int, recording: Recording, **options: Any) -> None:
        self.recorder = Recorder(
            address(port), recording, **{"topics": ["t/#"], "client_id": "recorder", **options}
        )
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.recorder.run()
        except BaseException as error:
            self.error = error

    async def stop(self) -> Recorded:
        self.recorder.stop()
        await self.ended()
        return self.recorder.recorded

    async def ended(self) -> None:
        await asyncio.to_thread(self._thread.join, 30)
        assert not self._thread.is_alive()


@asynccontextmanager
async def publishing(port: int) -> AsyncIterator[Publisher]:
    publisher = Publisher(address(port))
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def numbered(numbers: Iterable[int]) -> list[Message]:
    """JSON and bytes, in turns."""
    return [
        Message(f"t/{n % 7}", b'{"n":%d}' % n if n % 2 else b"\x00\xff%d" % n, NOW, qos=1) for n in numbers
    ]


async def send(publisher: Publisher, messages: Iterable[Message]) -> None:
    for message in messages:
        await publisher.put(message)
    await publisher.drained()


def found(*paths: Path) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in Recordings(paths)]


def so_far(*paths: Path) -> list[tuple[str, bytes]]:
    """The same while it is written; nothing where a file gets its name meanwhile."""
    try:
        return found(*paths)
    except UsageError:
        return []


def of(messages: Iterable[Message]) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in messages]


async def subscribed(port: int, publisher: Publisher, folder: Path) -> None:
    """Wait until the recorder gets what is published."""
    await send(publisher, [Message("t/ready", b"ready", NOW, retain=True)])
    await until(lambda: list(folder.rglob("*.part")))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_everything_is_kept_as_it_is(
    make_mosquitto: Callable[..., Any], tmp_path: Path, version: str
) -> None:
    port = make_mosquitto().port
    async with publishing(port) as publisher:
        running = Running(port, Recording(tmp_path / "a.ndjson.gz"), version=version)
        await subscribed(port, publisher, tmp_path)
        await send(publisher, [*numbered(range(1200)), Message("t/zero", b"q0", NOW, qos=0)])
        await until(lambda: running.recorder.recorded.messages == 1202)
        recorded = await running.stop()
    assert running.error is None
    assert (recorded.files, recorded.reconnects) == (1, 0)
    messages = list(Recordings([tmp_path / "a.ndjson.gz"], strict=True))
    assert of(m for m in messages[1:] if m.qos) == of(numbered(range(1200)))
    assert of(m for m in messages if not m.qos) == [("t/zero", b"q0")]
    assert [m.time for m in messages] == sorted(m.time for m in messages)


async def test_after_a_stop_nothing_waits_at_the_broker_unless_asked(
    make_mosquitto: Callable[..., Any], tmp_path: Path
) -> None:
    port = make_mosquitto().port
    async with publishing(port) as publisher:
        for keep, name in ((False, "a"), (True, "b"), (True, "c")):
            running = Running(port, Recording(tmp_path / name / "r.ndjson"), keep_session=keep)
            await subscribed(port, publisher, tmp_path / name)
            await running.stop()
            await send(publisher, numbered(range(10)))
    assert {found(tmp_path / "b" / "r.ndjson")[0]} == {("t/ready", b"ready")}
    assert not set(of(numbered(range(10)))) & set(found(tmp_path / "b"))
    assert set(of(numbered(range(10)))) <= set(found(tmp_path / "c"))


async def test_an_outage_of_the_broker_costs_nothing(
    make_mosquitto: Callable[..., Any], tmp_path: Path
) -> None:
    broker = make_mosquitto()
    async with publishing(broker.port) as publisher:
        running = Running(broker.port, Recording(tmp_path / "kept"))
        await subscribed(broker.port, publisher, tmp_path / "kept")
        sending = asyncio.create_task(send(publisher, numbered(range(1500))))
        await until(lambda: running.recorder.recorded.messages > 200)
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        await sending
        sent = set(of(numbered(range(1500))))
        await until(lambda: sent <= set(so_far(tmp_path / "kept")))
        recorded = await running.stop()
    assert recorded.reconnects >= 1


async def test_killed_at_any_moment_it_has_lost_nothing(
    make_mosquitto: Callable[..., Any], tmp_path: Path
) -> None:
    port = make_mosquitto().port
    env = {"QUANTRAC_MQTT_URL": f"mqtt://127.0.0.1:{port}"}
    folder = tmp_path / "kept"

    def start() -> Program:
        return Program("record", str(folder), "--topic", "t/#", env=env)

    program = start()
    async with publishing(port) as publisher:
        await subscribed(port, publisher, folder)
        sending = asyncio.create_task(send(publisher, numbered(range(2000))))
        await until(lambda: len(so_far(folder)) > 300)
        await asyncio.to_thread(program.kill)
        await sending
        parts = list(folder.glob("*.part"))
        assert parts, "killed while it wrote"
        program = start()
        sent = of(numbered(range(2000)))
        await until(lambda: program.status is None and set(sent) <= set(so_far(folder)), 30)
        assert await asyncio.to_thread(program.stop) == 0, program.output
    assert "messages" in program.output
    assert list(folder.glob("*.part")) == parts
    assert len(list(folder.glob("*.gz"))) == 1


async def test_a_full_disk_ends_it_and_the_broker_keeps_the_rest(
    make_mosquitto: Callable[..., Any], tmp_path: Path
) -> None:
    port = make_mosquitto().port
    env = {"QUANTRAC_MQTT_URL": f"mqtt://127.0.0.1:{port}"}
    program = Program(
        "record", str(tmp_path / "a.ndjson"), "--topic", "t/#", "--client-id", "recorder", env=env
    )
    async with publishing(port) as publisher:
        await subscribed(port, publisher, tmp_path)
        await send(publisher, numbered(range(200)))
        await until(lambda: len(so_far(tmp_path / "a.ndjson.part")) == 201)
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (30_000, 30_000))
        await send(publisher, numbered(range(200, 1500)))
    await until(lambda: program.status is not None)
    assert program.stop() == 1
    assert (
        "a.ndjson.part: cannot be written: File too large. What was acknowledged is there" in program.output
    )
    kept = set(found(tmp_path / "a.ndjson.part"))
    assert 201 <= len(kept) < 1500
    again = Running(port, Recording(tmp_path / "b.ndjson"))
    sent = set(of(numbered(range(1500))))
    await until(lambda: list(tmp_path.glob("b.*")) and sent <= kept | set(so_far(*tmp_path.glob("b.*"))))
    await again.stop()


async def test_a_broker_that_refuses_us_is_no_outage(
    make_mosquitto: Callable[..., Any], tmp_path: Path
) -> None:
    running = Running(make_mosquitto(anonymous=False).port, Recording(tmp_path / "a.ndjson"))
    await running.ended()
    assert isinstance(running.error, SettingsError)
    assert "refuses this user" in str(running.error)


async def test_a_replay_through_cut_connections_arrives_whole(
    make_mosquitto: Callable[..., Any], tmp_path: Path
) -> None:
    port = make_mosquitto().port
    source = Recording(tmp_path / "source.ndjson.gz")
    source.append(numbered(range(1500)))
    source.close()
    running = Running(port, Recording(tmp_path / "kept"))
    async with publishing(port) as publisher:
        await subscribed(port, publisher, tmp_path / "kept")
    summary = await replay(Recordings(source.files), Publisher(address(port)), speed="max", cut_every=400)
    sent = of(numbered(range(1500)))
    await until(lambda: set(sent) <= set(so_far(tmp_path / "kept")))
    await running.stop()
    assert (summary.sent, summary.cuts) == (1500, 3)
    assert len(found(tmp_path / "kept")) >= 1501
