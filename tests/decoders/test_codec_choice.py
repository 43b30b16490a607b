"""Which codec, and which version of it, decodes a frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from decoders.device_types import parse_device_type
from decoders.mapping import CodecChoice, DeviceType, choose_codec
from telemetry.errors import UsageError

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DATA = {"id": "acme", "vendor": "Acme", "model": "A", "codec": "acme", "expected_interval": 60, "map": []}


def device_type(*choices: dict[str, Any], **more: Any) -> DeviceType:
    return parse_device_type({**DATA, "codecs": list(choices), **more}, ())


def chosen(type_: DeviceType, firmware: str | None = None, time: datetime = JUNE) -> tuple[str, str | None]:
    choice = choose_codec(type_, firmware, time)
    return choice.codec, choice.version


def test_without_alternatives_the_types_codec() -> None:
    assert chosen(device_type(), "1.0") == ("acme", None)
    assert chosen(device_type(codec_version="0123456789abcdef")) == ("acme", "0123456789abcdef")


@pytest.mark.parametrize("firmware", ["1.2", "v1.2", " V1.2 "])
def test_by_firmware(firmware: str) -> None:
    type_ = device_type({"codec": "old", "firmware": "1.1"}, {"codec": "new", "firmware": "v1.2"})
    assert chosen(type_, firmware) == ("new", None)
    assert chosen(type_, "1.1") == ("old", None)
    assert chosen(type_, "1.20") == ("acme", None)
    assert chosen(type_, None) == ("acme", None)


def test_by_period() -> None:
    type_ = device_type(
        {"codec": "acme", "version": "b", "from": "2026-06-01T07:00:00+07:00", "to": "2026-06-02T00:00:00Z"},
        {"codec": "acme", "version": "a", "to": "2026-06-01T00:00:00Z"},
    )
    times = [JUNE - DAY, JUNE - timedelta(microseconds=1), JUNE, JUNE + DAY]
    assert [chosen(type_, "any", time)[1] for time in times] == ["a", "a", "b", None]
    assert chosen(type_, None, JUNE.astimezone(timezone(timedelta(hours=7))))[1] == "b"


def test_the_first_that_fits() -> None:
    type_ = device_type(
        {"codec": "both", "firmware": "2", "from": "2026-06-01T00:00:00Z"}, {"codec": "one", "firmware": "2"}
    )
    assert chosen(type_, "2", JUNE) == ("both", None)
    assert chosen(type_, "2", JUNE - DAY) == ("one", None)


def test_to_dict_is_what_was_read() -> None:
    told: list[dict[str, Any]] = [
        {"codec": "a", "version": "1", "firmware": "1.0"},
        {"codec": "b", "from": "2026-06-01T00:00:00+00:00", "to": "2026-06-02T00:00:00+00:00"},
    ]
    type_ = device_type(*told, codec_version="2")
    assert (type_.to_dict()["codecs"], type_.to_dict()["codec_version"]) == (told, "2")
    assert type_.codecs[0] == CodecChoice(codec="a", version="1", firmware="1.0")
    assert not device_type().to_dict().keys() & {"codecs", "codec_version"}


def test_a_device_whose_vendor_published_no_codec() -> None:
    assert device_type(codec="").to_dict()["codec"] == ""


@pytest.mark.parametrize(
    ("codecs", "message"),
    [
        ("a", "codecs: a list is needed, got 'a'"),
        ([{"codec": "a"}], "codecs[0]: a firmware, from or to is needed"),
        ([{"firmware": "1"}], "codecs[0].codec: is missing"),
        ([{"codec": "a", "firmwear": "1"}], "codecs[0].firmwear: unknown key (did you mean 'firmware'?)"),
        ([{"codec": "a", "firmware": 1.0}], "codecs[0].firmware: a text is needed, got 1.0"),
        ([{"codec": "a", "from": "2026-06-01T00:00"}], "codecs[0].from: a time with its zone is needed"),
        ([{"codec": "a", "from": "yesterday"}], "codecs[0].from: a time with its zone is needed"),
        ([{"codec": "a", "to": 3}], "codecs[0].to: a time with its zone is needed"),
        (
            [{"codec": "a", "from": "2026-06-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}],
            "codecs[0].to: 2026-06-01T00:00:00+00:00 is not after `from`",
        ),
    ],
)
def test_refuses(codecs: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_device_type({**DATA, "codecs": codecs}, ())
    assert any(line.startswith(message) for line in str(raised.value).splitlines()), str(raised.value)
