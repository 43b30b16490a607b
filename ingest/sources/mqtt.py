"""MQTT with gmqtt: QoS 1, a persistent session, and acks by our hand after COMMIT.

Every connection gets a client object of its own. An ack can therefore only go out on the connection that
brought its message: packet identifiers are reused after a reconnect, and an ack that strays onto the
next connection would confirm a message that nobody stored.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from gmqtt import Client
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

from telemetry.clock import Clock
from telemetry.model import RawMessage
from telemetry.mqtt import parse_mqtt_url

from ..metrics import CONNECTED, RECEIVED
from ..settings import IngestSettings

_log = structlog.get_logger()
_TAKEN_OVER = 0x8E
_NEVER = -2  # gmqtt takes 0 for "once more"
_VERSIONS = {"auto": (MQTTv50, MQTTv311), "5": (MQTTv50,), "3.1.1": (MQTTv311,)}
_NAMES = {MQTTv50: "5", MQTTv311: "3.1.1"}
_ANSWER_SECONDS = 10.0
_SAY_WHY_SECONDS = 0.5
_FULL_SECONDS = 30.0
_FULL_ACK_SECONDS = 5.0

Submit = Callable[[RawMessage], "asyncio.Future[None]"]


class _NoAnswer(Exception):
    """The broker was there and did not take our CONNECT, as one does that does not speak this version."""


class MqttSource:
    """Follows the topics of the settings until `stop` is set; reconnects for ever, with back-off."""

    def __init__(self, settings: IngestSettings, submit: Submit, clock: Clock) -> None:
        self._settings = settings
        self._address = parse_mqtt_url(settings.mqtt_url)
        self._submit = submit
        self._clock = clock
        self._released = asyncio.Event()
        self._idle = asyncio.Event()
        self._under_way = 0
        self._paused = asyncio.Event()
        prefix = f"$share/{settings.mqtt_share}/" if settings.mqtt_share else ""
        self._filters = [prefix + topic for topic in settings.mqtt_topics]
        self._open: _Connection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Stay connected. Returns once `stop` is set and the connection, if any, is still open for acks."""
        versions = self._versions()
        version, delay = next(versions), 0.5
        while not stop.is_set():
            self._open = connection = _Connection(self, version)
            try:
                await connection.open()
            except OSError as error:
                _log.warning("broker_unreachable", error=str(error), retry_in=delay)
            except Exception as error:
                _log.warning("broker_refused", error=str(error), mqtt=_NAMES[version], retry_in=delay)
                version = next(versions)
            else:
                _log.info("broker_connected", filters=self._filters, mqtt=_NAMES[version])
                # Next time from the best on: what refused it may have been a proxy before a starting broker.
                versions = self._versions()
                version, delay = next(versions), 0.5
                await _first(stop, connection.lost)
                if stop.is_set() and not connection.lost.is_set():
                    return
                CONNECTED.set(0)
                if connection.taken_over:
                    delay = 30.0
                    _log.error(
                        "session_taken_over",
                        client_id=self._settings.mqtt_client_id,
                        cure="another process uses this client id; give each its own QUANTRAC_MQTT_CLIENT_ID",
                    )
                if connection.overrun:
                    delay = _FULL_SECONDS
                    _log.error("backlog_full", cure="bring the database back; the broker keeps the rest")
                    # Else a burst beyond the bound would never get through.
                    await self.acked(_FULL_ACK_SECONDS)
            await connection.close()
            await _first(stop, seconds=delay)
            delay = min(delay * 2, 30.0)

    def _versions(self) -> Iterator[int]:
        return itertools.cycle(_VERSIONS[self._settings.mqtt_version])

    def pause(self) -> None:
        """Hand on nothing more; what arrives from now on is left to the broker."""
        self._paused.set()

    async def acked(self, seconds: float) -> None:
        """Wait until what was committed is acknowledged too, at most `seconds`."""
        self._idle.clear()
        if self._under_way:
            await _first(self._idle, seconds=seconds)
        await asyncio.sleep(0)  # the ack goes out in the callback after the last message's task

    async def close(self) -> None:
        """Disconnect, then let go of what was never acknowledged: the broker keeps it."""
        if self._open is not None:
            await self._open.close()
        self._released.set()
        CONNECTED.set(0)

    async def take(self, topic: str | bytes, payload: bytes, qos: int) -> bool:
        """Return when the message is committed, or when the connection that could ack it is gone.

        False: there is no room for it, and it must not be acknowledged.
        """
        if self._paused.is_set():
            await self._released.wait()
            return True
        if isinstance(topic, bytes):
            topic = topic.decode("utf-8", "surrogateescape")
        RECEIVED.labels("mqtt", str(qos)).inc()
        message = RawMessage(topic, bytes(payload), self._clock.now(), "mqtt", qos)
        self._under_way += 1
        try:
            await self._submit(message)
        except asyncio.CancelledError:
            if not self._paused.is_set():
                return False
            await self._released.wait()
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        return True

    @property
    def settings(self) -> IngestSettings:
        return self._settings

    def new_client(self) -> Client:
        client = Client(
            self._settings.mqtt_client_id,
            clean_session=False,
            optimistic_acknowledgement=False,
            session_expiry_interval=self._settings.mqtt_session_expiry,
            receive_maximum=self._settings.mqtt_receive_maximum,
        )
        client.set_config({"reconnect_retries": _NEVER})
        if self._address.username is not None:
            client.set_auth_credentials(self._address.username, self._address.password)
        return client

    async def connect(self, client: Client, version: int) -> None:
        tls = ssl.create_default_context() if self._address.tls else False
        await client.connect(self._address.host, self._address.port, ssl=tls, keepalive=30, version=version)
        for topic in self._filters:
            client.subscribe(topic, qos=1)


