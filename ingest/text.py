"""Text and JSON as PostgreSQL takes them: without U+0000 and without lone surrogates. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

_ENCODE = msgspec.json.Encoder().encode


def storable(text: str) -> str:
    """At most 2,000 characters of a sentence; a lone surrogate becomes its escape."""
    if not text.isascii() or "\x00" in text:
        text = text.replace("\x00", "").encode("utf-8", "backslashreplace").decode()
    return text[:2000]


def clean(value: Any) -> Any:
    """The same JSON value, with ``?`` where a lone surrogate was."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {clean(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    return value


def json_of(value: Any) -> bytes:
    """JSON of what a codec returned, fit for jsonb; NaN and the infinities become null.

    Raises:
        Exception: it has no JSON (an object, a key that is no text, nested too deeply).
    """
    try:
        encoded = _ENCODE(value)
    except UnicodeEncodeError:
        encoded = None
    if encoded is None or b"\\u0000" in encoded:
        encoded = _ENCODE(clean(msgspec.to_builtins(value)))
    return encoded
