"""The recorder: what a broker sends goes to the disk, and only then is it acknowledged.

One thread does one thing after the other: while it writes, nothing is read from the socket, so the broker
holds the rest back. That, the receive maximum and the size of a batch bound what is in memory.
"""

from __future__ import annotations

import itertools
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from telemetry.clock import Clock, SystemClock
from telemetry.errors import SettingsError, UsageError
from telemetry.mqtt import MqttAddress

from .message import Message
from .recording import Recording, RecordingError

_log = structlog.get_logger(__name__)
VERSIONS = {"auto": (MQTTv5, MQTTv311), "5": (MQTTv5,), "3.1.1": (MQTTv311,)}
_UNDER_WAY = 5000
_SESSION_SECONDS = 7 * 86400
_BATCH = 2000
_BATCH_BYTES = 8 * 2**20
_BATCH_SECONDS = 0.1
_TURN_SECONDS = 0.05
# So long a batch waits for one more message. A broker of MQTT 3.1.1 mostly sends 20 and then waits for us.
_IDLE_SECONDS = {MQTTv5: 0.02, MQTTv311: 0.0}
_ANSWER_SECONDS = 10.0
_LEAVE_SECONDS = 3.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 15.0
_REFUSED = (134, 135)  # bad user name or password, not authorised; of MQTT 3.1.1 paho makes the same
_OTHER_VERSION = 132
_TAKEN_OVER = 142
_FAILURE = 128

Progress = Callable[["Recorded"], None]


@dataclass(slots=True)
class Recorded:
    """Messages that are on the disk (repeats after a reconnect included), bytes of their payloads, files."""

    messages: int = 0
    bytes: int = 0
    files: int = 0
    reconnects: int = 0


