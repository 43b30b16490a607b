"""Topics of what came by HTTP: those that the same event has on MQTT."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources.http import chirpstack_topic, tenant_of, tts_topic
from tests.samples import samples

APPLICATION = "17c82e96-be03-4f38-aef3-f83d48582d97"
EUI = "24e124136b502217"
V4 = f"application/{APPLICATION}/device/{EUI}/event/"


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protobuf message: a varint, or bytes shorter than 128."""
    if isinstance(value, bytes):
        return bytes([number << 3 | 2, len(value)]) + value
    encoded = b""
    while value > 0x7F:
        encoded, value = encoded + bytes([value & 0x7F | 0x80]), value >> 7
    return bytes([number << 3]) + encoded + bytes([value])


DEVICE_INFO = field(2, "tỉnh Đồng Nai".encode()) + field(3, APPLICATION.encode()) + field(8, EUI.encode())
TIME = field(1, 1_772_444_055) + field(2, 775_023_242)
V3 = field(1, 123) + field(2, b"cold-chain") + field(3, b"fridge-07") + field(4, bytes.fromhex(EUI))


@pytest.mark.parametrize(
    "sample",
    [s for s in samples("chirpstack_v4", "chirpstack_v3") if "/event/" in s.topic],
    ids=lambda s: s.name,
)
def test_chirpstack_json(sample: Any) -> None:
    event = sample.topic.rpartition("/")[2]
    assert chirpstack_topic(event, sample.payload, binary=False) == sample.topic


@pytest.mark.parametrize(
    ("event", "body", "topic"),
    [
        ("up", field(1, b"id") + field(2, TIME) + field(3, DEVICE_INFO) + field(7, 300), V4 + "up"),
        ("txack", field(1, 70_000) + field(2, TIME) + field(3, DEVICE_INFO), V4 + "txack"),
        ("log", field(1, TIME) + field(2, DEVICE_INFO) + b"\x1d\x00\x00\x80\x3f", V4 + "log"),
        ("up", V3, f"application/123/device/{EUI}/event/up"),
        ("error", V3 + b"\x09" + bytes(8), f"application/123/device/{EUI}/event/error"),
        ("up", V3[:-1], "application/?/device/?/event/up"),
        ("up", b"\xff" * 20, "application/?/device/?/event/up"),
        ("up", b"", "application/?/device/?/event/up"),
    ],
)
def test_chirpstack_protobuf(event: str, body: bytes, topic: str) -> None:
    assert chirpstack_topic(event, body, binary=True) == topic


@pytest.mark.parametrize(
    "sample", [s for s in samples("tts_v3") if s.name != "tts_v3/down_failed"], ids=lambda s: s.name
)
def test_the_things_stack(sample: Any) -> None:
    assert tts_topic(sample.payload, "tenant1") == sample.topic
    assert tts_topic(sample.payload, "tenant1", "down/ack") == sample.topic
    assert tts_topic(sample.payload, "") == sample.topic.replace("@tenant1", "")


@pytest.mark.parametrize(
    ("body", "told", "topic"),
    [
        (b"{", "", "v3/?@ttn/devices/?/up"),
        (b"{", "down/ack", "v3/?@ttn/devices/?/down/ack"),
        (b"{", "../../x", "v3/?@ttn/devices/?/up"),
        (b'{"join_accept": {}}', "up", "v3/?@ttn/devices/?/join"),
        (b'{"end_device_ids": {"device_id": "a/b"}}', "", "v3/?@ttn/devices/?/up"),
        (b'{"end_device_ids": {"device_id": "d"}}', "", "v3/?@ttn/devices/d/up"),
        (b'{"end_device_ids": 5}', "", "v3/?@ttn/devices/?/up"),
    ],
)
def test_what_the_things_stack_does_not_tell(body: bytes, told: str, topic: str) -> None:
    assert tts_topic(body, "ttn", told) == topic


@pytest.mark.parametrize(
    ("domain", "tenant"),
    [
        ("eu1.cloud.thethings.network", "ttn"),
        ("dong-nai.eu1.cloud.thethings.industries", "dong-nai"),
        ("dong-nai.au1.cloud.thethings.industries:443", "dong-nai"),
        ("eu1.cloud.thethings.industries", ""),
        ("lorawan.example.vn", ""),
        ("", ""),
    ],
)
def test_tenants(domain: str, tenant: str) -> None:
    assert tenant_of(domain) == tenant


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3)


def _body(name: Any, ids: Any) -> bytes:
    return json.dumps(
        {
            "deviceInfo": {"devEui": name, "applicationId": ids},
            "devEUI": name,
            "end_device_ids": {"device_id": name, "application_ids": ids},
        }
    ).encode()


BODIES = st.binary() | st.builds(_body, JSON, JSON)


@given(body=BODIES, binary=st.booleans())
def test_no_body_makes_another_level(body: bytes, binary: bool) -> None:
    topic = chirpstack_topic("up", body, binary=binary)
    assert (topic.count("/"), topic[:12], topic[-9:]) == (5, "application/", "/event/up")
    assert tts_topic(body, "ttn").count("/") == 4
    assert not set("+#\0") & set(topic)
