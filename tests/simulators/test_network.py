"""Messages: the shape of the real servers' samples, marked simulated, with gateways, loss and repeats."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulators.scenario import Scenario

DATA = Path(__file__).with_name("data")
Lines = list[dict[str, Any]]


def _sample(name: str) -> dict[str, Any]:
    sample: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))["payload"]
    return sample


def _of(lines: Lines, ending: str) -> Lines:
    found = [line for line in lines if line["topic"].endswith(ending)]
    assert found
    return found


def _assert_shape(got: Any, sample: Any, path: str = "", free: tuple[str, ...] = ()) -> None:
    """Every key of `got` is in the sample with a value of the same type; below the `free` paths all goes."""
    if path in free:
        return
    if isinstance(sample, dict):
        assert isinstance(got, dict), path
        assert got.keys() <= sample.keys(), f"{path}: {got.keys() - sample.keys()}"
        for key, value in got.items():
            _assert_shape(value, sample[key], f"{path}.{key}", free)
    elif isinstance(sample, list):
        merged: Any = {}
        for item in sample:
            if isinstance(item, dict):
                merged = {key: value for key, value in item.items() if value != {}} | merged
        for item in got:
            _assert_shape(item, merged or sample[0], f"{path}[]", free)
    elif isinstance(sample, bool) or isinstance(got, bool):
        assert type(got) is type(sample), path
    elif isinstance(sample, int | float):
        assert isinstance(got, int | float), path
    else:
        assert type(got) is type(sample), path


def test_chirpstack_up_has_the_fields_of_4_11(flood_lines: Lines) -> None:
    sample = _sample("chirpstack_v4_up_full")
    for line in _of(flood_lines, "/event/up"):
        body = line["body"]
        assert list(body) == list(sample)
        assert body["deviceInfo"].keys() == sample["deviceInfo"].keys()
        _assert_shape(body, sample, free=(".object", ".deviceInfo.tags"))
        assert body["deviceInfo"]["devEui"] in line["topic"]
        assert base64.b64decode(body["data"])


@pytest.mark.parametrize("event", ["join", "status"])
def test_chirpstack_events(flood_lines: Lines, event: str) -> None:
    sample = _sample(f"chirpstack_v4_{event}")
    for line in _of(flood_lines, f"/event/{event}"):
        assert line["body"].keys() == sample.keys()
        _assert_shape(line["body"], sample, free=(".deviceInfo.tags",))


def test_tts_up_is_of_the_samples_shape(flood_lines: Lines) -> None:
    sample = _sample("tts_v3_up") | {"simulated": True}
    for line in _of(flood_lines, "/up"):
        if not line["topic"].startswith("v3/"):
            continue
        body = line["body"]
        _assert_shape(body, sample, free=(".uplink_message.decoded_payload",))
        uplink = body["uplink_message"]
        assert uplink["settings"]["frequency"].isdigit()
        assert body["end_device_ids"]["dev_eui"] == body["end_device_ids"]["dev_eui"].upper()
        assert line["topic"].split("/")[3] == body["end_device_ids"]["device_id"]
        assert body["end_device_ids"]["dev_eui"].lower() in line["topic"]


def test_tts_join(flood_lines: Lines) -> None:
    sample = _sample("tts_v3_join_accept") | {"simulated": True}
    for line in _of(flood_lines, "/join"):
        if line["topic"].startswith("v3/"):
            _assert_shape(line["body"], sample)


def test_tts_leaves_out_what_is_zero(flood_lines: Lines) -> None:
    first: dict[str, dict[str, Any]] = {}
    for line in flood_lines:
        if line["topic"].startswith("v3/") and line["topic"].endswith("/up"):
            first.setdefault(line["topic"], line["body"]["uplink_message"])
    assert any("f_cnt" not in uplink for uplink in first.values())
    for line in flood_lines:
        if "uplink_message" in line["body"]:
            uplink = line["body"]["uplink_message"]
            kept = {k: v for k, v in uplink.items() if k != "decoded_payload"}
            assert not _defaults(kept)


def _defaults(value: Any) -> bool:
    if isinstance(value, dict):
        return not value or any(_defaults(item) for item in value.values())
    if isinstance(value, list):
        return not value or any(_defaults(item) for item in value)
    return value in (0, "", False)


def test_chirpstack_leaves_zeros_out_of_rx_info_only(flood_lines: Lines) -> None:
    ups = _of(flood_lines, "/event/up")
    assert any(line["body"]["fCnt"] == 0 for line in ups)
    for line in ups:
        for info in line["body"]["rxInfo"]:
            assert info.get("channel", 1)
            assert info.get("rfChain", 1)
            assert ("gwTime" in info) == bool(info["location"])


def test_every_message_is_marked_simulated(flood_lines: Lines) -> None:
    for line in flood_lines:
        body = line["body"]
        assert body.get("simulated") is True or body["deviceInfo"]["tags"] == {"simulated": "true"}


def test_every_device_joins_first(flood: Scenario, flood_lines: Lines) -> None:
    seen: dict[str, str] = {}
    for line in flood_lines:
        seen.setdefault(line["topic"].rsplit("/", 1)[0], line["topic"].rsplit("/", 1)[1])
    assert len(seen) == len(flood.devices)
    assert set(seen.values()) == {"join"}


def test_status_shares_the_id_of_its_uplink(flood_lines: Lines) -> None:
    ups = {line["body"]["deduplicationId"] for line in _of(flood_lines, "/event/up")}
    for line in _of(flood_lines, "/event/status"):
        assert line["body"]["deduplicationId"] in ups


def test_repeats_are_identical_and_all_else_differs(flood_lines: Lines) -> None:
    counts = Counter((line["topic"], line["payload"]) for line in flood_lines)
    assert set(counts.values()) == {1, 2}
    twice = sum(count == 2 for count in counts.values()) / len(counts)
    assert 0.01 < twice < 0.06
    events = Counter(
        (line["topic"], line["body"]["deduplicationId"])
        for line in {line["payload"]: line for line in flood_lines}.values()
        if "deduplicationId" in line["body"]
    )
    assert set(events.values()) == {1}


def test_lost_frames_leave_gaps_in_the_counter(flood_lines: Lines) -> None:
    counters: dict[str, list[int]] = {}
    for line in _of(flood_lines, "/event/up"):
        counters.setdefault(line["topic"], []).append(line["body"]["fCnt"])
    lost = sent = 0
    for numbers in counters.values():
        assert numbers == sorted(numbers)
        lost += numbers[-1] + 1 - len(set(numbers))
        sent += numbers[-1] + 1
    assert 0 < lost / sent < 0.05


def test_several_gateways_hear_a_frame_the_loudest_first(flood_lines: Lines) -> None:
    heard = [
        [i["snr"] for i in line["body"]["rxInfo"] if "snr" in i] for line in _of(flood_lines, "/event/up")
    ]
    assert sum(len(snrs) > 1 for snrs in heard) > 50
    assert all(snrs == sorted(snrs, reverse=True) for snrs in heard)
    for line in _of(flood_lines, "/event/up"):
        assert all(-140 <= info["rssi"] <= -40 for info in line["body"]["rxInfo"])


def test_stamps_lie_before_the_publishing(flood_lines: Lines) -> None:
    for line in flood_lines:
        published = datetime.fromisoformat(line["time"])
        body = line["body"]
        own = datetime.fromisoformat(body.get("time") or body["received_at"])
        assert timedelta(0) < published - own < timedelta(seconds=0.5)


@pytest.mark.parametrize(("fmt", "start"), [("chirpstack-v4", "application/"), ("tts-v3", "v3/")])
def test_one_format_for_all(flood: Scenario, record: Callable[..., Lines], fmt: str, start: str) -> None:
    assert all(line["topic"].startswith(start) for line in record(flood, fmt=fmt))
