"""What the adapters make of the network servers' messages."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.adapters import parse
from ingest.pipeline import parse as outcome_of
from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, Reject, Uplink, UplinkFlag
from tests.samples import Sample, samples

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL = samples("chirpstack_v4", "tts_v3")
BY_NAME = {sample.name: sample for sample in ALL}
UP = BY_NAME["chirpstack_v4/up_full"]


def message(topic: str, payload: bytes) -> RawMessage:
    return RawMessage(topic, payload, NOW)


def of(sample: Sample) -> Uplink | Event:
    return parse(message(sample.topic, sample.payload))


def edited(sample: Sample, **changes: object) -> RawMessage:
    body = copy.deepcopy(sample.body)
    body.update(changes)
    return message(sample.topic, json.dumps(body).encode())


@pytest.mark.parametrize("sample", ALL, ids=lambda s: s.name)
def test_every_sample_is_an_uplink_or_the_event_of_its_topic(sample: Sample) -> None:
    got = of(sample)
    if sample.topic.endswith("/up"):
        assert isinstance(got, Uplink)
    else:
        assert isinstance(got, Event)
        assert sample.topic.endswith(got.kind)
    assert of(sample) == got


def test_chirpstack_uplink() -> None:
    up = of(UP)
    assert isinstance(up, Uplink)
    assert up.dev_eui == "24e124136b502217"
    assert up.payload == base64.b64decode("AXVcA2c0AQRoZQUAAA==")
    assert (up.f_cnt, up.f_port, up.dev_addr, up.frequency, up.spreading_factor) == (
        1174,
        85,
        "00189440",
        867100000,
        7,
    )
    assert up.flags == UplinkFlag.ADR
    assert up.time == datetime(2026, 3, 2, 9, 34, 15, 775023, tzinfo=UTC)
    assert up.ns_time == datetime(2026, 3, 2, 9, 34, 15, 801345, tzinfo=UTC)
    assert [g.id for g in up.gateways] == ["0016c001f153a14c", "24e124fffef54092"]
    assert up.best is not None
    assert up.best.rssi == -71
    assert up.gateways[1].latitude is None, "an empty location is not 0/0"
    assert up.origin == {
        "name": "fridge-07", "application": "Cold chain", "tenant": "ChirpStack", "profile": "EM300-MLD",
    }  # fmt: skip


def test_chirpstack_4_0_leaves_out_zeros() -> None:
    up = of(BY_NAME["chirpstack_v4/up_v4_0_omitted_defaults"])
    assert isinstance(up, Uplink)
    assert (up.f_cnt, up.flags, up.ns_time) == (0, UplinkFlag(0), None)
    assert up.gateways[0].time == datetime(2022, 9, 23, 2, 2, 6, 744554, tzinfo=UTC)


def test_chirpstack_status_without_battery_is_not_an_empty_battery() -> None:
    event = of(BY_NAME["chirpstack_v4/status_battery_unavailable"])
    assert isinstance(event, Event)
    assert event.data["batteryLevel"] is None
    assert event.data["margin"] == -3


def test_chirpstack_status_shares_its_uplinks_id_but_not_its_identity() -> None:
    status = of(BY_NAME["chirpstack_v4/status"])
    up = parse(edited(UP, deduplicationId=BY_NAME["chirpstack_v4/status"].body["deduplicationId"]))
    assert status.dedup_key != up.dedup_key


def test_tts_uplink() -> None:
    up = of(BY_NAME["tts_v3/up"])
    assert isinstance(up, Uplink)
    assert up.dev_eui == "70b3d52dd600035a"
    assert up.payload == base64.b64decode("sQAAEAHlANcB")
    assert (up.f_cnt, up.f_port, up.dev_addr, up.frequency, up.spreading_factor) == (
        14,
        2,
        "27fe87f6",
        867700000,
        7,
    )
    assert up.flags == UplinkFlag.CONFIRMED
    assert [g.id for g in up.gateways] == ["58a0cbfffe8052ec", "a84041ffff24a438"], "not 'packetbroker'"


def test_tts_leaves_out_zero_and_empty() -> None:
    up = of(BY_NAME["tts_v3/up_empty_omitted_zero"])
    assert isinstance(up, Uplink)
    assert (up.f_cnt, up.payload, up.f_port) == (0, b"", 8)


def test_tts_simulated_is_marked_and_another_frame_than_the_real_one() -> None:
    simulated, real = of(BY_NAME["tts_v3/up_simulated"]), of(BY_NAME["tts_v3/up"])
    assert isinstance(simulated, Uplink)
    assert simulated.flags & UplinkFlag.SIMULATED
    assert simulated.dedup_key != real.dedup_key


def test_events_without_an_id_of_their_own_are_told_apart_by_their_bytes() -> None:
    status = BY_NAME["chirpstack_v4/status"]
    one, other = (parse(edited(status, deduplicationId="", margin=margin)) for margin in (7, 8))
    assert one.dedup_key != other.dedup_key


def test_a_downlink_result_without_dev_eui_is_still_an_event() -> None:
    event = of(BY_NAME["tts_v3/down_failed"])
    assert isinstance(event, Event)
    assert event.dev_eui is None
    assert event.data["downlink_failed"]["error"]["name"] == "application_downlink_too_long"  # type: ignore[index]


def _deep() -> bytes:
    return b"[" * 100_000


TOPIC = UP.topic
BAD = [
    ("empty", TOPIC, b"", "empty", None),
    ("text", TOPIC, "nước lên".encode(), "not_json", None),
    ("cut", TOPIC, UP.payload[:200], "not_json", None),
    ("cut early", TOPIC, UP.payload[:20], "not_json", None),
    ("not utf-8", TOPIC, UP.payload.replace(b"fridge-07", b"fridge-\xff\xfe"), "not_json", None),
    ("deep", TOPIC, _deep(), "not_json", None),
    ("array", TOPIC, b"[1, 2]", "missing_field", "deviceInfo"),
    ("no device", TOPIC, b'{"data": "AA=="}', "missing_field", "deviceInfo"),
    ("unknown event", TOPIC.replace("/up", "/integration"), UP.payload, "unknown_event", "topic"),
    ("unknown topic", "house/kitchen", b'{"t": 21}', "unknown_format", None),
    ("other tts", "v3/app/devices/d/up", b'{"hello": 1}', "missing_field", "end_device_ids"),
]


@pytest.mark.parametrize(
    ("topic", "payload", "reason", "field"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_message_says_why(topic: str, payload: bytes, reason: str, field: str | None) -> None:
    reject = outcome_of(message(topic, payload), 262_144)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.field) == (reason, field)


EDITS = [
    ({"data": "AXVcA2c0AQRoZQUAAA="}, "bad_base64", "data"),
    ({"data": "****"}, "bad_base64", "data"),
    ({"data": 17}, "wrong_type", "data"),
    ({"fCnt": -1}, "out_of_range", "fCnt"),
    ({"fCnt": "7"}, "wrong_type", "fCnt"),
    ({"fCnt": 2**32}, "out_of_range", "fCnt"),
    ({"fPort": 256}, "out_of_range", "fPort"),
    ({"deduplicationId": ""}, "missing_field", "deduplicationId"),
    ({"time": "yesterday"}, "bad_time", "time"),
    ({"time": "2026-03-02T09:34:15"}, "bad_time", "time"),
    ({"time": "9999-12-31T23:59:59-12:00"}, "bad_time", "time"),
    ({"time": "0001-01-01T00:00:00+14:00"}, "bad_time", "time"),
    ({"deviceInfo": {"devEui": "24e1"}}, "bad_dev_eui", "deviceInfo.devEui"),
    ({"deviceInfo": {}}, "missing_field", "deviceInfo.devEui"),
    ({"rxInfo": {}}, "wrong_type", "rxInfo"),
    ({"joinServerContext": {"sessionKeyId": "x"}}, "encrypted", "joinServerContext"),
]


@pytest.mark.parametrize(
    ("changes", "reason", "field"), EDITS, ids=[f"{next(iter(e[0]))}={i}" for i, e in enumerate(EDITS)]
)
def test_bad_field_is_named(changes: dict[str, object], reason: str, field: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(edited(UP, **changes))
    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize("broken", ["not a time", "9999-12-31T23:59:59-12:00"])
def test_a_gateways_broken_clock_does_not_cost_the_measurement(broken: str) -> None:
    rx = [{**UP.body["rxInfo"][0], "gwTime": broken}]  # type: ignore[index]
    up = parse(edited(UP, rxInfo=rx))
    assert isinstance(up, Uplink)
    assert up.gateways[0].time is None


def test_a_message_over_the_limit_is_a_reject_that_names_the_setting() -> None:
    reject = outcome_of(edited(UP, object={"x": "y" * 1_000_000}), 262_144)
    assert isinstance(reject, Reject)
    assert reject.reason == "too_large"
    assert "QUANTRAC_MAX_MESSAGE" in reject.detail
    assert reject.dev_eui == "24e124136b502217"


@given(st.sampled_from(ALL), st.data())
def test_mutated_bytes_never_raise(sample: Sample, data: st.DataObject) -> None:
    payload = bytearray(sample.payload)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    assert isinstance(outcome_of(message(sample.topic, bytes(payload)), 262_144), Uplink | Event | Reject)
