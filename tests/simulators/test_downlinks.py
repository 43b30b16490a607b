"""Commands of the network servers' topics, what waits for a device, and what it does then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from decoders.registry import load_codecs
from simulators.downlinks import TOPICS, Command, Mailbox, read
from simulators.orders import Order, obey
from simulators.servers import Downlink, protowire

EUI = "24e124136b502217"
CHIRPSTACK = f"application/a1/device/{EUI}/command/down"
PUSH = f"v3/app@tenant/devices/eui-{EUI}/down/push"
REPLACE = PUSH.replace("push", "replace")
DATA = b"\x01\x00\x02\x58"
IN_PROTOBUF = (
    protowire.text(1, "name")
    + protowire.text(2, EUI)
    + protowire.integer(3, 1)
    + protowire.integer(4, 10)
    + protowire.block(5, DATA)
)


def test_topics_are_those_that_are_read() -> None:
    for topic, example in zip(TOPICS, (CHIRPSTACK, PUSH, REPLACE), strict=True):
        levels = zip(topic.split("/"), example.split("/"), strict=True)
        assert all(level in ("+", given) for level, given in levels)


@pytest.mark.parametrize(
    ("payload", "downlink"),
    [
        ({"devEui": EUI, "confirmed": True, "fPort": 10, "data": "AQACWA==", "id": "name"},
         Downlink(EUI, 10, DATA, True, "name")),
        ({"fPort": 10, "data": "AQACWA=="}, Downlink(EUI, 10, DATA)),
        ({"devEui": EUI.upper(), "fPort": 1, "data": None}, Downlink(EUI, 1, b"")),
    ],
)  # fmt: skip
def test_chirpstack(payload: dict[str, Any], downlink: Downlink) -> None:
    assert read(CHIRPSTACK, json.dumps(payload).encode()) == Command(EUI, (downlink,))


def test_chirpstack_in_protobuf() -> None:
    assert read(CHIRPSTACK, IN_PROTOBUF) == Command(EUI, (Downlink(EUI, 10, DATA, True, "name"),))


def test_the_things_stack() -> None:
    told = {
        "downlinks": [
            {"f_port": 15, "frm_payload": "AQACWA==", "priority": "HIGH", "confirmed": True,
             "correlation_ids": ["mine"]},
            {"f_port": 16},
        ]
    }  # fmt: skip
    both = (Downlink(EUI, 15, DATA, True, "mine"), Downlink(EUI, 16, b""))
    assert read(PUSH, json.dumps(told).encode()) == Command(EUI, both)
    assert read(REPLACE, json.dumps(told).encode()) == Command(EUI, both, replace=True)
    assert read(REPLACE, b'{"downlinks":[]}') == Command(EUI, (), replace=True)


@pytest.mark.parametrize(
    ("topic", "payload", "cause"),
    [
        (CHIRPSTACK.replace("down", "up"), b"{}", "no topic of commands"),
        (f"application/a1/device/{EUI[1:]}/command/down", b"{}", "is no DevEUI"),
        (PUSH.replace(EUI, "pump"), b"{}", "is no DevEUI"),
        (CHIRPSTACK, b"{", "truncated"),
        (CHIRPSTACK, b'{"data":"AQ=="}', "fPort"),
        (CHIRPSTACK, b'{"fPort":224,"data":"AQ=="}', r"<= 223.*fPort"),
        (CHIRPSTACK, b'{"fPort":1,"data":"!"}', r"base64.*data"),
        (CHIRPSTACK, b'{"fPort":1,"object":{"siren":true}}', "needs a codec"),
        (CHIRPSTACK, b'{"fPort":1,"devEui":"0102030405060708"}', "is not the device of the topic"),
        (CHIRPSTACK, b"\x0a\xff", "byte 1"),
        (CHIRPSTACK, b"\x0a\x01\xff\x20\x01", "utf-8"),
        (CHIRPSTACK, b"\x08\xff\xff\xff\xff\x7f\x20\x01", r"`int`.*id"),
        (CHIRPSTACK, protowire.text(2, EUI), r">= 1.*fPort"),
        (PUSH, b'{"downlinks":[{"frm_payload":"AQ=="}]}', "f_port"),
        (PUSH, b'{"downlinks":{}}', "downlinks"),
    ],
)
def test_what_is_no_downlink_says_why(topic: str, payload: bytes, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        read(topic, payload)


def test_one_downlink_follows_each_uplink_in_order() -> None:
    first, second, third = (Downlink(EUI, port, b"") for port in (1, 2, 3))
    mailbox = Mailbox(limit=3)
    assert mailbox.take(EUI) is None
    assert mailbox.put(Command(EUI, (first, second))) == 0
    assert mailbox.put(Command("0" * 16, (third, third))) == 1
    assert [mailbox.take(EUI) for _ in range(3)] == [first, second, None]
    assert mailbox.put(Command(EUI, (first,))) == 0
    assert mailbox.put(Command(EUI, (second, third), replace=True)) == 0
    assert [mailbox.take(EUI) for _ in range(3)] == [second, third, None]
    assert (len(mailbox), mailbox.take("0" * 16), len(mailbox)) == (1, third, 0)


@pytest.mark.parametrize(
    ("codec", "port", "payload", "order"),
    [
        ("dragino-ldds75", 2, "0100003c", Order(interval_s=60.0)),
        ("dragino-ldds75", 2, "01000000", None),
        ("dragino-ldds75", 2, "04ff", None),
        ("milesight-em300", 85, "ff03b004", Order(interval_s=1200.0)),
        ("milesight-em300", 85, "ff02100eff03b004ff10ff", Order(interval_s=1200.0)),
        ("milesight-em300", 85, "ff10ff", None),
        ("milesight-em300", 85, "ff03b0", None),
        ("milesight-em300", 84, "ff03b004", None),
        ("decentlab-dl-tbrg", 1, "0002003CF5A1", Order(interval_s=60.0)),
        ("decentlab-dl-tbrg", 1, "0002012CA9A1", Order(interval_s=300.0)),
        ("decentlab-dl-tbrg", 1, "0002012CA9A2", None),
        ("cayenne-lpp", 1, "050101", Order(siren=True)),
        ("cayenne-lpp", 1, "050100", Order(siren=False)),
        ("cayenne-lpp", 99, "050064ff", Order(siren=True)),
        ("cayenne-lpp", 99, "050000ff", Order(siren=False)),
        ("cayenne-lpp", 1, "0302012c", None),
        ("cayenne-lpp", 1, "ff", None),
        ("vendor-other", 1, "0100003c", None),
    ],
)
def test_devices_obey(codec: str, port: int, payload: str, order: Order | None) -> None:
    assert obey(codec, port, bytes.fromhex(payload)) == order


def test_every_native_codec_has_a_device_that_understands_something() -> None:
    understood = [bytes.fromhex(payload) for payload in ("0100003c", "ff03b004", "0002003CF5A1", "050101")]
    for codec in load_codecs().ids():
        assert any(obey(codec, 85, payload) for payload in understood), codec
