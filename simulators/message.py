"""A message as it stands on the broker, and as a line of a recording."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """`time` is the moment the network server published it."""

    topic: str
    payload: bytes
    time: datetime
    qos: int = 1

    def line(self) -> str:
        """One line of NDJSON: ``{"topic", "payload", "qos", "time"}``, the payload as text."""
        return compact(
            {
                "topic": self.topic,
                "payload": self.payload.decode("utf-8"),
                "qos": self.qos,
                "time": rfc3339(self.time),
            }
        )


def compact(value: dict[str, Any]) -> str:
    """JSON without spaces, letters as they are, keys in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def rfc3339(time: datetime, *, zone: str = "Z", nanoseconds: int | None = None) -> str:
    """UTC with six decimals, or nine when `nanoseconds` (0–999) are given; `zone` is ``Z`` or ``+00:00``."""
    text = time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{text}{'' if nanoseconds is None else f'{nanoseconds:03d}'}{zone}"
