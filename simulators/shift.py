"""Moving messages in time: their arrival, and the times that network servers write into them. Pure.

Times are found in the text of the JSON, whose other bytes stay as they are: every RFC 3339 text, and the
numbers that ChirpStack (`timeSinceGpsEpoch`), LORIOT, Helium, Kerlink and Everynet write. What a device wrote
into its own payload (a datalog) cannot be moved.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from telemetry.errors import UsageError

from .message import Message, is_json

Move = Callable[[datetime], datetime]
Binary = Callable[[str, bytes, Move], bytes | None]
"""Topic and payload that are no JSON, moved; None where nobody knows the format."""

_TEXT = re.compile(
    rb'(?<=")(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)(?=\\?")'  # a text in a text: \"
)
_NUMBER = re.compile(
    rb'("(?:ts|time|rx_time|reported_at|recvTime|gwRecvTime)"\s*:\s*)(\d{10}(?:\.\d+)?|\d{13})(?![\d.eE])'
)
_GPS = re.compile(rb'("timeSinceG(?:ps|PS)Epoch"\s*:\s*")(\d+(?:\.\d+)?)(?=s")')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GPS_EPOCH = datetime(1980, 1, 6, tzinfo=UTC) - timedelta(seconds=18)  # leap seconds since
_EARLIEST = 2000  # a server's zero time is of year 1
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Shift:
    """What was `first` becomes `start`, and time goes `speed` times as fast from there, in both directions.

    At speed 1, with whole seconds between the two, times keep their fraction to the last digit.
    """

    first: datetime
    start: datetime
    speed: float = 1.0

    def moved(self, time: datetime) -> datetime:
        passed = time - self.first
        return self.start + (passed if self.speed == 1 else passed / self.speed)

    def payload(self, message: Message, binary: Binary | None = None) -> Message:
        """The message with the times in its payload moved.

        Raises:
            UsageError: the payload is of a format whose times nobody here can find.
        """
        payload = message.payload
        if is_json(payload):
            payload = _TEXT.sub(self._text, payload)
            payload = _NUMBER.sub(self._number, payload)
            return replace(message, payload=_GPS.sub(self._gps, payload))
        told = binary(message.topic, payload, self.moved) if binary else None
        if told is None:
            raise UsageError(
                f"{message.topic}: its payload is no JSON, so the times in it cannot be moved; replay it "
                "as it was (without --shift-to), or leave it out with --topic"
            )
        return replace(message, payload=told)

    def arrival(self, message: Message) -> Message:
        """The message with the time of its arrival moved."""
        return replace(message, time=self.moved(message.time))

    @property
    def _whole(self) -> int | None:
        """Seconds by which everything moves, when it is so many."""
        by = self.start - self.first
        return by // _SECOND if self.speed == 1 and not by % _SECOND else None

    def _text(self, match: re.Match[bytes]) -> bytes:
        second, fraction, zone = match.groups(default=b"")
        whole = self._whole
        try:
            kept = b"" if whole is not None else b"." + fraction[:6].ljust(6, b"0")
            told = datetime.fromisoformat((second + kept + zone.replace(b"Z", b"+00:00")).decode())
            if told.year < _EARLIEST:
                return match[0]
            moved = self.moved(told).astimezone(told.tzinfo)
        except (ValueError, OverflowError):
            return match[0]
        text = moved.replace(tzinfo=None).isoformat(timespec="microseconds" if whole is None else "seconds")
        if whole is not None and fraction:
            text += "." + fraction.decode()
        return text.encode() + zone

    def _number(self, match: re.Match[bytes]) -> bytes:
        return match[1] + self._since(match[2], _EPOCH, 1000 if len(match[2].partition(b".")[0]) == 13 else 1)

    def _gps(self, match: re.Match[bytes]) -> bytes:
        return match[1] + self._since(match[2], _GPS_EPOCH, 1)

    def _since(self, text: bytes, zero: datetime, per_second: int) -> bytes:
        """A number of seconds, or parts of them, since `zero`."""
        if (whole := self._whole) is not None:
            number, point, fraction = text.partition(b".")
            return str(int(number) + whole * per_second).encode() + point + fraction
        moved = self.moved(zero + timedelta(seconds=float(text) / per_second)) - zero
        if per_second > 1:
            return str(round(moved.total_seconds() * per_second)).encode()
        return f"{moved.total_seconds():.6f}".encode()
