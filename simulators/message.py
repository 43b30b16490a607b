"""A message as it stands on the broker, and as a line of a recording."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec


@dataclass(frozen=True, slots=True)
class Message:
    """`time` is the moment the network server published it; of a recorded message, the one it arrived at."""

    topic: str
    payload: bytes
    time: datetime
    qos: int = 1
    retain: bool = False

    def line(self) -> str:
        """One line of NDJSON: ``{"topic", "payload", "qos", "time"}``, and ``"retain": true`` where it is so.

        `payload` is JSON as text; anything else is `payload_base64` instead, so every byte comes back.
        """
        line: dict[str, Any] = {
            "topic": self.topic,
            **_payload(self.payload),
            "qos": self.qos,
            "time": rfc3339(self.time),
        }
        if self.retain:
            line["retain"] = True
        return _ENCODE(line).decode()

    @classmethod
    def of(cls, line: bytes | str) -> Message:
        """The message that `line` is of.

        Raises:
            ValueError: it is no such line; says what is wrong.
        """
        try:
            read = _LINE.decode(line)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ValueError(str(error)) from None
        if (read.payload is None) == (read.payload_base64 is None):
            raise ValueError("needs either payload or payload_base64")
        if read.payload is not None:
            payload = read.payload.encode()
        else:
            payload = b64decode(read.payload_base64 or "", validate=True)
        return cls(read.topic, payload, read.time.astimezone(UTC), read.qos, read.retain)


class _Line(msgspec.Struct):
    topic: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    payload: str | None = None
    payload_base64: str | None = None
    qos: Literal[0, 1, 2] = 1
    retain: bool = False


_LINE = msgspec.json.Decoder(_Line)
_ENCODE = msgspec.json.Encoder().encode


def is_json(payload: bytes) -> bool:
    """Whether it looks like a JSON object or array; what has no bytes but blanks counts, too."""
    return payload.lstrip()[:1] in (b"{", b"[", b"")


def _payload(payload: bytes) -> dict[str, str]:
    if is_json(payload):
        try:
            return {"payload": payload.decode("utf-8")}
        except UnicodeDecodeError:
            pass
    return {"payload_base64": b64encode(payload).decode()}


def rfc3339(time: datetime) -> str:
    """UTC with six decimals."""
    return f"{time.astimezone(UTC).isoformat(timespec='microseconds')[:26]}Z"
