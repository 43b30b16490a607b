"""Broken messages of every format: a reject that names the field, and never anything else."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters import parse
from ingest.adapters.base import hertz
from ingest.pipeline import parse as outcome_of
from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, Reject, Uplink
from tests.samples import Sample, formats, samples

from .servers import BY_NAME, raw

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL = samples(*formats())
JSON = [sample for sample in ALL if sample.body]
UP = "DevEUI_uplink__"
AWS = "WirelessMetadata__LoRaWAN__"
DELETED = object()
BAD: list[tuple[str, str, Any, str, str]] = [
    ("chirpstack_v3/up_json_v3", "devEUI", "", "missing_field", "devEUI"),
    ("chirpstack_v3/up_json_v3", "devEUI", "24e1", "bad_dev_eui", "devEUI"),
    ("chirpstack_v3/up_json_v3", "devEUI", 7, "wrong_type", "devEUI"),
    ("chirpstack_v3/up_json_v3", "data", "AXVcA2c0A", "bad_base64", "data"),
    ("chirpstack_v3/up_json_v3", "fCnt", -1, "out_of_range", "fCnt"),
    ("chirpstack_v3/up_json_v3", "fCnt", 2**70, "out_of_range", "fCnt"),
    ("chirpstack_v3/up_json_v3", "fPort", 256, "out_of_range", "fPort"),
    ("chirpstack_v3/up_json_v3", "rxInfo", {}, "wrong_type", "rxInfo"),
    ("chirpstack_v3/up_json_v3", "rxInfo__0__rssi", "loud", "wrong_type", "rxInfo[0].rssi"),
    ("chirpstack_v3/up_json_v3", "txInfo__frequency", 2**31, "out_of_range", "txInfo.frequency"),
    ("chirpstack_v3/up_json_protobuf", "devEUI", "JOEkE2tQ!hc=", "bad_base64", "devEUI"),
    ("chirpstack_v3/up_json_protobuf", "devAddr", "AF!5Qg==", "bad_base64", "devAddr"),
    ("chirpstack_v3/up_json_protobuf", "publishedAt", "today", "bad_time", "publishedAt"),
    ("chirpstack_v3/up_json_protobuf", "rxInfo__0__uplinkID", "jhM=h8==", "bad_base64", "rxInfo[0].uplinkID"),
    ("chirpstack_v3/status", "devEUI", "", "missing_field", "devEUI"),
    ("helium_console/up", "dev_eui", "", "missing_field", "dev_eui"),
    ("helium_console/up", "payload", "SGVsbG8sIHdvcmxkI!", "bad_base64", "payload"),
    ("helium_console/up", "fcnt", 2**32, "out_of_range", "fcnt"),
    ("helium_console/up", "port", "1", "wrong_type", "port"),
    ("helium_console/up", "reported_at", 1e300, "bad_time", "reported_at"),
    ("helium_console/up", "hotspots__0__frequency", 1e300, "out_of_range", "hotspots[0].frequency"),
    ("actility_thingpark/up", UP + "DevEUI", DELETED, "missing_field", "DevEUI_uplink.DevEUI"),
    ("actility_thingpark/up", UP + "payload_hex", "9e184", "bad_hex", "DevEUI_uplink.payload_hex"),
    ("actility_thingpark/up", UP + "payload_hex", "9e18xx", "bad_hex", "DevEUI_uplink.payload_hex"),
    ("actility_thingpark/up", UP + "FCntUp", "many", "wrong_type", "DevEUI_uplink.FCntUp"),
    ("actility_thingpark/up", UP + "FPort", "300", "out_of_range", "DevEUI_uplink.FPort"),
    ("actility_thingpark/up", UP + "Time", "2024-12-17 09:16", "bad_time", "DevEUI_uplink.Time"),
    ("actility_thingpark/up", UP + "Time", "2024-12-17T09:16:55.911", "bad_time", "DevEUI_uplink.Time"),
    ("actility_thingpark/up", UP + "Frequency", "nan", "wrong_type", "DevEUI_uplink.Frequency"),
    ("actility_thingpark/up", UP + "PayloadEncryption", 1, "encrypted", "DevEUI_uplink.PayloadEncryption"),
    ("loriot/rx", "EUI", "", "missing_field", "EUI"),
    ("loriot/rx", "cmd", "", "missing_field", "cmd"),
    ("loriot/rx", "data", "0102AAB", "bad_hex", "data"),
    ("loriot/rx", "ts", 10**30, "bad_time", "ts"),
    ("loriot/gw", "gws", "none", "wrong_type", "gws"),
    ("aws_iot_lorawan/up", AWS + "DevEui", DELETED, "missing_field", "WirelessMetadata.LoRaWAN.DevEui"),
    ("aws_iot_lorawan/up", AWS + "DevEui", "58a0", "bad_dev_eui", "WirelessMetadata.LoRaWAN.DevEui"),
    ("aws_iot_lorawan/up", AWS + "Frequency", "8 MHz", "wrong_type", "WirelessMetadata.LoRaWAN.Frequency"),
    ("aws_iot_lorawan/up", AWS + "Timestamp", "2021", "bad_time", "WirelessMetadata.LoRaWAN.Timestamp"),
    ("aws_iot_lorawan/up", "PayloadData", "Cc48A", "bad_base64", "PayloadData"),
    ("aws_iot_lorawan/up", "WirelessMetadata", {}, "missing_field", "WirelessMetadata.LoRaWAN"),
    ("milesight_gateway/up", "devEUI", "24e1", "bad_dev_eui", "devEUI"),
    ("milesight_gateway/up", "data", DELETED, "missing_field", "data"),
    ("milesight_gateway/up", "time", "27/12/2022", "bad_time", "time"),
    ("milesight_gateway/up", "applicationID", [], "wrong_type", "applicationID"),
    ("kerlink_wmc/dataUp", "endDevice", None, "missing_field", "endDevice"),
    ("kerlink_wmc/dataUp", "endDevice__devEui", "", "missing_field", "endDevice.devEui"),
    ("kerlink_wmc/dataUp", "payload", "002", "bad_hex", "payload"),
    ("kerlink_wmc/dataUp", "encodingType", "ROT13", "wrong_type", "encodingType"),
    ("kerlink_wmc/dataUp", "encrypted", True, "encrypted", "encrypted"),
    ("kerlink_wmc/dataUp", "gwRecvTime", 1e200, "bad_time", "gwRecvTime"),
    ("everynet/uplink", "meta", None, "missing_field", "meta"),
    ("everynet/uplink", "params", None, "missing_field", "params"),
    ("everynet/uplink", "type", "", "missing_field", "type"),
    ("everynet/uplink", "meta__device", None, "missing_field", "meta.device"),
    ("everynet/uplink", "params__payload", None, "encrypted", "params.encrypted_payload"),
    ("everynet/uplink", "params__payload", "DQx/D", "bad_base64", "params.payload"),
    ("everynet/uplink", "params__rx_time", "now", "wrong_type", "params.rx_time"),
    ("senet/up", "devEui", "", "missing_field", "devEui"),
    ("senet/up", "seqno", None, "missing_field", "seqno"),
    ("senet/up", "pdu", "0", "bad_hex", "pdu"),
    ("senet/up", "txtime", "2019-09-03", "bad_time", "txtime"),
]


@pytest.mark.parametrize(
    ("name", "path", "value", "reason", "field"), BAD, ids=[f"{b[0]}-{b[1]}-{i}" for i, b in enumerate(BAD)]
)
def test_bad_field_is_named(name: str, path: str, value: Any, reason: str, field: str) -> None:
    sample = BY_NAME[name]
    message = _without(sample, path) if value is DELETED else raw(sample, **{path: value})
    with pytest.raises(BadMessage) as caught:
        parse(message)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def _without(sample: Sample, path: str) -> RawMessage:
    body: Any = copy.deepcopy(sample.body)
    *way, last = path.split("__")
    place = body
    for step in way:
        place = place[step]
    del place[last]
    return RawMessage(sample.topic, json.dumps(body).encode(), NOW)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"DevEUI_multicast_summary": {}}, "unknown_event"),
        ({"devEUI": "24e124136b502217", "applicationID": 1}, "unknown_event"),
    ],
)
def test_a_kind_of_message_nobody_knows(body: dict[str, object], reason: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(RawMessage("uplink", json.dumps(body).encode(), NOW))
    assert caught.value.reason == reason


def test_milesight_says_what_to_set_when_only_decoded_values_come() -> None:
    with pytest.raises(BadMessage, match="base64"):
        parse(_without(BY_NAME["milesight_gateway/up"], "data"))


@pytest.mark.parametrize("sample", JSON, ids=lambda s: s.name)
@pytest.mark.parametrize("value", [{}, [], 1, True, "x"], ids=repr)
def test_bodies_of_another_shape(sample: Sample, value: Any) -> None:
    for key in sample.body:
        _check(sample.topic, json.dumps({**sample.body, key: value}).encode())


@pytest.mark.parametrize("sample", ALL, ids=lambda s: s.name)
def test_cut_at_every_byte(sample: Sample) -> None:
    for end in range(len(sample.payload)):
        _check(sample.topic, sample.payload[:end])


@pytest.mark.parametrize("sample", JSON, ids=lambda s: s.name)
def test_nested_too_deeply_is_no_json(sample: Sample) -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    for at in (b"{", b'{"x": '):
        payload = at + (b'"x": ' if at == b"{" else b"") + deep + b", " + sample.payload[1:]
        reject = outcome_of(RawMessage(sample.topic, payload, NOW), 1_000_000)
        assert isinstance(reject, Reject)
        assert reject.reason == "not_json"


DOCUMENTED = set(
    re.findall(
        r"^\| `(\w+)` \|",
        Path("docs/reference/messages.md").read_text(encoding="utf-8").partition("## Rejects")[2],
        re.MULTILINE,
    )
)


def _check(topic: str, payload: bytes) -> None:
    outcome = outcome_of(RawMessage(topic, payload, NOW), 262_144)
    assert isinstance(outcome, Uplink | Event | Reject)
    if isinstance(outcome, Reject):
        assert outcome.reason in DOCUMENTED - {"adapter_failed"}, outcome.detail
        assert outcome.detail
    elif isinstance(outcome, Uplink):
        assert re.fullmatch("[0-9a-f]{16}", outcome.dev_eui)
        assert outcome.f_port is None or 0 <= outcome.f_port <= 255
        assert outcome.f_cnt is None or 0 <= outcome.f_cnt < 2**32
        assert all(time is None or time.tzinfo for time in (outcome.time, outcome.ns_time))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        ["", "x", "=", "AA=", "0", "-1", "nan", "1e999", "٣", "\ud800", "\x00", "0001-01-01T00:00:00+14:00"]
    ),
    st.sampled_from([0, -1, 255, 256, 2**31, 2**32, 2**63, 2**64, 10**400, 1.5, 1e308, -1e308, 0.1]),
    st.sampled_from([[], {}, [[]], [None], [1, "a"], {"": None}, [[[[[]]]]]]),
    st.text(max_size=30),
    st.integers(),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inner for found in [(*path, key), *_places(item, (*path, key))]]


PLACES = {sample.name: _places(sample.body) for sample in JSON}


@pytest.mark.parametrize("megahertz", [-1e308, -0.5, 1e308])
def test_a_frequency_that_is_none(megahertz: float) -> None:
    with pytest.raises(BadMessage):
        hertz(megahertz, "freq")


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_mutated_fields_never_raise(data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(JSON))
    body: Any = copy.deepcopy(sample.body)
    for *way, last in data.draw(st.lists(st.sampled_from(PLACES[sample.name]), min_size=1, max_size=4)):
        place = body
        for step in way:
            place = place[step] if _has(place, step) else None
        if not _has(place, last):
            continue
        change = data.draw(st.sampled_from(["set", "drop", "cut"]))
        if change == "drop" and isinstance(place, dict):
            del place[last]
        elif change == "cut" and isinstance(place[last], str):
            place[last] = place[last][: data.draw(st.integers(0, len(place[last])))]
        else:
            place[last] = copy.deepcopy(data.draw(ODD))  # drawn again, it would hold earlier changes
    _check(sample.topic, json.dumps(body).encode())


def _has(place: Any, step: Any) -> bool:
    if isinstance(place, dict):
        return step in place
    return isinstance(place, list) and isinstance(step, int) and step < len(place)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(ALL), st.data())
def test_mutated_bytes_never_raise(sample: Sample, data: st.DataObject) -> None:
    payload = bytearray(sample.payload)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(payload) - 1))
        match data.draw(st.sampled_from(["set", "insert", "cut"])):
            case "set":
                payload[at] = data.draw(st.integers(0, 255))
            case "insert":
                payload[at:at] = data.draw(st.binary(max_size=8))
            case "cut":
                del payload[at : at + data.draw(st.integers(0, 8))]
        if not payload:
            break
    _check(sample.topic, bytes(payload))
