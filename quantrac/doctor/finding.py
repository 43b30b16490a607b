"""What every check answers."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One thing looked at; `cure` is empty when there is nothing to do."""

    level: Literal["ok", "warning", "fault"]
    subject: str
    text: str
    cure: str = ""
