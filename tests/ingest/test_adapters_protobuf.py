"""ChirpStack v4 in protobuf is read as its JSON is; ChirpStack's own bindings serialised the samples."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.adapters import chirpstack_v4, chirpstack_v4_protobuf, parse
from ingest.adapters.chirpstack_v4_schema import event_classes
from ingest.pipeline import parse as outcome_of
from telemetry.errors import BadMessage
from telemetry.model import Event, Gateway, RawMessage, Reject, Uplink, UplinkFlag, hash_key, message_key
from tests.samples import Sample, samples

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BINARY = {sample.name.split("/")[1]: sample for sample in samples("chirpstack_v4_protobuf")}
JSON = {sample.name.split("/")[1]: sample for sample in samples("chirpstack_v4")}
UP = BINARY["up_full"]
CLASSES = event_classes()


def raw(sample: Sample) -> RawMessage:
    return RawMessage(sample.topic, sample.payload, NOW)


def parsed(message: Any, topic: str = UP.topic) -> Uplink | Event:
    return parse(RawMessage(topic, message.SerializeToString(), NOW))


def full() -> Any:
    return CLASSES["up"].FromString(UP.payload)


def test_both_marshalers_have_the_same_samples() -> None:
    assert set(BINARY) == set(JSON)


@pytest.mark.parametrize("name", JSON)
def test_one_event_is_the_same_whichever_marshaler_brings_it(name: str) -> None:
    in_json, binary = parse(raw(JSON[name])), parse(raw(BINARY[name]))
    if in_json.dedup_key == message_key(raw(JSON[name])):
        # Events without an identity of their own: that of their own bytes.
        assert binary.dedup_key == message_key(raw(BINARY[name]))
        in_json = msgspec.structs.replace(in_json, dedup_key=binary.dedup_key)
    assert binary == in_json


def test_uplink() -> None:
    assert parse(raw(UP)) == Uplink(
        dedup_key=hash_key("chirpstack-v4", "up", "3ac7e3c4-4401-4b8d-9386-a5c902f9202d"),
        dev_eui="24e124136b502217",
        network="chirpstack-v4",
        payload=bytes.fromhex("01755c03673401046865050000"),
        time=datetime(2026, 3, 2, 9, 34, 15, 775023, tzinfo=UTC),
        ns_time=datetime(2026, 3, 2, 9, 34, 15, 801345, tzinfo=UTC),
        f_cnt=1174,
        f_port=85,
        dev_addr="00189440",
        flags=UplinkFlag.ADR,
        spreading_factor=7,
        frequency=867_100_000,
        gateways=(
            Gateway(
                "0016c001f153a14c",
                -71.0,
                10.5,
                datetime(2026, 3, 2, 9, 34, 15, 775023, tzinfo=UTC),
                53.5511,
                9.9937,
            ),
            Gateway("24e124fffef54092", -118.0, -7.25),
        ),
        origin={
            "name": "fridge-07",
            "application": "Cold chain",
            "tenant": "ChirpStack",
            "profile": "EM300-MLD",
        },
    )


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_of_32_bits_stay_themselves(value: float) -> None:
    assert _in_32_bits(chirpstack_v4_protobuf._shortest(value)) == value


@given(st.integers(-99_999, 99_999))
def test_numbers_of_32_bits_are_told_shortest(hundredths: int) -> None:
    assert chirpstack_v4_protobuf._shortest(_in_32_bits(hundredths / 100)) == hundredths / 100


def _in_32_bits(value: float) -> float:
    return float(CLASSES["status"](battery_level=value).battery_level)


def test_a_float_is_told_as_json_tells_it() -> None:
    up = full()
    up.rx_info[0].snr = 9.8
    got = parsed(up)
    assert isinstance(got, Uplink)
    assert got.gateways[0].snr == 9.8


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**60, 0), (-(2**60), 0), (1, -1), (1, 2_000_000_000), (253402300800, 0)]
)
def test_impossible_times(seconds: int, nanos: int) -> None:
    up = full()
    up.rx_info[0].gw_time.seconds, up.rx_info[0].gw_time.nanos = seconds, nanos
    got = parsed(up)
    assert isinstance(got, Uplink)
    assert got.gateways[0].time is None, "a gateway's clock must not cost the measurement"
    up.time.seconds, up.time.nanos = seconds, nanos
    with pytest.raises(BadMessage) as caught:
        parsed(up)
    assert (caught.value.reason, caught.value.field) == ("bad_time", "time")


def _without(name: str) -> Any:
    up = full()
    up.ClearField(name)
    return up


def test_missing_and_wrong_fields_go_by_their_json_names() -> None:
    for name, field in (("device_info", "deviceInfo"), ("deduplication_id", "deduplicationId")):
        with pytest.raises(BadMessage) as caught:
            parsed(_without(name))
        assert (caught.value.reason, caught.value.field) == ("missing_field", field)
    up = full()
    up.device_info.dev_eui = "24e1"
    with pytest.raises(BadMessage) as caught:
        parsed(up)
    assert (caught.value.reason, caught.value.field) == ("bad_dev_eui", "deviceInfo.devEui")
    up = full()
    up.f_port = 256
    with pytest.raises(BadMessage) as caught:
        parsed(up)
    assert (caught.value.reason, caught.value.field) == ("out_of_range", "fPort")


def test_what_is_still_encrypted_is_refused() -> None:
    up = full()
    up.join_server_context.session_key_id = "AXBSH1Pk6Z0G166RlH16CQ=="
    with pytest.raises(BadMessage) as caught:
        parsed(up)
    assert (caught.value.reason, caught.value.field) == ("encrypted", "joinServerContext")


def test_fields_of_later_versions_are_skipped() -> None:
    later = UP.payload + b"\xa2\x06\x05hello" + b"\xa8\x06\x01"  # fields 100 (text) and 101 (number)
    assert parse(RawMessage(UP.topic, later, NOW)) == parse(raw(UP))


def test_zero_is_told_in_events() -> None:
    body = CLASSES["status"].FromString(BINARY["status"].payload)
    body.margin = 0
    got = parsed(body, BINARY["status"].topic)
    assert isinstance(got, Event)
    assert (got.data["margin"], got.data["externalPowerSource"]) == (0, False)


def test_unknown_numbers_of_an_enumeration_stay_numbers() -> None:
    body = CLASSES["log"].FromString(BINARY["log_uplink_codec"].payload)
    body.code = 99
    got = parsed(body, BINARY["log_uplink_codec"].topic)
    assert isinstance(got, Event)
    assert (got.data["code"], got.data["level"]) == (99, "ERROR")


def test_txack_tells_its_transmission() -> None:
    got = parse(raw(BINARY["txack"]))
    assert isinstance(got, Event)
    told = got.data["txInfo"]
    assert told["modulation"]["lora"]["codeRate"] == "CR_4_5"  # type: ignore[index]
    assert told["timing"] == {"delay": {"delay": "1s"}}  # type: ignore[index]


def test_another_protobuf_on_the_topic_is_a_reject_that_says_what_to_set() -> None:
    version_3 = b"\x08\x7b\x12\x0acold-chain\x1a\x09fridge-07"
    reject = outcome_of(RawMessage(UP.topic, version_3, NOW), 262_144)
    assert isinstance(reject, Reject)
    assert reject.reason in ("not_protobuf", "missing_field")
    broken = outcome_of(RawMessage(UP.topic, UP.payload[:-5], NOW), 262_144)
    assert isinstance(broken, Reject)
    assert broken.reason == "not_protobuf"
    assert "json_v3" in broken.detail


@pytest.mark.parametrize("blank", [b"\n", b"\n\n  ", b" ", b"\r\n\t"])
def test_json_after_a_line_break_is_json(blank: bytes) -> None:
    sample = JSON["up_full"]
    payload = blank + sample.payload
    assert not chirpstack_v4_protobuf.matches(sample.topic, payload)
    assert chirpstack_v4.matches(sample.topic, payload)
    assert isinstance(parse(RawMessage(sample.topic, payload, NOW)), Uplink)


def test_the_declared_messages_are_chirpstacks() -> None:
    """Each sample, read by our declaration and written again, holds nothing that ChirpStack did not say."""
    for name, sample in BINARY.items():
        kind = sample.topic.rsplit("/", 1)[1]
        message = CLASSES[kind].FromString(sample.payload)
        assert CLASSES[kind].FromString(message.SerializeToString()) == message, name
