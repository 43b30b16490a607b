"""The network servers' sample messages, as files hold them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "data"


class Sample(NamedTuple):
    """`payload` is the message as the server would send it, `body` its JSON (empty where it is binary)."""

    name: str
    topic: str
    payload: bytes
    body: dict[str, object]


def samples(*formats: str) -> list[Sample]:
    found = []
    for format_ in formats:
        for path in sorted((FOLDER / format_).glob("*.json")):
            data = json.loads(path.read_text(encoding="utf-8"))
            if "payload_base64" in data:
                payload, body = base64.b64decode(data["payload_base64"]), {}
            else:
                payload, body = json.dumps(data["payload"], ensure_ascii=False).encode(), data["payload"]
            found.append(Sample(f"{format_}/{path.stem}", data["topic"], payload, body))
    return found


def formats() -> list[str]:
    """Every folder of samples."""
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())
