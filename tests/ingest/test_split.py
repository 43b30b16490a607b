"""Messages are split from what a socket brought as the library itself would."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.mqtt.handler import MqttPackageHandler
from gmqtt.mqtt.protocol import MQTTProtocol
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.sources.gmqtt_internals import Packet, split_messages


def packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body


def publish(topic: bytes, mid: int, payload: bytes, flags: int, properties: bytes | None) -> bytes:
    inside = b"" if properties is None else bytes([len(properties)]) + properties
    return packet(0x32 | flags, len(topic).to_bytes(2) + topic + mid.to_bytes(2) + inside + payload)


@dataclass
class Library:
    """The library's own reading of a stream, as far as messages at QoS 1 go."""

    version: int
    found: list[Packet] = field(default_factory=list)

    def read(self, data: bytes) -> int:
        handler = MqttPackageHandler.__new__(MqttPackageHandler)
        protocol = MQTTProtocol.__new__(MQTTProtocol)
        handler._connection_state = _State(self.version)
        handler._logger = _Quiet()
        handler._server_topics_aliases = {}
        handler._handle_qos_1_publish_packet = self._take
        protocol._connection = _Connection(handler)
        return protocol._read_packet(data)  # type: ignore[no-any-return]

    def _take(self, mid: int, payload: bytes, topic: str | bytes, _: Any) -> None:
        text = topic if isinstance(topic, str) else topic.decode("utf-8", "surrogateescape")
        self.found.append(Packet(mid, text, payload))


@dataclass
class _State:
    protocol_version: int


class _Quiet:
    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@dataclass
class _Connection:
    handler: Any

    def put_package(self, package: Any) -> None:
        if package.cmd & 0xF6 == 0x32:
            self.handler._handle_publish_packet(package.cmd, package.data)


PACKETS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([b"a/b", b"\xff\xfe", "sông/đo".encode(), b"x" * 200]),
            st.integers(1, 65535),
            st.binary(max_size=20) | st.integers(100, 20_000).map(bytes),
            st.sampled_from([0, 1, 8, 9]),
            st.sampled_from([b"", b"\x01\x01", b"\x26\x00\x01a\x00\x01b"]),
        ),
        st.sampled_from([b"\xd0\x00", packet(0x90, b"\x00\x01\x00\x01"), packet(0x30, b"\x00\x01ax")]),
    ),
    max_size=8,
)


@given(PACKETS, st.booleans(), st.integers(0, 400))
@example([(b"", 1, b"x", 0, b"")], True, 0)
def test_the_same_messages_as_the_library(packets: list[Any], properties: bool, cut: int) -> None:
    """Ours as far as they go, the library from there on; the last packet may not be whole."""
    data = b"".join(
        one if isinstance(one, bytes) else publish(*one[:4], one[4] if properties else None)
        for one in packets
    )
    data = data[: len(data) - cut] if cut < len(data) else data
    whole, rest = (Library(MQTTv50 if properties else MQTTv311) for _ in range(2))
    parsed = whole.read(data)
    ours, at = split_messages(data, properties=properties)
    assert at + rest.read(data[at:]) == parsed
    assert ours + rest.found == whole.found


def test_a_length_that_never_ends_is_left_to_the_library() -> None:
    assert split_messages(b"\x32\xff\xff\xff\xff\xff\x01", properties=False) == ([], 0)
    assert split_messages(b"\x32\xff", properties=False) == ([], 0)
    assert split_messages(b"\x32", properties=False) == ([], 0)
    assert split_messages(b"\x32\x01\x00", properties=False) == ([], 0)


def test_a_run_of_messages_needs_no_library() -> None:
    data = b"".join(publish(b"t", mid, bytes(300), 0, b"") for mid in range(1, 50))
    packets, parsed = split_messages(data, properties=True)
    assert ([p.mid for p in packets], parsed) == (list(range(1, 50)), len(data))
