"""Exactly one adapter takes a message, and the one whose format it is."""

from __future__ import annotations

import pytest

from ingest.adapters import ADAPTERS
from tests.samples import Sample, formats, samples

ALL = samples(*formats())
OF_FOLDER = {
    "actility_thingpark": "actility-thingpark",
    "aws_iot_lorawan": "aws-iot-lorawan",
    "chirpstack_v3": "chirpstack-v3",
    "chirpstack_v4": "chirpstack-v4",
    "chirpstack_v4_protobuf": "chirpstack-v4-protobuf",
    "everynet": "everynet",
    "helium_console": "helium-console",
    "kerlink_wmc": "kerlink-wmc",
    "loriot": "loriot",
    "milesight_gateway": "milesight-gateway",
    "senet": "senet",
    "tts_v3": "tts-v3",
}
TOPICS = [*sorted({sample.topic for sample in ALL}), "uplink", "application/1/device/24e124136b502217/rx"]


def taken_by(topic: str, payload: bytes) -> list[str]:
    return [adapter.name for adapter in ADAPTERS if adapter.matches(topic, payload)]


def test_every_adapter_has_samples_and_a_name_of_its_own() -> None:
    names = [adapter.name for adapter in ADAPTERS]
    assert sorted(names) == sorted(set(names))
    assert set(names) == set(OF_FOLDER.values())
    assert set(formats()) == set(OF_FOLDER)


@pytest.mark.parametrize("sample", ALL, ids=lambda s: s.name)
def test_exactly_the_right_adapter_takes_it(sample: Sample) -> None:
    assert taken_by(sample.topic, sample.payload) == [OF_FOLDER[sample.name.split("/")[0]]]


@pytest.mark.parametrize("sample", ALL, ids=lambda s: s.name)
def test_on_anybody_elses_topic_there_is_still_no_second_taker(sample: Sample) -> None:
    for topic in TOPICS:
        assert len(taken_by(topic, sample.payload)) <= 1, topic


FREE = [s for s in ALL if OF_FOLDER[s.name.split("/")[0]] not in ("tts-v3",) and "chirpstack" not in s.name]


@pytest.mark.parametrize("sample", FREE, ids=lambda s: s.name)
def test_servers_with_free_topics_are_told_by_content_alone(sample: Sample) -> None:
    for topic in ("uplink", "v3/app/devices/d/up", "a/b/c/d/e", "/lora"):
        assert taken_by(topic, sample.payload) == [OF_FOLDER[sample.name.split("/")[0]]]
