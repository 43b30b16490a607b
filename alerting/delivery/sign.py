"""Signatures of Standard Webhooks 1.0.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as random_source
from collections.abc import Sequence

from telemetry.errors import UsageError

PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh endpoint secret: ``whsec_`` and base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(random_source.token_bytes(_SECRET_BYTES)).decode()


def sign(message_id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> str:
    """The value of ``webhook-signature``: one ``v1,…`` per secret, separated by spaces.

    Signed is ``{message_id}.{timestamp}.{body}`` with HMAC-SHA256; `timestamp` is in Unix seconds.

    Raises:
        UsageError: no secret, one that is not ``whsec_`` with base64, or an id with a full stop.
    """
    if not secrets:
        raise UsageError("a webhook needs at least one secret to be signed with")
    if "." in message_id:
        raise UsageError(f"message id {message_id!r}: a full stop would make the signed content ambiguous")
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_mac(_key(secret), content)}" for secret in secrets)


def _key(secret: str) -> bytes:
    try:
        if secret.startswith(PREFIX):
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        pass
    raise UsageError(f"a webhook secret is {PREFIX} followed by base64")


def _mac(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
