"""What gmqtt does not offer in public: many messages at once, acks of many at once, and not reading.

The private names are all here, and pyproject.toml holds gmqtt below its next minor version. In public every
message costs a task, a future and a write of its own (docs/decisions/0001-ingest-client.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import structlog
from gmqtt import Client
from gmqtt.mqtt.constants import MQTTv50

_PUBACK = 0x4002  # and no reason code, which means success in MQTT 3.1.1 and 5
_QOS_1_PUBLISH = 0x32
_RETAIN_OR_DUP = 0x09
_VARIABLE = 0x80

_log = structlog.get_logger()


class Packet(NamedTuple):
    """A message at QoS 1; `topic` may hold surrogate escapes where it was not UTF-8."""

    mid: int
    topic: str
    payload: bytes


Receive = Callable[[list[Packet]], None]


class GmqttInternals:
    """One client, before it connects; `receive` gets what comes at QoS 1, all of one read at once."""

    def __init__(self, client: Client, receive: Receive) -> None:
        def handle(mid: int, payload: bytes, topic: str | bytes, _properties: object) -> None:
            text = topic if isinstance(topic, str) else topic.decode("utf-8", "surrogateescape")
            receive([Packet(mid, text, payload)])

        self._client = client
        self._receive = receive
        self._open = asyncio.Event()
        self._open.set()
        client._package_handler._handle_qos_1_publish_packet = handle

    def connected(self) -> None:
        """To be called once the client is connected."""
        connection = self._client._connection
        protocol = connection._protocol
        read, parse_one_by_one = protocol.read, protocol._read_packet
        properties = protocol.proto_ver >= MQTTv50

        async def read_when_open(n: int = -1) -> bytes:
            await self._open.wait()
            data: bytes = await read(n)
            return data

        def parse(data: bytes) -> int:
            packets, parsed = split_messages(data, properties=properties)
            if packets:
                connection._last_data_in = time.monotonic()
                try:
                    self._receive(packets)
                except Exception:  # not acknowledged, so they come again; the next are not to be held up
                    _log.exception("messages_not_taken", messages=len(packets))
            rest: int = parse_one_by_one(data[parsed:]) if parsed < len(data) else 0
            return rest if rest < 0 else parsed + rest

        protocol.read = read_when_open
        protocol._read_packet = parse

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


def split_messages(data: bytes, *, properties: bool) -> tuple[list[Packet], int]:
    """The messages at QoS 1 that `data` begins with, and how many bytes of it these are. Pure.

    It stops at the first packet that is not whole, or of another kind, or with `properties` (MQTT 5) of its
    own, or without a topic: all of which the library reads.
    """
    packets: list[Packet] = []
    at, size = 0, len(data)
    while size - at >= 2 and data[at] & ~_RETAIN_OR_DUP == _QOS_1_PUBLISH:
        # The length: seven bits a byte, the lowest first (MQTT 5.0, section 1.5.5).
        body, length, shift = at + 2, data[at + 1], 7
        if length >= _VARIABLE:
            length &= ~_VARIABLE
            while shift < 28:
                if body >= size:
                    return packets, at
                more = data[body]
                length |= (more & ~_VARIABLE) << shift
                body, shift = body + 1, shift + 7
                if more < _VARIABLE:
                    break
            else:
                return packets, at
        end = body + length
        if end > size or length < 2:
            break
        topic_end = body + 2 + (data[body] << 8 | data[body + 1])
        payload = topic_end + 2 + properties
        if payload > end or topic_end == body + 2 or (properties and data[payload - 1]):
            break
        packets.append(
            Packet(
                data[topic_end] << 8 | data[topic_end + 1],
                data[body + 2 : topic_end].decode("utf-8", "surrogateescape"),
                data[payload:end],
            )
        )
        at = end
    return packets, at
