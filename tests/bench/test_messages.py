"""The load is what the documentation says: size, readings, gateways, packets."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.messages import (
    DEVICE_TYPE,
    DEVICES,
    PACKET_IDS,
    READINGS,
    dev_eui,
    number_of,
    uplinks,
    write_corpus,
)
from decoders.builtin.cayenne_lpp.codec import CODEC
from decoders.device_types import builtin_device_types
from decoders.normalise import compile_mapping

BEGAN = 1_800_000_000_000_000_000


@pytest.fixture(scope="module")
def bodies() -> list[dict[str, Any]]:
    return [json.loads(payload) for _, payload in uplinks(0, 3 * DEVICES, BEGAN)]


@pytest.mark.parametrize("first", [0, 3_000_000])
def test_messages_have_1_to_1_5_kilobytes(first: int) -> None:
    sizes = [len(payload) for _, payload in uplinks(first, 2000, BEGAN)]
    assert min(sizes) >= 1000
    assert max(sizes) <= 1500


def test_every_frame_becomes_six_readings_of_what_chirpstack_decoded(bodies: list[dict[str, Any]]) -> None:
    normalise = compile_mapping(builtin_device_types()[DEVICE_TYPE])
    for body in bodies[:500]:
        values = normalise(CODEC.decode(body["fPort"], base64.b64decode(body["data"])), {}).values
        fields = body["object"]
        assert {(v.metric, v.channel): v.value for v in values} == {
            ("air.temperature", 0): fields["temperatureSensor"]["0"],
            ("air.humidity", 0): fields["humiditySensor"]["0"],
            ("air.pressure", 0): fields["barometer"]["0"],
            ("light.illuminance", 0): fields["illuminanceSensor"]["0"],
            ("air.temperature", 1): fields["temperatureSensor"]["1"],
            ("air.humidity", 1): fields["humiditySensor"]["1"],
        }
        assert len(values) == READINGS


def test_all_devices_send_and_one_to_three_gateways_hear(bodies: list[dict[str, Any]]) -> None:
    senders = Counter(body["deviceInfo"]["devEui"] for body in bodies)
    assert senders == {dev_eui(device): 3 for device in range(DEVICES)}
    assert {len(body["rxInfo"]) for body in bodies} == {1, 2, 3}
    assert len({body["deduplicationId"] for body in bodies}) == len(bodies)


def test_a_stored_frame_tells_which_message_it_was() -> None:
    for number, (_, payload) in enumerate(uplinks(5 * DEVICES - 3, 6, BEGAN), 5 * DEVICES - 3):
        body = json.loads(payload)
        assert number_of(body["fCnt"], body["deviceInfo"]["devEui"]) == number


def test_two_parts_of_the_load_share_no_message() -> None:
    one, other = (
        {json.loads(payload)["deduplicationId"] for _, payload in uplinks(first, 200, BEGAN)}
        for first in (0, 200)
    )
    assert not one & other


def test_packets_are_mqtt(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "packets", 7, 50, BEGAN)
    data = corpus.file.read_bytes()
    assert len(corpus) == 50
    assert corpus.offsets[-1] == len(data)
    for i, (topic, payload) in enumerate(uplinks(7, 50, BEGAN)):
        packet = data[corpus.offsets[i] : corpus.offsets[i + 1]]
        assert packet[0] == 0x32  # PUBLISH, QoS 1
        assert packet[1] & 0x7F | packet[2] << 7 == len(packet) - 3
        size = int.from_bytes(packet[3:5])
        assert packet[5 : 5 + size].decode() == topic
        assert int.from_bytes(packet[5 + size : 7 + size]) == i % PACKET_IDS + 1
        assert packet[7 + size :] == payload
