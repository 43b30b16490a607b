"""Secrets people and programs show us; only their hashes are ever stored."""

from __future__ import annotations

import secrets
from functools import cache
from hashlib import sha256
from typing import NamedTuple

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

KEY_PREFIX = "qt_"
LEAST_PASSWORD = 10
MOST_PASSWORD = 1024
_HINT_LETTERS = 8

_hasher = PasswordHasher()
_PARALLEL_HASHES = 2


class NewKey(NamedTuple):
    """A key: `key` is shown once, `hint` tells it from others, `digest` is what is stored."""

    key: str
    hint: str
    digest: bytes


def new_token() -> str:
    """256 random bits in letters that need no quoting."""
    return secrets.token_urlsafe(32)


def new_key() -> NewKey:
    key = KEY_PREFIX + new_token()
    return NewKey(key, key[:_HINT_LETTERS], digest(key))


def digest(token: str) -> bytes:
    """What is stored of a token. A plain hash suffices: 256 random bits cannot be guessed."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def hash_password(password: str) -> str:
    """The Argon2id hash of a password, parameters and salt included; takes some 50 ms."""
    return _hasher.hash(password)


def verify_password(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return hash_password(new_token())


class Passwords:
    """Hashing in threads, a few at a time: each hash takes 64 MiB (RFC 9106, second recommended option)."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_PARALLEL_HASHES)

    async def hash(self, password: str) -> str:
        return await anyio.to_thread.run_sync(hash_password, password, limiter=self._limiter)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password; for an account that does not exist, False after as long a while."""

        def check() -> bool:
            return verify_password(stored or _nobodys_hash(), password) and stored is not None

        return await anyio.to_thread.run_sync(check, limiter=self._limiter)
