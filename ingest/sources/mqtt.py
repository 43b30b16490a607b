"""MQTT with gmqtt: QoS 1, a persistent session, and acks by our hand after COMMIT.

Every connection gets a client object of its own. An ack can therefore only go out on the connection that
brought its message: packet identifiers are reused after a reconnect, and an ack that strays onto the
next connection would confirm a message that nobody stored.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
from gmqtt import Client
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

from telemetry.clock import Clock
from telemetry.model import RawMessage
from telemetry.mqtt import parse_mqtt_url

from ..members import Member
from ..metrics import CONNECTED, RECEIVED
from ..qos_watch import QosWatch
from ..settings import IngestSettings
from .gmqtt_internals import GmqttInternals, Packet

_log = structlog.get_logger()
_TAKEN_OVER = 0x8E
_NEVER = -2  # gmqtt takes 0 for "once more"
_VERSIONS = {"auto": (MQTTv50, MQTTv311), "5": (MQTTv50,), "3.1.1": (MQTTv311,)}
_NAMES = {MQTTv50: "5", MQTTv311: "3.1.1"}
_ANSWER_SECONDS = 10.0
_SAY_WHY_SECONDS = 0.5
_SHORT_SECONDS = 3.0
_SHORT_IN_A_ROW = 4
_SHORT_PAUSE_SECONDS = 5.0
_TAKEN_SECONDS = 30.0
_FULL_SECONDS = 30.0
_FULL_ACK_SECONDS = 5.0
_RECEIVED = [RECEIVED.labels("mqtt", str(qos)) for qos in range(3)]

Take = Callable[[Sequence[RawMessage]], "list[tuple[asyncio.Future[None], int]]"]


class _NoAnswer(Exception):
    """The broker was there and did not take our CONNECT, as one does that does not speak this version."""


class MqttSource:
    """Follows the topics of the settings until `stop` is set; reconnects for ever, with back-off."""

    def __init__(
        self, settings: IngestSettings, take: Take, clock: Clock, member: Member, qos: QosWatch
    ) -> None:
        self._settings = settings
        self._address = parse_mqtt_url(settings.mqtt_url)
        self._take = take
        self._clock = clock
        self._member = member
        self._qos = qos
        self._paused = False
        prefix = f"$share/{settings.mqtt_share}/" if settings.mqtt_share else ""
        self._filters = [prefix + topic for topic in settings.mqtt_topics]
        self._open: _Connection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Stay connected. Returns once `stop` is set and the connection, if any, is still open for acks."""
        versions = self._versions()
        version, delay, short = next(versions), 0.5, 0
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
                began = time.monotonic()
                await _first(stop, connection.lost)
                if stop.is_set() and not connection.lost.is_set():
                    return
                CONNECTED.set(0)
                self._member.on_lost(self._clock.now())
                # Mosquitto 2.0 closes the connection of the one that was taken over without a word.
                quickly = time.monotonic() - began < _SHORT_SECONDS and not connection.overrun
                short = short + 1 if quickly else 0
                if connection.taken_over or short >= _SHORT_IN_A_ROW:
                    delay = _TAKEN_SECONDS if connection.taken_over else _SHORT_PAUSE_SECONDS
                    _log.error(
                        "session_taken_over" if connection.taken_over else "connection_lost_again_and_again",
                        client_id=self._settings.mqtt_client_id,
                        cure="each ingest process needs its own QUANTRAC_MQTT_CLIENT_ID",
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

    def throttle(self, crowded: bool) -> None:
        """Read nothing more from the socket until called with False; what was read still goes through."""
        if self._open is not None:
            self._open.throttle(crowded)

    def pause(self) -> None:
        """Hand on nothing more; what arrives from now on is left to the broker."""
        self._paused = True

    async def acked(self, seconds: float) -> None:
        """Wait until what was committed is acknowledged too, at most `seconds`."""
        if self._open is not None:
            await self._open.acked(seconds)

    async def close(self) -> None:
        """Disconnect; what was never acknowledged the broker keeps."""
        if self._open is not None:
            await self._open.close()
        CONNECTED.set(0)

    def take(self, packets: Sequence[Packet]) -> list[tuple[asyncio.Future[None], int]]:
        """Their batches' futures and for how many each; cancelled where no room is, none while paused."""
        if self._paused:
            return []
        _RECEIVED[1].inc(len(packets))
        now = self._clock.now()
        return self._take([RawMessage(topic, payload, now) for _, topic, payload in packets])

    def take_unacknowledged(self, topic: str | bytes, payload: bytes, qos: int) -> None:
        """What came at QoS 0, or at 2, which nobody asks for."""
        if self._paused:
            return
        if isinstance(topic, bytes):
            topic = topic.decode("utf-8", "surrogateescape")
        _RECEIVED[qos].inc()
        now = self._clock.now()
        if not qos:
            self._qos.seen(topic, now)
        self._take([RawMessage(topic, payload, now, qos=qos)])

    def subscribed(self, version: int, *, session_present: bool) -> None:
        """The broker granted what we asked for."""
        CONNECTED.set(1)
        self._member.on_subscribed(self._clock.now(), session_present=session_present, mqtt=_NAMES[version])
        if version == MQTTv311:
            _log.warning(
                "mqtt_3_1_1",
                ceiling="a broker of MQTT 3.1.1 mostly keeps 20 messages under way: some 15,000 a second",
                cure="a broker that speaks MQTT 5, or a higher max_inflight_messages there",
            )

    @property
    def subscriptions(self) -> int:
        return len(self._filters)

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
    """One connection and its client; `lost` is set when it is no more.

    Of each batch that messages of this connection are in it keeps their packet identifiers, in order.
    """

    def __init__(self, source: MqttSource, version: int) -> None:
        self._source = source
        self._version = version
        self.lost = asyncio.Event()
        self.taken_over = False
        self.overrun = False
        self._waiting: dict[asyncio.Future[None], list[int]] = {}
        self._all_acked = asyncio.Event()
        self._closed = False
        self._session_present = False
        self._granted = 0
        self._client = source.new_client()
        self._client.on_message = self._on_unacknowledged
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._internals = GmqttInternals(self._client, self._receive)

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
                opening.result()
                self._internals.connected()
                return
            closed = f"closed the connection, as one that does not speak MQTT {_NAMES[self._version]} may"
            raise _NoAnswer(closed if self.lost.is_set() else f"no answer in {_ANSWER_SECONDS:.0f} s")
        finally:
            opening.cancel()
            lost.cancel()

    def throttle(self, crowded: bool) -> None:
        self._internals.throttle(crowded)

    async def acked(self, seconds: float) -> None:
        """Wait until nothing waits for its acknowledgement, at most `seconds`."""
        self._all_acked.clear()
        if self._waiting:
            await _first(self._all_acked, seconds=seconds)

    async def close(self) -> None:
        """Disconnect. No ack goes out from here on, and so none on the connection that follows."""
        self._closed = True
        try:
            async with asyncio.timeout(5):
                await self._client.disconnect()
        except (OSError, TimeoutError, AttributeError) as error:  # AttributeError: it was never connected
            _log.debug("broker_disconnect", error=str(error))

    def _receive(self, packets: list[Packet]) -> None:
        mids = iter([packet.mid for packet in packets])
        for batch, count in self._source.take(packets):
            if batch not in self._waiting:
                self._waiting[batch] = []
                batch.add_done_callback(self._on_batch)
            self._waiting[batch] += itertools.islice(mids, count)

    def _on_batch(self, batch: asyncio.Future[None]) -> None:
        mids = self._waiting.pop(batch)
        if batch.cancelled():
            self.overrun = True
            self.lost.set()
        elif not self._closed:
            self._internals.ack(mids)
        if not self._waiting:
            self._all_acked.set()

    def _on_unacknowledged(
        self, _client: Client, topic: str | bytes, payload: bytes, qos: int, _properties: dict[str, Any]
    ) -> None:
        self._source.take_unacknowledged(topic, payload, qos)

    def _on_connect(self, _client: Client, session_present: int, _result: int, _properties: Any) -> None:
        self._session_present = bool(session_present)

    def _on_disconnect(self, _client: Client, packet: Any, exc: Exception | None = None) -> None:
        # Called again, without a reason, when the socket closes.
        self.taken_over |= isinstance(packet, bytes) and packet[:1] == bytes([_TAKEN_OVER])
        self._closed = True
        self.lost.set()

    def _on_subscribe(self, _client: Client, _mid: int, qos: tuple[int, ...], _properties: Any) -> None:
        if any(granted >= 0x80 for granted in qos):
            _log.error(
                "subscription_refused", cure="the broker's ACL must let this user read QUANTRAC_MQTT_TOPICS"
            )
            return
        self._granted += 1
        if self._granted == self._source.subscriptions:
            self._source.subscribed(self._version, session_present=self._session_present)


async def _first(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait for any of the events, at most `seconds`."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
