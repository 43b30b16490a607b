"""Logging in: throttled before a password is looked at, so that tries side by side are counted too."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from .audit import audit
from .auth import Principal
from .credentials import Passwords, digest, new_token
from .database import CONNECTION_SECONDS, Connection
from .problems import Problem
from .services import Services

WINDOW = timedelta(minutes=15)
MOST_PER_LOGIN = 5
MOST_PER_PEER = 30

_ACCOUNT = """
    SELECT id, login, role, must_change, password_hash FROM account WHERE login = %s AND NOT disabled
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A new session; `token` goes into the cookie and is stored nowhere."""

    token: str
    principal: Principal
    expires_at: datetime


def peer_of(host: str | None) -> str:
    """The address tries are counted by: of IPv6 the /64 that one subscriber has."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def wait_for(tries: Sequence[tuple[str, datetime]], login: str, now: datetime) -> timedelta | None:
    """How long this login has to wait at a peer with these tries (login, time), oldest first; None: not."""
    waits = []
    for times, most in (
        ([at for name, at in tries if name == login], MOST_PER_LOGIN),
        ([at for _, at in tries], MOST_PER_PEER),
    ):
        if len(times) >= most:
            waits.append(times[-most] + WINDOW - now)
    return max(waits, default=None)


async def count_try(db: Connection, login: str, peer: str, now: datetime) -> None:
    """Count one try, or raise a 429 problem. A try that succeeds is taken back by `forget_tries`."""
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(hashtextextended('login ' || %s, 0))", (peer,))
        await db.execute("DELETE FROM login_failure WHERE at <= %s", (now - WINDOW,))
        cursor = await db.execute("SELECT login, at FROM login_failure WHERE peer = %s ORDER BY at", (peer,))
        wait = wait_for([(row["login"], row["at"]) for row in await cursor.fetchall()], login, now)
        if wait is None:
            await db.execute("INSERT INTO login_failure VALUES (%s, %s, %s)", (login, peer, now))
    if wait is not None:
        seconds = max(1, ceil(wait.total_seconds()))
        raise Problem(
            429,
            "too-many-tries",
            f"Too many failed tries; wait {ceil(seconds / 60)} min.",
            headers={"Retry-After": str(seconds)},
        )


async def forget_tries(db: Connection, login: str, peer: str) -> None:
    await db.execute("DELETE FROM login_failure WHERE login = %s AND peer = %s", (login, peer))


async def log_in(services: Services, *, login: str, password: str, peer: str) -> Session:
    """Open a session. No connection is held while the password is hashed, so a flood of tries blocks nobody.

    Raises:
        Problem: 401 for an unknown login, a wrong password or a disabled account alike; 429 when throttled.
    """
    now = services.clock.now()
    async with services.pool.connection(CONNECTION_SECONDS) as db:
        await count_try(db, login, peer, now)
        row = await (await db.execute(_ACCOUNT, (login,))).fetchone()
    known = await services.passwords.verify(row["password_hash"] if row else None, password)
    if row is None or not known:
        raise Problem(401, "wrong-login", "Login or password is wrong.")
    token = new_token()
    principal = Principal(row["login"], row["role"], digest(token), row["id"], row["must_change"])
    expires_at = now + timedelta(hours=services.settings.session_hours)
    async with services.pool.connection(CONNECTION_SECONDS) as db, db.transaction():
        await forget_tries(db, login, peer)
        await db.execute("DELETE FROM session WHERE expires_at <= %s", (now,))
        await db.execute(
            "INSERT INTO session (token_hash, account_id, created_at, expires_at) VALUES (%s, %s, %s, %s)",
            (principal.digest, row["id"], now, expires_at),
        )
        await audit(db, principal, "session.open", login)
    return Session(token, principal, expires_at)


async def change_password(
    db: Connection, passwords: Passwords, principal: Principal, *, old: str, new: str
) -> bool:
    """Set a new password and end the account's other sessions; False when `old` is not the present one."""
    cursor = await db.execute("SELECT password_hash FROM account WHERE id = %s", (principal.account_id,))
    row = await cursor.fetchone()
    if row is None or not await passwords.verify(row["password_hash"], old):
        return False
    hashed = await passwords.hash(new)
    async with db.transaction():
        await db.execute(
            "UPDATE account SET password_hash = %s, must_change = false WHERE id = %s",
            (hashed, principal.account_id),
        )
        await db.execute(
            "DELETE FROM session WHERE account_id = %s AND token_hash <> %s",
            (principal.account_id, principal.digest),
        )
    return True
