"""What gmqtt does not offer in public: acks of many messages at once, and not reading.

The private names are all here, and pyproject.toml holds gmqtt below its next minor version. In public every
message costs a task, a future and a write of its own (docs/decisions/0001-ingest-client.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
from gmqtt import Client

_PUBACK = 0x4002  # and no reason code, which means success in MQTT 3.1.1 and 5
Receive = Callable[[int, "str | bytes", bytes], None]


class GmqttInternals:
    """One client, before it connects; `receive(packet id, topic, payload)` gets what comes at QoS 1."""

    def __init__(self, client: Client, receive: Receive) -> None:
        def handle(mid: int, payload: bytes, topic: str | bytes, _properties: object) -> None:
            receive(mid, topic, payload)

        self._client = client
        self._open = asyncio.Event()
        self._open.set()
        client._package_handler._handle_qos_1_publish_packet = handle

    def connected(self) -> None:
        """To be called once the client is connected, for `throttle` to work."""
        protocol = self._client._connection._protocol
        read = protocol.read

        async def read_when_open(n: int = -1) -> bytes:
            await self._open.wait()
            data: bytes = await read(n)
            return data

        protocol.read = read_when_open

    def ack(self, mids: Sequence[int]) -> None:
        """Acknowledge these packets in this order, in one write."""
        words = np.full((len(mids), 2), _PUBACK, ">u2")
        words[:, 1] = mids
        self._client._connection._protocol.write_data(words.tobytes())

    def throttle(self, crowded: bool) -> None:
        """Read nothing more from the socket while crowded; to be called again every now and then.

        Mosquitto 2.0 needs it: resuming a session it sends all that waits, whatever the receive maximum.
        """
        if not crowded:
            self._open.set()
            return
        self._open.clear()
        if self._client._connection is not None:
            # It would take our not reading for the broker's silence, and close the connection.
            self._client._connection._last_data_in = time.monotonic()
