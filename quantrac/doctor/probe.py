"""What a broker says of itself to a client of our own that takes no message from anybody.

The client has an id of its own and a clean session, and subscribes to topics nobody publishes to, under the
prefixes of the settings; also where it asks for a share.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from telemetry.errors import QuantracError
from telemetry.mqtt import MqttAddress, parse_mqtt_url

VERSION, NODE_VERSION = "$SYS/broker/version", "$SYS/brokers/+/version"
DROPPED = "$SYS/broker/publish/messages/dropped"
_ANSWER_SECONDS = 5.0
_SYS_SECONDS = 1.0
_V5 = MQTTProtocolVersion.MQTTv5
_PROPERTIES = (
    "MaximumQoS", "RetainAvailable", "SharedSubscriptionAvailable", "WildcardSubscriptionAvailable",
    "SessionExpiryInterval", "ReceiveMaximum",
)  # fmt: skip


class Facts(NamedTuple):
    """`mqtt` is the best version spoken, `properties` what CONNACK said (MQTT 5), by its names there.

    `granted` is the QoS granted for each filter of the settings, `share` that of a share; None was refused.
    `said` holds what could be read of $SYS, by topic.
    """

    mqtt: str
    properties: dict[str, int]
    granted: dict[str, int | None]
    share: int | None
    said: dict[str, str]

    @property
    def version(self) -> str:
        """Its name and version, as far as it tells."""
        if VERSION in self.said:
            return self.said[VERSION]
        nodes = [text for topic, text in self.said.items() if topic.startswith("$SYS/brokers/")]
        return f"EMQX {nodes[0]}" if nodes else ""


def ask(url: str, filters: Sequence[str], session_expiry: int, share: str = "") -> Facts:
    """Connect with MQTT 5, else 3.1.1, and ask; `share` is the name that the settings give theirs.

    Raises:
        OSError: nobody listens there.
        QuantracError: the broker does not let us in, or does not answer.
    """
    address = parse_mqtt_url(url)
    refusals = []
    for version in (_V5, MQTTProtocolVersion.MQTTv311):
        conversation = _Conversation(address, version, session_expiry)
        try:
            conversation.open()
            return conversation.facts(filters, share)
        except QuantracError as error:
            refusals.append(str(error))
        finally:
            conversation.close()
    raise QuantracError("; ".join(dict.fromkeys(refusals)))


def impossible(topic_filter: str, token: str) -> str:
    """One topic that the filter covers and nobody publishes to."""
    return "/".join(token if level in ("+", "#") else level for level in topic_filter.split("/"))


class _Conversation:
    """One connection, driven by hand."""

    def __init__(self, address: MqttAddress, version: MQTTProtocolVersion, session_expiry: int) -> None:
        self._address = address
        self._v5 = version == _V5
        self._session_expiry = session_expiry
        self._token = f"quantrac-doctor-{secrets.token_hex(6)}"
        self._code: ReasonCode | None = None
        self._properties: dict[str, int] = {}
        self._codes: dict[int, list[ReasonCode]] = {}
        self._said: dict[str, str] = {}
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._token,
            protocol=version,
            clean_session=None if self._v5 else True,
        )
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.tls:
            client.tls_set_context(ssl.create_default_context())
        client.on_connect = self._on_connect
        client.on_subscribe = lambda _c, _d, mid, codes, _p: self._codes.update({mid: codes})
        client.on_message = self._on_message

    def open(self) -> None:
        more: dict[str, Any] = {}
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._session_expiry
            more = {"clean_start": True, "properties": properties}
        self._client.connect(self._address.host, self._address.port, 30, **more)
        if not self._until(lambda: self._code is not None):
            raise QuantracError("no answer to CONNECT")
        assert self._code is not None
        if self._code.is_failure:
            raise QuantracError(str(self._code))

    def facts(self, filters: Sequence[str], share_name: str) -> Facts:
        granted = self._subscribe([impossible(one, self._token) for one in filters])
        self._subscribe([VERSION, NODE_VERSION, DROPPED])
        self._until(lambda: {VERSION, DROPPED} <= self._said.keys(), _SYS_SECONDS)
        share = self._share(self._token, filters[0])
        if share is None and share_name:
            # An ACL may name the group. Name and filter together make a share, so this is another one still:
            # https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Toc3901250
            share = self._share(share_name, filters[0])
        return Facts(
            "5" if self._v5 else "3.1.1",
            self._properties,
            dict(zip(filters, granted, strict=True)),
            share,
            self._said,
        )

    def close(self) -> None:
        if self._client.is_connected():
            properties = None
            if self._v5:
                properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = 0
            self._client.disconnect(properties=properties)
        self._until(lambda: False, 0.1)

    def _share(self, name: str, topic_filter: str) -> int | None:
        return self._subscribe([f"$share/{name}/{impossible(topic_filter, self._token)}"])[0]

    def _subscribe(self, topics: Sequence[str]) -> list[int | None]:
        code, mid = self._client.subscribe([(topic, 1) for topic in topics])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            return [None] * len(topics)
        self._until(lambda: mid in self._codes)
        codes = self._codes.get(mid, [])
        if len(codes) != len(topics):
            return [None] * len(topics)
        return [None if one.is_failure else one.value for one in codes]

    def _until(self, done: Callable[[], bool], seconds: float = _ANSWER_SECONDS) -> bool:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            if self._client.loop(0.05) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        return done()

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._code = code
        self._properties = {
            name: getattr(properties, name) for name in _PROPERTIES if hasattr(properties, name)
        }

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic.startswith("$SYS/"):
            self._said[message.topic] = bytes(message.payload).decode("utf-8", "replace")[:200]
