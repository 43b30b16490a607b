"""What names a version of a vendor's JavaScript codec, in the store and in a folder alike."""

from __future__ import annotations

import hashlib

_DIGITS = 16


def codec_version(source: str) -> str:
    """The first 16 hex digits of the SHA-256 of the text in UTF-8."""
    return hashlib.sha256(source.encode()).hexdigest()[:_DIGITS]