class _Connection:
    """One connection and its client; `lost` is set when it is no more."""

    def __init__(self, source: MqttSource, version: int) -> None:
        self._source = source
        self._version = version
        self.lost = asyncio.Event()
        self.taken_over = False
        self.overrun = False
        self._closed = asyncio.Event()
        self._client = source.new_client()
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe

    async def open(self) -> None:
        """Connect and subscribe.

        Raises:
            OSError: the broker cannot be reached.
            Exception: it said no, or closed the connection, or did not answer.
        """
        opening = asyncio.create_task(self._source.connect(self._client, self._version))
        lost = asyncio.create_task(self.lost.wait())
        try:
            await asyncio.wait((opening, lost), timeout=_ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((opening,), timeout=_SAY_WHY_SECONDS)  # a refusal may come just before the end
            if opening.done():
                return opening.result()
            closed = f"closed the connection, as one that does not speak MQTT {_NAMES[self._version]} may"
            raise _NoAnswer(closed if self.lost.is_set() else f"no answer in {_ANSWER_SECONDS:.0f} s")
        finally:
            opening.cancel()
            lost.cancel()

    async def close(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self._client.disconnect()
        except (OSError, TimeoutError, AttributeError) as error:  # AttributeError: it was never connected
            _log.debug("broker_disconnect", error=str(error))
        finally:
            self._closed.set()

    async def _on_message(
        self, _client: Client, topic: str | bytes, payload: bytes, qos: int, _properties: dict[str, Any]
    ) -> int:
        if not await self._source.take(topic, payload, qos):
            self.overrun = True
            self.lost.set()
            await self._closed.wait()  # only then no ack can go out
        return 0

    def _on_disconnect(self, _client: Client, packet: Any, exc: Exception | None = None) -> None:
        self.taken_over = isinstance(packet, bytes) and packet[:1] == bytes([_TAKEN_OVER])
        self.lost.set()

    def _on_subscribe(self, _client: Client, _mid: int, qos: tuple[int, ...], _properties: Any) -> None:
        if any(granted >= 0x80 for granted in qos):
            _log.error(
                "subscription_refused", cure="the broker's ACL must let this user read QUANTRAC_MQTT_TOPICS"
            )
        else:
            CONNECTED.set(1)


async def _first(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait for any of the events, at most `seconds`."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
