"""A real Mosquitto under deploy/mosquitto: it lets in whom it should, and keeps what it acknowledged."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiomqtt
import pytest

from ingest.settings import IngestSettings
from quantrac.embedded.mosquitto import Mosquitto
from telemetry.settings import load
from tests.deploy.files import DEPLOY, read
from tests.ports import free_port
from tests.wait import PATIENCE, until

_UP = "application/1/device/0102030405060708/event/up"
_DOWN = "application/1/device/0102030405060708/command/down"


class Broker:
    """Mosquitto with our files, its folders and port replaced by the test's."""

    def __init__(self, home: Path) -> None:
        found = Mosquitto.find()
        assert found is not None, "the tests need Mosquitto: apt install mosquitto"
        self._program, self._home, self.port = found.program, home, free_port()
        etc, state = home / "etc", home / "state"
        etc.mkdir()
        state.mkdir()
        conf = read("mosquitto/mosquitto.conf")
        for here, there in [("/etc/mosquitto/", f"{etc}/"), ("/var/lib/mosquitto/", f"{state}/")]:
            assert here in conf
            conf = conf.replace(here, there)
        assert "\nlistener 1883\n" in conf
        conf = conf.replace("\nlistener 1883\n", f"\nlistener {self.port} 127.0.0.1\n")
        if os.geteuid() == 0:  # its own user may not enter the test's folder
            conf += "user root\n"
        (etc / "mosquitto.conf").write_text(conf)
        (etc / "acl").write_text(read("mosquitto/acl"))
        (etc / "acl").chmod(0o600)
        environ = {
            f"MQTT_{user.upper()}_PASSWORD": f"{user}-secret" for user in ("ingest", "network", "monitor")
        }
        subprocess.run(
            [DEPLOY / "mosquitto/set-passwords.sh", state / "passwords"],
            env=environ | {"PATH": f"{os.environ['PATH']}:{found.password_tool.parent}"},
            check=True,
        )
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._spawn()
        await until(self._answers)

    def _spawn(self) -> None:
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", self._home / "etc/mosquitto.conf"], stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def client(
        self, user: str | None, password: str | None = None, keep: str | None = None
    ) -> aiomqtt.Client:
        """`keep`: a client id whose session outlives the connection."""
        return aiomqtt.Client(
            "127.0.0.1",
            self.port,
            username=user,
            password=password or (f"{user}-secret" if user else None),
            identifier=keep,
            clean_session=keep is None,
            timeout=PATIENCE,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._home / "log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    server = Broker(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        server.stop()


async def _received(client: aiomqtt.Client, count: int) -> list[bytes]:
    found = []
    async with asyncio.timeout(PATIENCE):
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            found.append(message.payload)
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize(("user", "password"), [(None, None), ("ingest", "wrong"), ("stranger", "secret")])
async def test_strangers_stay_outside(broker: Broker, user: str | None, password: str | None) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with broker.client(user, password):
            pass


@pytest.mark.parametrize("share", ["", "$share/quantrac/"])
async def test_ingest_reads_what_network_servers_say(broker: Broker, share: str) -> None:
    filters = load(IngestSettings, environ={}).mqtt_topics
    async with broker.client("ingest") as ingest, broker.client("network") as network:
        for topic in filters:
            await ingest.subscribe(share + topic, qos=1)
        for topic in (_UP, "v3/app@tenant/devices/level-1/up"):
            await network.publish(topic, topic, qos=1)
            assert await _received(ingest, 1) == [topic.encode()]


@pytest.mark.parametrize(
    ("writer", "reader", "topic"),
    [
        ("ingest", "network", _DOWN),
        ("ingest", "network", "v3/app@tenant/devices/level-1/down/push"),
    ],
)
async def test_commands_go_the_other_way(broker: Broker, writer: str, reader: str, topic: str) -> None:
    async with broker.client(reader) as there, broker.client(writer) as here:
        await there.subscribe(topic, qos=1)
        await here.publish(topic, b"x", qos=1)
        assert await _received(there, 1) == [b"x"]


async def test_ingest_may_ask_the_version(broker: Broker) -> None:
    async with broker.client("ingest") as client:
        await client.subscribe("$SYS/broker/version")
        assert (await _received(client, 1))[0].startswith(b"mosquitto")


@pytest.mark.parametrize(
    ("writer", "reader", "topic"),
    [
        ("ingest", "ingest", _UP),  # an uplink that nobody measured
        ("monitor", "ingest", _UP),
        ("network", "network", _UP),
        ("network", "monitor", _UP),
        ("monitor", "network", _DOWN),
    ],
)
async def test_and_nothing_else(broker: Broker, writer: str, reader: str, topic: str) -> None:
    """What is forbidden vanishes; an allowed message sent behind it must be the first to arrive."""
    allowed = {"ingest": ("network", _UP), "network": ("ingest", _DOWN), "monitor": None}[reader]
    async with broker.client(reader) as there, broker.client(writer) as here:
        await there.subscribe(topic, qos=1)
        await here.publish(topic, b"forbidden", qos=1)
        if allowed is None:
            await there.subscribe("$SYS/broker/version")
            assert (await _received(there, 1))[0].startswith(b"mosquitto")
            return
        sender, way = allowed
        await there.subscribe(way, qos=1)
        async with broker.client(sender) as other:
            await other.publish(way, b"allowed", qos=1)
            assert await _received(there, 1) == [b"allowed"]


async def test_what_was_acknowledged_waits_over_a_restart(broker: Broker) -> None:
    """More than the 1,000 messages that Mosquitto keeps by default."""
    async with broker.client("ingest", keep="quantrac-ingest-1") as client:
        await client.subscribe("application/#", qos=1)
    payloads = [str(number).encode() for number in range(1500)]
    async with broker.client("network") as network:
        for payload in payloads:
            await network.publish(_UP, payload, qos=1)
    broker.stop()
    await broker.start()
    async with broker.client("ingest", keep="quantrac-ingest-1") as client:
        assert await _received(client, len(payloads)) == payloads
