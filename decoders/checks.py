"""Checking what a person wrote: every fault with its path, all of them in one go."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping

from telemetry.errors import UsageError

_LARGEST = sys.float_info.max


class Check:
    """Collects faults, so that one run shows all of them; each check returns a usable value anyway."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def fault(self, path: str, message: str) -> None:
        """Note a fault; the message begins with its path, such as ``map[2].metric``."""
        self.faults.append(f"{path}: {message}")

    def done(self) -> None:
        """Nothing more to check.

        Raises:
            UsageError: one line for every fault.
        """
        if self.faults:
            raise UsageError("\n".join(self.faults))

    def mapping(self, path: str, value: object, keys: Collection[str]) -> bool:
        """Whether this is a mapping; its keys must be known ones."""
        if not isinstance(value, Mapping):
            self.fault(path, f"keys and values are needed, got {value!r}")
            return False
        prefix = f"{path}." if "[" in path else ""
        for key in value:
            if key not in keys:
                self.fault(f"{prefix}{key}", f"unknown key{did_you_mean(str(key), keys)}")
        return True

    def text(self, path: str, value: object) -> str:
        """A text with something in it."""
        if isinstance(value, str) and value.strip():
            return value
        self.fault(path, "is missing" if value is None else f"a text is needed, got {value!r}")
        return ""

    def metric(self, path: str, value: object, known: Collection[str]) -> str:
        """One of the known metrics."""
        metric = self.text(path, value)
        if metric and metric not in known:
            self.fault(path, f"unknown metric {metric!r}{did_you_mean(metric, known)}")
        return metric

    def integer(self, path: str, value: object, least: int, most: int | None = None) -> int:
        """A whole number from `least` to `most`, both included."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            if most is None or value <= most:
                return value
            self.fault(path, f"at most {most}")
            return most
        self.fault(
            path, "is missing" if value is None else f"a whole number from {least} is needed, got {value!r}"
        )
        return least

    def number(self, path: str, value: object) -> float:
        """A number that a float can hold."""
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            return float(value)
        self.fault(path, f"a number is needed, got {value!r}")
        return 0.0


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`` (did you mean 'codec'?)``, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
