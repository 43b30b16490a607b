"""A Mosquitto of the test's own, and what it holds for a client."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import TracebackType

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from quantrac.embedded import BrokerInfo, EmbeddedBroker
from quantrac.embedded.process import ServerProcess, wait_until
from telemetry.mqtt import parse_mqtt_url
from tests.wait import PATIENCE, until

_SESSION_SECONDS = 7 * 86400


class Broker:
    """A broker in `home`; its port and passwords stay the same from start to start."""

    def __init__(self, home: Path) -> None:
        self._server = EmbeddedBroker(home, kind="mosquitto")
        self._saved = home / "broker" / "mosquitto" / "store" / "mosquitto.db"
        self.info: BrokerInfo

    def start(self) -> None:
        self.info = self._server.start()

    def stop(self) -> None:
        """In order: it saves what it holds."""
        self._server.stop()

    def kill(self) -> None:
        """kill -9, once it saved what it holds now: it does so every second."""
        now = time.time()
        assert wait_until(lambda: self._saved.exists() and self._saved.stat().st_mtime > now, PATIENCE)
        process = ServerProcess.of(self._server.pid or -1)
        assert process is not None, "the broker does not run"
        os.kill(process.pid, signal.SIGKILL)
        assert wait_until(lambda: not process.alive(), PATIENCE)

    def forget(self) -> None:
        """Lose sessions and queues, as a broker without persistence does when it ends."""
        self._saved.unlink()

    def through(self, port: int) -> str:
        """The address for ingest behind a proxy on that port."""
        return self.info.urls["ingest"].replace(f":{self.info.port}", f":{port}")


class Session:
    """A client that takes over the session of `client_id` and acknowledges nothing it receives (MQTT 5)."""

    def __init__(self, url: str, client_id: str) -> None:
        self._address = parse_mqtt_url(url)
        self.received: list[bytes] = []
        self.present: bool | None = None
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(self._address.username, self._address.password)
        self._client.on_connect = self._on_connect
        self._client.on_message = lambda _c, _d, message: self.received.append(bytes(message.payload))

    async def __aenter__(self) -> Session:
        # Both, else the broker would forget the session when we leave or hold back what exceeds 20.
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_SECONDS
        properties.ReceiveMaximum = 65535
        self._client.connect(self._address.host, self._address.port, clean_start=False, properties=properties)
        self._client.loop_start()
        await until(lambda: self.present is not None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, _client: object, _data: object, flags: mqtt.ConnectFlags, reason: object, _properties: object
    ) -> None:
        assert reason == "Success", reason
        self.present = flags.session_present
