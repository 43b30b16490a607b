"""What every adapter shares: reading JSON strictly enough to trust it, loosely enough to live with it."""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Callable, Container
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import msgspec

from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, Uplink, message_key

from ..text import clean

Parsed = Uplink | Event
T = TypeVar("T")
N = TypeVar("N", int, float)

_HEX = "0123456789abcdef"
SPREADING_FACTOR = (1, 12)
DECIBELS = (-1000.0, 1000.0)
"""What rssi and snr are believed within."""
HIGHEST_FREQUENCY = 0x7FFFFFFF
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
_VALUE = msgspec.json.Decoder()
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPREADING = re.compile(r"\s*SF(\d{1,2})")


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


def decode_leniently(text: bytes) -> Any:
    """A JSON value; numbers that no float holds are infinite, what is not UTF-8 is U+FFFD."""
    try:
        return _VALUE.decode(text)
    except ValueError:
        return json.loads(text.decode("utf-8", "replace"), parse_int=float)


def decode_base64(text: str, field: str) -> bytes:
    """Bytes of a standard base64 text, padding optional.

    Raises:
        BadMessage: other characters, or a length no base64 text has (a truncated one).
    """
    try:
        return binascii.a2b_base64(text if "=" in text else text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError as error:
        raise BadMessage("bad_base64", f"{field}: {error}", field=field) from None


def hex_eui(text: str | None, field: str) -> str:
    """A DevEUI in our form: 16 lower-case hex digits; separators ``:``, ``-`` and blanks are dropped.

    Raises:
        BadMessage: missing, or no 64-bit identifier.
    """
    if not text:
        raise BadMessage("missing_field", f"{field}: missing", field=field)
    if len(text) == 16 and not text.strip(_HEX):
        return text
    eui = text.lower().replace(":", "").replace("-", "").replace(" ", "")
    if len(eui) != 16 or eui.strip(_HEX):
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


def required(value: T | None, field: str) -> T:
    """The value itself.

    Raises:
        BadMessage: None or an empty text.
    """
    if value is None or value == "":
        raise BadMessage("missing_field", f"{field}: missing", field=field)
    return value


def decode_hex(text: str, field: str) -> bytes:
    """Bytes of a text of hex digits.

    Raises:
        BadMessage: other characters, or an odd number of digits (a truncated one).
    """
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadMessage("bad_hex", f"{field}: {error}", field=field) from None


def number(value: float | str | None, field: str) -> float | None:
    """A finite number; some servers write it as a text.

    Raises:
        BadMessage: a text that is no number, or one no float holds.
    """
    if value is None or value == "":
        return None
    try:
        told = float(value)
    except (ValueError, OverflowError):
        told = math.nan
    if not math.isfinite(told):
        raise BadMessage("wrong_type", f"{field}: {str(value)[:32]!r} is no number", field=field)
    return told


def decibels(value: float | str | None) -> float | None:
    """An rssi or snr; None where no radio could have reported it, which must not cost the measurement."""
    try:
        return within(number(value, ""), *DECIBELS)
    except BadMessage:
        return None


def hertz(megahertz: float | str | None, field: str) -> int | None:
    """A frequency told in MHz, as whole Hz.

    Raises:
        BadMessage: no number, negative, or above what the store holds.
    """
    told = number(megahertz, field)
    # Cut before it is multiplied, which could leave the floats.
    if told is None:
        return None
    return in_range(round(min(max(told, -1.0), 1e6) * 1e6), field, HIGHEST_FREQUENCY)


def epoch(value: float | str | None, field: str, unit: timedelta = SECOND) -> datetime | None:
    """A time told as seconds (or `unit`) since 1970-01-01T00:00:00Z, to the microsecond.

    Raises:
        BadMessage: no number, or in no year 1 to 9999.
    """
    told = number(value, field)
    if told is None:
        return None
    try:
        return _EPOCH + told * unit
    except OverflowError:
        raise BadMessage("bad_time", f"{field}: {told:g} is in no year 1 to 9999", field=field) from None


def spreading_factor(data_rate: str | None) -> int | None:
    """The 9 of ``SF9BW125`` or ``SF9 BW125 4/5``; None where no spreading factor is told."""
    found = _SPREADING.match(data_rate) if data_rate else None
    return within(int(found[1]), *SPREADING_FACTOR) if found else None


def still_encrypted(field: str, cure: str) -> BadMessage:
    """The network server does not hold the key of the payload."""
    return BadMessage("encrypted", f"{field}: the payload is still encrypted; {cure}", field=field)


def degrees(value: float | str | None, highest: float) -> float | None:
    """A latitude or longitude; None where it is none, or a text such as ``unknown``."""
    try:
        return within(number(value, ""), -highest, highest)
    except BadMessage:
        return None


def event_of(
    message: RawMessage,
    network: str,
    kind: str,
    *,
    dev_eui: str | None,
    time: datetime | None = None,
    origin: dict[str, str] | None = None,
    inside: str | None = None,
    told: Container[str] = (),
) -> Event:
    """An event known by its message's hash, with the fields (of the object `inside`) that are not `told`.

    Raises:
        BadMessage: no JSON object.
    """
    body = decode_json(_OBJECT, message.payload)
    fields = body if inside is None else body[inside]
    return Event(
        dedup_key=message_key(message),
        kind=clean(kind),
        network=network,
        time=time,
        dev_eui=dev_eui,
        data=clean({name: value for name, value in fields.items() if name not in told}),
        origin=origin or {},
    )


def event_in(topic: str) -> str:
    """The last level of ``…/event/<event>``; empty for any other topic."""
    head, _, event = topic.rpartition("/")
    return event if head.endswith("/event") else ""
