"""Publishing to a broker at QoS 1, through its outages."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

import aiomqtt
import structlog

from telemetry.errors import SettingsError
from telemetry.mqtt import MqttAddress

from .downlinks import TOPICS, Mailbox, read
from .message import Message

_log = structlog.get_logger(__name__)

_QUEUE = 2000
_AT_ONCE = 50
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 15.0
# What paho makes of CONNACK codes 4 and 5 of MQTT 3.1.1: bad user name or password, not authorised.
_REFUSED = (134, 135)


class Publisher:
    """A bounded queue in front of a connection that comes back by itself.

    `put` waits while the queue is full, which holds the simulation back instead of losing messages.
    Messages in flight when the connection breaks are sent again: at least once, as QoS 1 has it.
    With `commands` it also listens to downlinks, and puts them there; those of an outage are lost.
    """

    def __init__(self, address: MqttAddress, commands: Mailbox | None = None) -> None:
        self._address = address
        self._commands = commands
        self._queue: asyncio.Queue[Message] = asyncio.Queue(_QUEUE)
        self._batch: list[Message] = []
        self._connected: aiomqtt.Client | None = None
        self.published = 0

    async def put(self, message: Message) -> None:
        await self._queue.put(message)

    async def drained(self) -> None:
        """Wait until the broker has acknowledged everything put so far."""
        await self._queue.join()

    def cut(self) -> None:
        """Break the connection without a word to the broker, as a failing network does; `run` comes back."""
        held = self._connected and self._connected._client.socket()
        if isinstance(held, socket.socket):
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    async def run(self) -> None:
        """Publish until cancelled; reconnects with pauses that double from 0.2 to 15 s.

        Raises:
            SettingsError: the broker refuses user or password before any message was published.
        """
        pause = _FIRST_PAUSE_S
        while True:
            try:
                async with self._client() as client:
                    pause = _FIRST_PAUSE_S
                    _log.info("broker_connected", host=self._address.host, port=self._address.port)
                    await self._pump_while_connected(client)
            except aiomqtt.MqttError as error:
                if self.published == 0 and _is_refusal(error):
                    raise SettingsError(
                        "QUANTRAC_MQTT_URL",
                        "the broker refuses this user and password",
                        "Write mqtt://user:password@host:1883 with an account that may publish.",
                    ) from None
                _log.warning("broker_lost", problem=str(error), retry_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _client(self) -> aiomqtt.Client:
        client = aiomqtt.Client(
            self._address.host,
            self._address.port,
            username=self._address.username,
            password=self._address.password,
            tls_context=ssl.create_default_context() if self._address.tls else None,
            keepalive=30,
            max_inflight_messages=_AT_ONCE,
        )
        client.pending_calls_threshold = _AT_ONCE
        return client

    async def _pump_while_connected(self, client: aiomqtt.Client) -> None:
        """A publish that waits for its ack would notice a lost connection only when it times out."""
        tasks = {asyncio.create_task(self._pump(client)), asyncio.create_task(self._listen(client))}
        self._connected = client
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._connected = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Until the connection is lost: that is an MqttError."""
        if self._commands is not None:
            await client.subscribe([(topic, 0) for topic in TOPICS])
        async for message in client.messages:
            payload = message.payload
            if self._commands is None or not isinstance(payload, bytes):
                continue
            try:
                refused = self._commands.put(read(str(message.topic), payload))
            except ValueError as error:
                _log.warning("downlink_refused", topic=str(message.topic), problem=str(error))
            else:
                if refused:
                    _log.warning("downlink_refused", topic=str(message.topic), problem="the queue is full")

    async def _pump(self, client: aiomqtt.Client) -> None:
        while True:
            if not self._batch:
                self._batch.append(await self._queue.get())
                with suppress(asyncio.QueueEmpty):
                    while len(self._batch) < _AT_ONCE:
                        self._batch.append(self._queue.get_nowait())
            results = await asyncio.gather(
                *(client.publish(m.topic, m.payload, qos=m.qos, retain=m.retain) for m in self._batch),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            self.published += len(results)
            self._batch.clear()
            for _ in results:
                self._queue.task_done()


def _is_refusal(error: aiomqtt.MqttError) -> bool:
    code = getattr(error, "rc", None)
    return getattr(code, "value", code) in _REFUSED
