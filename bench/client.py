"""What the client library alone can take: gmqtt receives and acknowledges by batches, and that is all.

Connected as `quantrac ingest` is (MQTT 5, acks by our hand, the same receive maximum, the same event loop);
the acks of a batch go out together, when it is full or 5 ms old.
Run as `python -m bench.client URL CLIENT_ID COUNTER`.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop
from gmqtt import Client
from gmqtt.mqtt.constants import MQTTv50

from ingest.settings import IngestSettings
from telemetry.mqtt import parse_mqtt_url

_FLUSH_SECONDS = 0.005


class Receiver:
    """Acknowledges by batches and counts what it acknowledged in a file that others may look into."""

    def __init__(self, counter: mmap.mmap, batch_size: int) -> None:
        self._counter = counter
        self._batch_size = batch_size
        self._loop = asyncio.get_running_loop()
        self._batch: asyncio.Future[None] = self._loop.create_future()
        self._size = self._acked = 0

    async def on_message(
        self, _client: Client, _topic: str, _payload: bytes, _qos: int, _properties: dict[str, Any]
    ) -> int:
        batch = self._batch
        self._size += 1
        if self._size == 1:
            self._loop.call_later(_FLUSH_SECONDS, self._flush, batch)
        elif self._size == self._batch_size:
            self._flush(batch)
        await batch
        return 0

    def _flush(self, batch: asyncio.Future[None]) -> None:
        if batch is not self._batch:
            return
        batch.set_result(None)
        self._acked += self._size
        self._batch, self._size = self._loop.create_future(), 0
        self._counter[:8] = self._acked.to_bytes(8, "little")


async def receive(url: str, client_id: str, counter: mmap.mmap) -> None:
    """Until SIGTERM."""
    settings, address = IngestSettings(), parse_mqtt_url(url)
    client = Client(
        client_id,
        clean_session=False,
        optimistic_acknowledgement=False,
        session_expiry_interval=settings.mqtt_session_expiry,
        receive_maximum=settings.mqtt_receive_maximum,
    )
    client.set_auth_credentials(address.username, address.password)
    client.on_message = Receiver(counter, settings.batch_size).on_message
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await client.connect(address.host, address.port, version=MQTTv50)
    for topic in settings.mqtt_topics:
        client.subscribe(topic, qos=1)
    gc.freeze()
    await stop.wait()
    await client.disconnect()


def open_counter(file: Path) -> mmap.mmap:
    """Eight bytes that two processes share, as a number in little endian."""
    with file.open("r+b") as handle:
        return mmap.mmap(handle.fileno(), 8)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(receive(sys.argv[1], sys.argv[2], open_counter(Path(sys.argv[3]))))
