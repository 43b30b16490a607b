"""The session of a client id, resumed by a client of its own that stores what still waits in it.

Paho serves here, not the source's client: leaving need not be fast, and nothing of it outlives the command.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from telemetry.clock import Clock
from telemetry.errors import QuantracError
from telemetry.model import RawMessage
from telemetry.mqtt import parse_mqtt_url

from .settings import IngestSettings

QUIET_SECONDS = 3.0
_ANSWER_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
_VERSIONS = {"auto": (_V5, _V311), "5": (_V5,), "3.1.1": (_V311,)}

Submit = Callable[[RawMessage], "asyncio.Future[None]"]


async def resume(settings: IngestSettings, submit: Submit, clock: Clock) -> Session:
    """Connect under the client id of the settings; what waits for it begins to arrive.

    Raises:
        QuantracError: the broker cannot be reached, or does not take us.
    """
    refusals = []
    for version in _VERSIONS[settings.mqtt_version]:
        session = Session(settings, version, submit, clock)
        try:
            await session.open()
        except OSError as error:
            raise QuantracError(f"the broker cannot be reached: {error}") from None
        except QuantracError as error:
            refusals.append(str(error))
            await session.close()
        else:
            return session
    raise QuantracError(f"the broker refuses us: {'; '.join(refusals)}")


class Session:
    """The session of a client id, resumed on one connection."""

    def __init__(
        self, settings: IngestSettings, version: MQTTProtocolVersion, submit: Submit, clock: Clock
    ) -> None:
        self._settings = settings
        self._version = version
        self._submit = submit
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._lost = False
        self._refused = False
        self._under_way = 0
        self._moved_at = self._loop.time()
        self.stored = 0
        self._client = self._new_client(clean=False)

    async def open(self) -> None:
        await self._connect(self._client, clean=False)

    async def drain(self, stop: asyncio.Event, most: float | None = None) -> None:
        """Until everything is acknowledged and nothing came for `QUIET_SECONDS`; at most `most` seconds."""
        self._moved_at = began = self._loop.time()
        while self._under_way or self._loop.time() - self._moved_at < QUIET_SECONDS:
            if most is not None and self._loop.time() - began >= most:
                return
            if stop.is_set():
                raise QuantracError("interrupted: the session is still there; run it again")
            if self._lost or self._refused:
                what = "the broker closed the connection" if self._lost else "the backlog is full"
                raise QuantracError(f"{what}: the session is still there; run it again")
            await asyncio.sleep(_LOOK_SECONDS)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Raises `QuantracError` when the broker says no or nothing."""
        answer = self._expect("unsubscribe")
        self._client.unsubscribe(list(filters))
        codes: list[ReasonCode] = await self._answered(answer, "UNSUBSCRIBE")
        refused = [str(code) for code in codes if code.is_failure]
        if refused:
            raise QuantracError(f"the broker does not let us unsubscribe: {', '.join(refused)}")

    async def end(self) -> None:
        """Let the broker forget the session: by MQTT 5's expiry, else by a clean session in its place."""
        if self._version == _V5:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
            await self._disconnect(self._client, properties)
        else:
            await self._disconnect(self._client)
            clean = self._new_client(clean=True)
            try:
                await self._connect(clean, clean=True)
                await self._disconnect(clean)
            finally:
                await asyncio.to_thread(clean.loop_stop)

    async def close(self) -> None:
        if self._client.is_connected():
            await self._disconnect(self._client)
        await asyncio.to_thread(self._client.loop_stop)

    def _new_client(self, *, clean: bool) -> paho.Client:
        address = parse_mqtt_url(self._settings.mqtt_url)
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._settings.mqtt_client_id,
            clean_session=None if self._version == _V5 else clean,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.tls:
            client.tls_set_context(ssl.create_default_context())
        client.on_connect = lambda _c, _d, _f, code, _p: self._later(self._resolve, "connect", code)
        client.on_unsubscribe = lambda _c, _d, _m, codes, _p: self._later(self._resolve, "unsubscribe", codes)
        client.on_disconnect = lambda *_: self._later(self._on_lost)
        client.on_message = lambda _c, _d, message: self._later(self._take, message)
        return client

    async def _connect(self, client: paho.Client, *, clean: bool) -> None:
        address = parse_mqtt_url(self._settings.mqtt_url)
        more: dict[str, Any] = {}
        if self._version == _V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._settings.mqtt_session_expiry
            properties.ReceiveMaximum = self._settings.mqtt_receive_maximum
            more = {"clean_start": clean, "properties": properties}
        answer = self._expect("connect")
        await asyncio.to_thread(client.connect, address.host, address.port, 30, **more)
        client.loop_start()
        code: ReasonCode = await self._answered(answer, "CONNECT")
        if code.is_failure:
            raise QuantracError(str(code))
        self._lost = False

    async def _disconnect(self, client: paho.Client, properties: Properties | None = None) -> None:
        client.disconnect(properties=properties)
        await asyncio.to_thread(client.loop_stop)  # which sends what waits to be sent

    def _take(self, message: paho.MQTTMessage) -> None:
        self._moved_at = self._loop.time()
        raw = RawMessage(message.topic, bytes(message.payload), self._clock.now(), "mqtt", message.qos)
        self._under_way += 1
        self._submit(raw).add_done_callback(lambda done: self._settle(message, done))

    def _settle(self, message: paho.MQTTMessage, done: asyncio.Future[None]) -> None:
        self._under_way -= 1
        self._moved_at = self._loop.time()
        if done.cancelled():
            self._refused = True
            return
        self.stored += 1
        if message.qos:
            self._client.ack(message.mid, message.qos)

    def _expect(self, what: str) -> asyncio.Future[Any]:
        self._answers[what] = self._loop.create_future()
        return self._answers[what]

    def _later(self, call: Callable[..., None], *arguments: Any) -> None:
        """From paho's thread to the event loop."""
        self._loop.call_soon_threadsafe(call, *arguments)

    def _resolve(self, what: str, answer: Any) -> None:
        future = self._answers.get(what)
        if future is not None and not future.done():
            future.set_result(answer)

    def _on_lost(self) -> None:
        self._lost = True
        for future in self._answers.values():
            if not future.done():
                future.set_exception(QuantracError("the broker closed the connection"))

    async def _answered(self, answer: asyncio.Future[Any], to: str) -> Any:
        try:
            return await asyncio.wait_for(answer, _ANSWER_SECONDS)
        except TimeoutError:
            raise QuantracError(f"no answer to {to} within {_ANSWER_SECONDS:.0f} s") from None
