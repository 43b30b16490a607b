"""Accounts and keys, as commands and routes make them."""

from __future__ import annotations

from telemetry.errors import ConflictError

from .credentials import hash_password, new_key
from .database import Connection
from .paging import Row
from .roles import KeyRole, Role


async def add_account(
    db: Connection, *, login: str, password: str, role: Role, must_change: bool = True
) -> None:
    """Add an account.

    Raises:
        ConflictError: the login is taken.
    """
    cursor = await db.execute(
        "INSERT INTO account (login, password_hash, role, must_change) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (login) DO NOTHING",
        (login, hash_password(password), role, must_change),
    )
    if cursor.rowcount == 0:
        raise ConflictError(f"The login {login!r} exists already; choose another.")


async def add_key(db: Connection, *, name: str, role: KeyRole, created_by: str) -> tuple[Row, str]:
    """Add an API key; returns its row (without the hash) and the key itself, which is stored nowhere."""
    new = new_key()
    cursor = await db.execute(
        "INSERT INTO api_key (name, role, hint, key_hash, created_by) VALUES (%s, %s, %s, %s, %s)"
        " RETURNING id, name, role, hint, created_at, created_by, used_at, revoked_at",
        (name, role, new.hint, new.digest, created_by),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row, new.key
