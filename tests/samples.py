"""The network servers' sample messages, as files hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "data"


class Sample(NamedTuple):
    """`payload` is the message as the server would send it."""

    name: str
    topic: str
    payload: bytes
    body: dict[str, object]


def samples(*formats: str) -> list[Sample]:
    found = []
    for format_ in formats:
        for path in sorted((FOLDER / format_).glob("*.json")):
            data = json.loads(path.read_text(encoding="utf-8"))
            payload = json.dumps(data["payload"], ensure_ascii=False).encode()
            found.append(Sample(f"{format_}/{path.stem}", data["topic"], payload, data["payload"]))
    return found
