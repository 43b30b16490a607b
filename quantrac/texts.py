"""Words of a command line."""

from __future__ import annotations

import getpass


def actor() -> str:
    """Who sits at the keyboard, as far as the system knows."""
    try:
        return f"command line ({getpass.getuser()})"
    except (OSError, KeyError):
        return "command line"


def printable(text: str) -> str:
    """On one line and without what could steer a terminal: the text came from outside."""
    return "".join(sign if sign.isprintable() else "·" for sign in text)
