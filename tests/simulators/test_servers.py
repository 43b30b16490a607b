"""The network servers' words have the fields and omissions of the real ones' samples."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import struct_pb2

from ingest.adapters.chirpstack_v4_schema import event_classes
from simulators.servers import Downlink, Format, Said, protowire
from simulators.servers.formats import FORMATS
from tests.samples import samples
from tests.transmissions import AT_GNSS, INDOORS, heard, transmission

SAMPLES = {sample.name: sample.body for sample in samples("chirpstack_v3", "chirpstack_v4", "tts_v3")}
DOWNLINK = Downlink("24e124136b502217", 85, b"\xff\x03\xb0\x04", True, "a-name")


def body(said: Said | None) -> dict[str, Any]:
    assert said is not None
    decoded: dict[str, Any] = json.loads(said[1])
    return decoded


def up(format_: Format, **changes: Any) -> dict[str, Any]:
    return body(FORMATS[format_].up(transmission(**changes)))


def test_chirpstack_4_0_leaves_every_default_out() -> None:
    sample: Any = SAMPLES["chirpstack_v4/up_v4_0_omitted_defaults"]
    zeros = up(
        "chirpstack-v4.0", f_cnt=0, adr=False, spreading_factor=12, channel=0,
        receptions=(heard(AT_GNSS, -71, 10.5, 26, 1),),
    )  # fmt: skip
    assert list(zeros) == list(sample)
    assert list(zeros["deviceInfo"]) == list(sample["deviceInfo"])
    (info,) = zeros["rxInfo"]
    assert info.keys() - sample["rxInfo"][0].keys() == {"timeSinceGpsEpoch", "location"}
    assert sample["rxInfo"][0].keys() <= info.keys()
    assert info["metadata"].keys() == sample["rxInfo"][0]["metadata"].keys()
    told = up("chirpstack-v4.0", confirmed=True)
    assert (told["fCnt"], told["dr"], told["adr"], told["confirmed"]) == (1174, 3, True, True)
    assert "time" not in told["rxInfo"][1]


def test_chirpstack_v3_has_the_fields_of_json_v3() -> None:
    sample: Any = SAMPLES["chirpstack_v3/up_json_v3"]
    got = up("chirpstack-v3")
    assert list(got) == list(sample)
    with_gnss, without = got["rxInfo"]
    assert list(with_gnss) == list(sample["rxInfo"][0])
    assert without["location"] is None
    assert "time" not in without
    assert with_gnss["uplinkID"] != without["uplinkID"]
    sent = transmission()
    for event, said in (("status", FORMATS["chirpstack-v3"].status), ("error", FORMATS["chirpstack-v3"].log)):
        assert said
        assert body(said(sent)).keys() == SAMPLES[f"chirpstack_v3/{event}"].keys()
    assert FORMATS["chirpstack-v3"].up(sent)[0] == "application/1/device/24e124136b502217/event/up"


@pytest.mark.parametrize("event", ["ack", "log"])
def test_chirpstack_v4_events(event: str) -> None:
    server, sent = FORMATS["chirpstack-v4"], transmission()
    assert server.log
    got = body(server.log(sent) if event == "log" else server.ack(sent, DOWNLINK, 3))
    sample: Any = SAMPLES["chirpstack_v4/" + {"log": "log_retransmission"}.get(event, event)]
    assert list(got) == list(sample)
    if event == "log":
        assert {name: got[name] for name in ("level", "code", "description")} == {
            name: sample[name] for name in ("level", "code", "description")
        }
        assert got["context"] == {
            "deduplication_id": "00010203-0405-4607-8809-0a0b0c0d0e0f", "f_cnt_up": "1174",
        }  # fmt: skip
    else:
        assert (got["queueItemId"], got["acknowledged"], got["fCntDown"]) == ("a-name", True, 3)


def test_the_things_stack_tells_of_a_confirmed_frame_and_its_acknowledgement() -> None:
    assert up("tts-v3", confirmed=True)["uplink_message"]["confirmed"] is True
    topic, said = FORMATS["tts-v3"].ack(transmission(), DOWNLINK, 3)
    assert topic.endswith("/devices/eui-24e124136b502217/down/ack")
    acknowledged = json.loads(said)["downlink_ack"]
    assert (acknowledged["f_cnt"], acknowledged["frm_payload"]) == (3, "/wOwBA==")
    assert acknowledged["correlation_ids"] == ["a-name"]


def test_protobuf_has_all_that_json_has() -> None:
    """Also the fields that Quantrac does not read: the object, the data rate, the region."""
    sent, in_json = transmission(), up("chirpstack-v4")
    fields = protowire.read(FORMATS["chirpstack-v4-protobuf"].up(sent)[1])
    thing = fields[11]
    assert isinstance(thing, bytes)
    assert dict(struct_pb2.Struct.FromString(thing)) == in_json["object"]
    assert (fields[6], fields[16]) == (in_json["dr"], in_json["regionConfigId"].encode())
    message = event_classes()["up"].FromString(FORMATS["chirpstack-v4-protobuf"].up(sent)[1])
    ours = {field.number for field, _ in message.ListFields()}
    assert fields.keys() - ours == {6, 11, 16}


@pytest.mark.parametrize("value", [None, True, False, 0, -1.5, "", "ấm", [1, "a", []], {"b": {"c": None}}])
def test_any_field_is_told_in_protobuf(value: Any) -> None:
    blob = protowire.fields(1, {"a": value})
    inner = protowire.read(blob)[1]
    assert isinstance(inner, bytes)
    told = struct_pb2.Struct.FromString(inner)
    assert json.loads(json.dumps(_plain(told)["a"])) == value


def _plain(value: Any) -> Any:
    if isinstance(value, struct_pb2.Struct):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, struct_pb2.ListValue):
        return [_plain(item) for item in value]
    return value


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2**28 - 1, 2**28, 2**35 - 1, 2**35, 2**63, -1, -118])
def test_numbers_of_the_wire(number: int) -> None:
    assert protowire.read(b"\x08" + protowire.varint(number)) == {1: number % 2**64}


@pytest.mark.parametrize("broken", ["0aff", "0a05aa", "08ff", "0b", "0d0000"])
def test_what_is_no_protobuf(broken: str) -> None:
    with pytest.raises(ValueError, match="byte "):
        protowire.read(bytes.fromhex(broken))


def test_no_time_of_a_gateway_without_gnss() -> None:
    only_indoors = (heard(INDOORS, -118, -7.25, 37, 5),)
    assert up("chirpstack-v4", receptions=only_indoors)["rxInfo"][0]["location"] == {}
    assert "time" not in up("tts-v3", receptions=only_indoors)["uplink_message"]["rx_metadata"][0]
