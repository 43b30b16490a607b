"""Nothing that tells whose a message is remains in it, and what is equal stays equal."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.pipeline import parse
from simulators.anonymise import Anonymiser, NotAnonymous
from simulators.message import Message
from telemetry.errors import UsageError
from telemetry.model import RawMessage, Reject, Uplink
from tests.samples import FOLDER, formats, samples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"0123456789abcdef"
JSON = [one for one in formats() if one != "chirpstack_v4_protobuf"]
# What the samples' identifiers stand under; written by hand from the samples, not from the code.
_IDENTIFYING = re.compile(
    r"eui|addr|name$|tenant|application_?id|device_?id|deviceSN|gateway|mac$|^id$|lrrid|customer|tags|site|key"
    r"|correlation|session|serial|dedup|queueItem|packet_|profileId|uplink_?ID|ns_id|^device$|^network$",
    re.IGNORECASE,
)
_PLACES = re.compile(r"lat|lon|lng|altitude", re.IGNORECASE)
_KEPT = {"brand_id", "model_id", "region_common_name", "region_config_id", "regionConfigId", "region_name"}
_HARMLESS = {"true", "false", "value", "test", "up", ""}


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one, path)
    elif value is not None and not isinstance(value, bool):
        yield path, value


def identifiers(sample: Any) -> set[str]:
    """Those of a sample, in all the ways they might be written."""
    found = set()
    for path, value in leaves(sample.body):
        inside = {"tags", "site"} & set(path[-2:])
        if isinstance(value, str) and (inside or _IDENTIFYING.search(path[-1])) and path[-1] not in _KEPT:
            found.add(value.lower())
            if len(value) in (8, 12) and value.endswith("="):
                found.add(b64decode(value).hex())
        if _PLACES.fullmatch(path[-1]) or path[-1] in ("latitude", "longitude", "LrrLAT", "LrrLON"):
            found.add(str(value))
    found |= {eui.lower() for eui in re.findall(r"[0-9a-fA-F]{16}", sample.topic)}
    return {one for one in found if len(one) >= 4 and one not in _HARMLESS and one not in ("0.0",)}


@pytest.mark.parametrize("format_", JSON)
def test_no_identifier_of_the_samples_remains(format_: str) -> None:
    anonymiser = Anonymiser(KEY)
    for sample in samples(format_):
        message = anonymiser.message(Message(sample.topic, sample.payload, NOW))
        text = f"{message.topic} {message.payload.decode()}".lower()
        told = identifiers(sample)
        assert told or sample.topic.startswith(("thingpark", "/")), sample.name
        assert not [one for one in told if one in text], sample.name


@pytest.mark.parametrize("format_", JSON)
def test_what_is_left_is_still_the_same_message(format_: str) -> None:
    anonymiser = Anonymiser(KEY)
    for sample in samples(format_):
        message = anonymiser.message(Message(sample.topic, sample.payload, NOW))
        then, now = (
            parse(RawMessage(m.topic, m.payload, NOW), 10**6)
            for m in (Message(sample.topic, sample.payload, NOW), message)
        )
        assert type(now) is type(then), (sample.name, now)
        if isinstance(then, Reject) or isinstance(now, Reject):
            continue
        assert now.time == then.time
        if isinstance(then, Uplink) and isinstance(now, Uplink):
            assert now.dev_eui != then.dev_eui
            for name in ("payload", "ns_time", "f_cnt", "f_port", "flags", "spreading_factor", "frequency"):
                assert getattr(now, name) == getattr(then, name), (sample.name, name)
            assert [(g.rssi, g.snr) for g in now.gateways] == [(g.rssi, g.snr) for g in then.gateways]
            for old, new in zip(then.gateways, now.gateways, strict=True):
                assert old.id != new.id
                if old.latitude and new.latitude is not None:
                    assert 0.01 < abs(new.latitude - old.latitude) < 0.1


def told(message: Message) -> Any:
    return json.loads(Anonymiser(KEY).message(message).payload)


def test_one_device_is_one_device_in_every_way_to_write_it() -> None:
    anonymiser = Anonymiser(KEY)
    alias = anonymiser.alias("24e124136b502217")
    assert re.fullmatch("[0-9a-f]{16}", alias)
    assert anonymiser.alias("24E124136B502217") == alias.upper()
    assert anonymiser.alias("24-e1-24-13-6b-50-22-17").replace("-", "") == alias
    assert anonymiser.alias("eui-24e124136b502217") == f"eui-{alias}"
    assert anonymiser.topic("application/1/device/24e124136b502217/event/up").split("/")[3] == alias
    assert told(Message("t", b'{"devEUI":"JOEkE2tQIhc="}', NOW))["devEUI"] != "JOEkE2tQIhc="
    assert b64decode(told(Message("t", b'{"devEUI":"JOEkE2tQIhc="}', NOW))["devEUI"]).hex() == alias
    assert Anonymiser(b"another key, as long").alias("24e124136b502217") != alias


def test_a_gateway_moves_by_one_distance_whoever_heard_it_and_hides_its_height() -> None:
    def place(device: str, latitude: float, gateway: str) -> float:
        rx = {"gatewayId": gateway, "location": {"latitude": latitude, "longitude": 106.9, "altitude": 31}}
        body = {"deviceInfo": {"devEui": device}, "rxInfo": [rx]}
        found = told(Message("t", json.dumps(body).encode(), NOW))["rxInfo"][0]["location"]
        assert "altitude" not in found
        return float(found["latitude"])

    moved = place("0000000000000001", 10.9, "a" * 16) - 10.9
    assert place("0000000000000002", 10.95, "A" * 16) - 10.95 == pytest.approx(moved, abs=2e-5)
    assert place("0000000000000001", 10.9, "b" * 16) - 10.9 != pytest.approx(moved, abs=1e-3)


def test_unknown_text_is_replaced_and_marks_stay() -> None:
    body = {
        "deviceInfo": {"devEui": "0" * 16, "tags": {"simulated": "true", "owner": "Trần Văn A"}},
        "object": {"temp": 21.5, "state": "ok", "status": "fine", "place": {"lat": 10.5, "lon": 0}},
        "0102030405060708": 1,
        "note": "call 0900",
        "source": "Bà Lan",
        "status": "seen by 0a0b0c0d0e0f0102",
        "payload": "Trạm Phú Hiệp",
    }
    found = told(Message("t", json.dumps(body).encode(), NOW))
    text = json.dumps(found, ensure_ascii=False)
    assert found["deviceInfo"]["tags"]["simulated"] == "true"
    assert found["object"]["temp"] == 21.5
    for word in ("Trần", "0102030405060708", "call", "Phú", "Lan", "0a0b0c", '"ok"', '"fine"', "10.5,"):
        assert word not in text, word


def test_what_nobody_can_read_is_not_let_through() -> None:
    for payload in (b"\x0a\x10abc", b"{not json", b'{"a":NaN}', b"[" * 5000):
        with pytest.raises(NotAnonymous):
            Anonymiser(KEY).message(Message("t", payload, NOW))
    with pytest.raises(UsageError, match="16 random"):
        Anonymiser(b"short")


def test_samples_are_there() -> None:
    assert FOLDER.is_dir()
    assert len(JSON) > 10
