"""Trying a codec on one payload, and what it makes of unfriendly codecs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from decoders.device_types import parse_device_type
from decoders.javascript.workers import JsWorkers
from decoders.registry import Script
from ingest.trial import call_native, call_script, judge, read_payload
from telemetry.catalogue import CATALOGUE
from telemetry.errors import DecodeError, UsageError
from telemetry.plugin import Field

NOW = datetime(2026, 11, 21, 18, tzinfo=UTC)
TYPE = parse_device_type(
    {
        "id": "t", "vendor": "v", "model": "m", "codec": "c", "expected_interval": 60,
        "map": [
            {"field": "t", "metric": "air.temperature"},
            {"field": "mm", "metric": "water.level", "unit": "mm", "offset": {"variable": "zero"}},
            {"field": "t", "metric": "air.temperature", "records": {"list": "log", "time": "at"}},
        ],
    },
    CATALOGUE,
)  # fmt: skip


class Codec:
    """Gives or raises what it was made with."""

    id, version = "c", "1"

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def decode(self, f_port: int, payload: bytes) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("0b45", b"\x0b\x45"),
        ("0x0B 45", b"\x0b\x45"),
        ("0b:45\n", b"\x0b\x45"),
        ("BNI=", b"\x04\xd2"),
        ("abcd", b"\xab\xcd"),
        ("+/+/", b"\xfb\xff\xbf"),
        ("", b""),
    ],
)
def test_payloads_as_people_paste_them(text: str, payload: bytes) -> None:
    assert read_payload(text) == payload


@pytest.mark.parametrize("text", ["zz", "0b4", "BNI", "é", "00" * 4097])
def test_what_is_no_payload(text: str) -> None:
    with pytest.raises(UsageError, match=r"^payload: "):
        read_payload(text)


def test_readings_as_ingest_would_store_them() -> None:
    at = int(NOW.timestamp())
    fields = {"t": 99.5, "mm": 1500, "x": {"y": 1}, "log": [{"at": at - 60, "t": 21}, {"t": 1}]}
    trial = judge(call_native(Codec(fields), 1, b"x"), TYPE, NOW, {"zero": "2.5", "name": "a"})
    assert [(m.metric, m.value, m.quality, m.time == NOW) for m in trial.metrics] == [
        ("air.temperature", 99.5, 4, True),
        ("water.level", 4.0, 1, True),
        ("air.temperature", 21, 1, False),
    ]
    assert trial.unmapped == ["x"]
    assert trial.problems == ["log.1.at: a record without its time"]
    assert trial.fields == fields
    assert judge(call_native(Codec(fields), 1, b"x"), None, NOW, {}).metrics == []


@pytest.mark.parametrize(
    ("zero", "level"),
    [("2.5", 4.0), (True, 2.5), *((other, None) for other in (10**400, "nan", "inf", "a", None, []))],
)
def test_a_variable_is_a_number_that_a_device_may_have(zero: Any, level: float | None) -> None:
    trial = judge(call_native(Codec({"mm": 1500}), 1, b"x"), TYPE, NOW, {"zero": zero})
    assert [reading.value for reading in trial.metrics] == ([] if level is None else [level])
    assert trial.errors == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (DecodeError("too short"), "too short"),
        (ZeroDivisionError("x"), "ZeroDivisionError: x"),
        (SystemExit(3), "SystemExit: 3"),
        ([1], "cannot be used"),
        ({"a": object()}, "cannot be used"),
    ],
    ids=["refuses", "raises", "exits", "a list", "an object"],
)
def test_a_codec_that_misbehaves_is_told(answer: Any, told: str) -> None:
    trial = judge(call_native(Codec(answer), 1, b"x"), TYPE, NOW, {})
    assert trial.fields is None
    assert told in trial.errors[0]


def test_no_number_is_shown_as_it_is_kept() -> None:
    trial = judge(call_native(Codec({"t": math.nan}), 1, b"x"), TYPE, NOW, {})
    assert trial.fields == {"t": None}
    assert trial.problems == ["t: nan gives no finite air.temperature"]


def test_a_script_sees_texts_and_the_frames_time() -> None:
    source = """function decodeUplink(i) {
      return { data: { zero: i.variables.zero, at: i.recvTime, now: new Date() } };
    }"""
    with JsWorkers() as workers:
        outcome = call_script(workers, Script("s", "", source), 1, b"x", NOW, {"zero": 2.5})
    time = "2026-11-21T18:00:00.000Z"
    assert outcome.data == {"zero": "2.5", "at": time, "now": time}


def test_what_normalize_uplink_gives_is_shown() -> None:
    source = """
        function decodeUplink(i) { return {data: {t: 21.5, x: 1}}; }
        function normalizeUplink(i) {
            console.log('normalizing');
            return {data: [
                {air: {temperature: 1, relativeHumidity: 101}, soil: {n: 5}},
                {time: '2026-11-21T17:00:00Z', battery: 'x', water: {leak: 'true'}},
            ], warnings: ['old probe']};
        }"""
    with JsWorkers() as workers:
        outcome = call_script(workers, Script("c", "1", source), 1, b"x", NOW, {})
        trial = judge(outcome, TYPE, NOW, {})
        assert [(m.metric, m.value, m.unit, m.quality, m.time.hour) for m in trial.metrics] == [
            ("air.temperature", 21.5, "Cel", 1, 18),
            ("air.humidity", 101, "%", 4, 18),
            ("water.leak", 1, "1", 1, 17),
        ]
        assert trial.problems == [
            "normalizeUplink.1.battery: not a number: 'x'",
            "normalizeUplink: warning: old probe",
        ]
        assert trial.unmapped == ["x", "normalizeUplink.0.soil.n"]
        assert trial.console == ["normalizing"]
        assert trial.normalized[1]["battery"] == "x"
        alone = judge(outcome, None, NOW, {})
        assert next((m.metric, m.value) for m in alone.metrics) == ("air.temperature", 1)
        failing = Script(
            "c", "2", "function decodeUplink() { return {data: {t: 1}}; } function normalizeUplink() { x(); }"
        )
        trial = judge(call_script(workers, failing, 1, b"x", NOW, {}), TYPE, NOW, {})
        assert [m.metric for m in trial.metrics] == ["air.temperature"]
        assert (trial.errors, trial.normalized) == ([], None)
        assert trial.problems == ["normalizeUplink: ReferenceError: x is not defined (line 1)"]
