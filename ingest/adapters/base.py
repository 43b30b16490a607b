"""What every adapter shares: reading JSON strictly enough to trust it, loosely enough to live with it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import NamedTuple, TypeVar

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, Uplink

Parsed = Uplink | Event
T = TypeVar("T")
N = TypeVar("N", int, float)

SPREADING_FACTOR = (1, 12)
DECIBELS = (-1000.0, 1000.0)
"""What rssi and snr are believed within."""


class Adapter(NamedTuple):
    """One network server's format.

    `matches(topic, payload)` looks at the topic, and at the content where the topic does not tell;
    `parse` is pure and raises `BadMessage` when no uplink or event can be made of the message.
    """

    name: str
    matches: Callable[[str, bytes], bool]
    parse: Callable[[RawMessage], Parsed]


def decode_json(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """The payload as the decoder's type.

    Raises:
        BadMessage: empty, not UTF-8, not JSON, or a field of the wrong type; names the field's path.
    """
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as error:
        _, _, path = str(error).partition(" - at `")
        raise BadMessage(
            "wrong_type", str(error), field=path.rstrip("`").removeprefix("$.") or None
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = "empty" if not payload else "not_json"
        raise BadMessage(reason, f"payload is no JSON: {error}") from None


def decode_base64(text: str, field: str) -> bytes:
    """Bytes of a standard base64 text, padding optional.

    Raises:
        BadMessage: other characters, or a length no base64 text has (a truncated one).
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4) if "=" not in text else text, validate=True)
    except binascii.Error as error:
        raise BadMessage("bad_base64", f"{field}: {error}", field=field) from None


def hex_eui(text: str | None, field: str) -> str:
    """A DevEUI in our form: 16 lower-case hex digits; separators ``:``, ``-`` and blanks are dropped.

    Raises:
        BadMessage: missing, or no 64-bit identifier.
    """
    if not text:
        raise BadMessage("missing_field", f"{field}: missing", field=field)
    eui = text.lower().replace(":", "").replace("-", "").replace(" ", "")
    if len(eui) != 16 or any(c not in "0123456789abcdef" for c in eui):
        raise BadMessage("bad_dev_eui", f"{field}: {text[:64]!r} is no 64-bit identifier in hex", field=field)
    return eui


def in_range(value: int | None, field: str, highest: int) -> int | None:
    """The counter or port itself.

    Raises:
        BadMessage: negative or above `highest`.
    """
    if value is not None and not 0 <= value <= highest:
        raise BadMessage("out_of_range", f"{field}: {value} is not within 0…{highest}", field=field)
    return value


def within(value: N | None, lowest: float, highest: float) -> N | None:
    """The same for what is nice to know: None where no radio could have reported it."""
    return value if value is not None and lowest <= value <= highest else None


def integer(value: int | str | None, field: str) -> int | None:
    """Protobuf's JSON writes 64-bit integers as strings.

    Raises:
        BadMessage: a string that is no integer.
    """
    if value is None or isinstance(value, int):
        return value
    try:
        return int(value)
    except ValueError:
        raise BadMessage("wrong_type", f"{field}: {value[:32]!r} is no integer", field=field) from None


def parse_time(text: str | None, field: str) -> datetime | None:
    """An RFC 3339 time with up to nanoseconds, rounded to microseconds; None when absent or empty.

    Raises:
        BadMessage: not a time, one without an offset, or one that is in no year 1 to 9999 of UTC.
    """
    if not text:
        return None
    try:
        time = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise BadMessage("bad_time", f"{field}: {text[:64]!r} is no RFC 3339 time", field=field) from None
    if time.tzinfo is None:
        raise BadMessage("bad_time", f"{field}: {text[:64]!r} has no offset from UTC", field=field)
    if time.year in (MINYEAR, MAXYEAR):
        try:
            time.astimezone(UTC)
        except OverflowError:
            raise BadMessage(
                "bad_time", f"{field}: {text[:64]!r} is in no year 1 to 9999 of UTC", field=field
            ) from None
    return time


def time_or_none(text: str | None) -> datetime | None:
    """The same where a broken clock must not cost the measurement: a gateway's own time."""
    try:
        return parse_time(text, "")
    except BadMessage:
        return None