class Recorder:
    """Follows `topics` of a broker at QoS 1 until `stop`; reconnects for ever.

    The session outlives the connection: what comes while the recorder is away is sent later, to the same
    `client_id`. Stopped by `stop` it leaves none behind, unless `keep_session`; killed, it does.
    """

    def __init__(
        self,
        address: MqttAddress,
        recording: Recording,
        *,
        topics: Sequence[str],
        client_id: str,
        version: str = "auto",
        keep_session: bool = False,
        clock: Clock | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._address = address
        self._recording = recording
        self._topics = [(topic, 1) for topic in topics]
        self._client_id = client_id
        self._versions = VERSIONS[version]
        self._keep_session = keep_session
        self._clock = clock or SystemClock()
        self._progress = progress
        self._told = 0.0
        self._stop = False
        self.recorded = Recorded()

    def stop(self) -> None:
        """Ask `run` to end; may be called by a signal's handler or another thread."""
        self._stop = True

    def run(self) -> Recorded:
        """Record until `stop`.

        Raises:
            RecordingError: the disk is full or failed; what was acknowledged is on it.
            SettingsError: the broker refuses user, password or a topic.
            UsageError: another client uses our client id.
        """
        versions: Iterator[MQTTProtocolVersion] = itertools.cycle(self._versions)
        version, pause = next(versions), _FIRST_PAUSE_S
        try:
            while not self.is_stopping():
                connection = _Connection(self, version)
                try:
                    connection.open()
                except OSError as error:
                    _log.warning("broker_unreachable", problem=str(error), retry_in_s=pause)
                except _Refused as error:
                    self._give_up_on(error)
                    version = next(versions)
                    _log.warning("broker_refused", problem=str(error), retry_in_s=pause)
                else:
                    pause = _FIRST_PAUSE_S
                    connection.follow()
                    if self.is_stopping():
                        break
                    self.recorded.reconnects += 1
                    _log.warning("broker_lost", retry_in_s=pause)
                finally:
                    connection.close()
                self._rest(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
        finally:
            self._recording.close()
        self.recorded.files = len(self._recording.files)
        return self.recorded

    def is_stopping(self) -> bool:
        return self._stop

    def write(self, batch: Sequence[Message]) -> None:
        """Put them on the disk."""
        try:
            self._recording.append(batch)
        except RecordingError as error:
            raise RecordingError(
                f"{error}. What was acknowledged is there and can be replayed; the broker keeps the rest for "
                f"the client id {self._client_id}. Make room and start again."
            ) from error
        self.recorded.messages += len(batch)
        self.recorded.bytes += sum([len(message.payload) for message in batch])
        if self._progress and time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._progress(self.recorded)

    def message(self, received: MQTTMessage) -> Message:
        return Message(
            received.topic, bytes(received.payload), self._clock.now(), received.qos, received.retain
        )

    def new_client(self, version: MQTTProtocolVersion) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            clean_session=False if version == MQTTv311 else None,
            protocol=version,
            manual_ack=True,
        )
        if self._address.username is not None:
            client.username_pw_set(self._address.username, self._address.password)
        if self._address.tls:
            client.tls_set_context(ssl.create_default_context())
        return client

    def connect(self, client: Client, version: MQTTProtocolVersion) -> None:
        host, port = self._address.host, self._address.port
        if version == MQTTv311:
            client.connect(host, port, keepalive=30)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_SECONDS
        properties.ReceiveMaximum = _UNDER_WAY
        client.connect(host, port, keepalive=30, clean_start=False, properties=properties)

    def subscribe(self, client: Client) -> None:
        client.subscribe(self._topics)

    def leave(self, client: Client) -> bool:
        """Whether the broker was asked to send nothing more, and answers."""
        if self._keep_session:
            return False
        client.unsubscribe([topic for topic, _ in self._topics])
        return True

    def taken_over(self) -> UsageError:
        return UsageError(
            f"another client took over the client id {self._client_id}, and with it what the broker kept; "
            "name an id of its own for each recorder (--client-id)"
        )

    def _give_up_on(self, error: _Refused) -> None:
        if error.code in _REFUSED and not self.recorded.messages:
            raise SettingsError(
                "QUANTRAC_MQTT_URL",
                "the broker refuses this user and password",
                "Write mqtt://user:password@host:1883 with an account that may read.",
            )

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.is_stopping() and time.monotonic() < end:
            time.sleep(_TURN_SECONDS)


class _Refused(Exception):
    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class _Connection:
    """One connection with a client of its own, so that an ack goes out where its message came from."""

    def __init__(self, recorder: Recorder, version: MQTTProtocolVersion) -> None:
        self._recorder = recorder
        self._version = version
        self._client = recorder.new_client(version)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = self._on_unsubscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._answer: ReasonCode | None = None
        self._refused_topic = self._taken_over = self._left = False
        self._batch: list[Message] = []
        self._mids: list[int] = []
        self._bytes = 0
        self._began = 0.0

    def open(self) -> None:
        """Connect and subscribe.

        Raises:
            OSError: the broker cannot be reached.
            _Refused: it said no, or nothing.
        """
        self._recorder.connect(self._client, self._version)
        if not self._until(lambda: self._answer is not None, _ANSWER_SECONDS) or self._answer is None:
            raise _Refused("no answer, as of one that does not speak this version of MQTT")
        if self._answer.is_failure:
            raise _Refused(str(self._answer), self._answer.value)
        _log.info("broker_connected", mqtt="5" if self._version == MQTTv5 else "3.1.1")
        self._recorder.subscribe(self._client)

    def follow(self) -> None:
        """Record until the connection is lost or the recorder stops; then leave in order."""
        lost = False
        while not lost and not self._recorder.is_stopping():
            lost = not self._turn()
            if self._refused_topic:
                raise SettingsError(
                    "QUANTRAC_MQTT_TOPICS",
                    "the broker refuses a subscription",
                    "Use an account that may read these topics, or name others with --topic.",
                )
        if lost:
            self._recorder.write(self._batch)  # not acknowledged, so they come again
            if self._taken_over:
                raise self._recorder.taken_over()
            return
        self._write()
        if self._recorder.leave(self._client):
            self._until(lambda: self._left, _LEAVE_SECONDS)
            self._write()
        self._disconnect()

    def close(self) -> None:
        """Close the socket, if it is open: what was not acknowledged stays with the broker."""
        if (held := self._client.socket()) is not None:
            held.close()

    def _disconnect(self) -> None:
        properties = None
        if self._left and self._version == MQTTv5:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop(_TURN_SECONDS)

    def _until(self, true: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not true() and time.monotonic() < end:
            if self._client.loop(_TURN_SECONDS) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        return true()

    def _turn(self) -> bool:
        """Take what there is, and write it when it is time to; False when the connection is lost."""
        before = len(self._batch)
        waiting = _IDLE_SECONDS[self._version] if before else _TURN_SECONDS
        code = self._client.loop(waiting)
        arrived = len(self._batch) - before
        # A turn of the loop takes one packet; here is what lies behind it.
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and before < len(self._batch) < _BATCH:
            before = len(self._batch)
            code = self._client.loop_read()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        full = len(self._batch) >= _BATCH or self._bytes >= _BATCH_BYTES
        if full or not arrived or time.monotonic() - self._began >= _BATCH_SECONDS:
            self._write()
        return True

    def _write(self) -> None:
        """Put the batch on the disk, then acknowledge it."""
        if not self._batch:
            return
        self._recorder.write(self._batch)
        for mid in self._mids:
            self._client.ack(mid, 1)
        self._batch, self._mids, self._bytes = [], [], 0

    def _on_message(self, _client: Client, _data: Any, received: MQTTMessage) -> None:
        if not self._batch:
            self._began = time.monotonic()
        message = self._recorder.message(received)
        self._batch.append(message)
        self._bytes += len(message.payload)
        if received.qos:
            self._mids.append(received.mid)

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _: Any) -> None:
        self._answer = code

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, codes: list[ReasonCode], _: Any) -> None:
        self._refused_topic |= any(code.value >= _FAILURE for code in codes)

    def _on_unsubscribe(self, *_: Any) -> None:
        self._left = True

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _: Any) -> None:
        self._taken_over |= code.value == _TAKEN_OVER
