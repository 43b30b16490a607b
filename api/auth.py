"""Who is asking: an API key in the Authorization header, or the session cookie of the page."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated

import psycopg
from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from .credentials import KEY_PREFIX, digest
from .database import CONNECTION_SECONDS, Connection, within
from .problems import Problem
from .roles import KeyRole, Role, covers
from .services import Db, Svc

SESSION_COOKIE = "quantrac_session"
USE_IS_NOTED = timedelta(minutes=1)

_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="An API key, `qt_…`.")
session_cookie = APIKeyCookie(
    name=SESSION_COOKIE, auto_error=False, scheme_name="session", description="Set by `POST /api/v1/login`."
)


_NOTE_USE = """
    UPDATE api_key SET used_at = %(now)s
    WHERE key_hash = %(digest)s AND (used_at IS NULL OR used_at <= %(before)s)
"""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are; `actor` is the name that audit and alerts show.

    `account_id` is None for a key.
    """

    actor: str
    role: KeyRole
    digest: bytes
    account_id: int | None = None
    must_change: bool = False


async def by_key(db: Connection, key_digest: bytes, now: datetime) -> Principal | None:
    """Whose key this is. Notes its use, once a minute at most."""
    cursor = await db.execute(
        "SELECT name, role, used_at FROM api_key WHERE key_hash = %s AND revoked_at IS NULL", (key_digest,)
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    if row["used_at"] is None or now - row["used_at"] >= USE_IS_NOTED:
        with suppress(psycopg.Error):  # a full disk must not lock out who only wants to look
            await db.execute(_NOTE_USE, {"now": now, "digest": key_digest, "before": now - USE_IS_NOTED})
    return Principal(f"key:{row['name']}", row["role"], key_digest)


async def by_session(db: Connection, token_digest: bytes, now: datetime) -> Principal | None:
    cursor = await db.execute(
        """
        SELECT account.id, login, role, must_change
        FROM session JOIN account ON account.id = account_id
        WHERE token_hash = %s AND expires_at > %s AND NOT disabled
        """,
        (token_digest, now),
    )
    row = await cursor.fetchone()
    return Principal(row["login"], row["role"], token_digest, row["id"], row["must_change"]) if row else None


async def still_valid(db: Connection, principal: Principal, now: datetime) -> bool:
    """Whether the key or session that opened a long answer would still open it."""
    if principal.account_id is None:
        found = await by_key(db, principal.digest, now)
    else:
        found = await by_session(db, principal.digest, now)
    return found is not None and not found.must_change


async def authenticate(
    db: Db,
    services: Svc,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(session_cookie)],
) -> Principal:
    """The principal of this request. Raises a 401 problem when there is none."""
    found: Principal | None = None
    if bearer is not None:
        if bearer.credentials.startswith(KEY_PREFIX):
            found = await by_key(db, digest(bearer.credentials), services.clock.now())
    elif cookie:
        found = await by_session(db, digest(cookie), services.clock.now())
    if found is None:
        raise Problem(
            401,
            "unauthorized",
            "A valid key (Authorization: Bearer qt_…) or a login is needed.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return found


@cache
def require(role: Role, *, before_change: bool = False) -> Callable[..., Awaitable[Principal]]:
    """A dependency that lets in who has this role or a higher one.

    Until the first password is changed it lets nobody in, unless `before_change`.
    """

    async def check(principal: Annotated[Principal, Depends(authenticate)]) -> Principal:
        if not before_change:
            _refuse_first_password(principal)
        if not covers(principal.role, role):
            raise _forbidden(principal, role)
        return principal

    return check


@cache
def require_briefly(role: Role) -> Callable[..., Awaitable[Principal]]:
    """As `require`, for a route that may take long: it runs without the connection this was looked up by."""

    async def check(
        services: Svc,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        cookie: Annotated[str | None, Security(session_cookie)],
    ) -> Principal:
        async with services.pool.connection(CONNECTION_SECONDS) as db:
            return await require(role)(await authenticate(db, services, bearer, cookie))

    return check


@cache
def require_apart(role: KeyRole, seconds: float) -> Callable[..., Awaitable[Principal]]:
    """A dependency that lets in keys of exactly this role, and admins; the route runs without a connection.

    Who cannot be looked up within `seconds` is told to come back.
    """

    async def check(
        services: Svc,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        cookie: Annotated[str | None, Security(session_cookie)],
    ) -> Principal:
        async def look_up() -> Principal:
            async with services.pool.connection(seconds) as db:
                return await authenticate(db, services, bearer, cookie)

        principal = await within(seconds, look_up())
        _refuse_first_password(principal)
        if principal.role not in (role, "admin"):
            raise _forbidden(principal, role)
        return principal

    return check


def _refuse_first_password(principal: Principal) -> None:
    if principal.must_change:
        raise Problem(
            403, "must-change-password", "Change the first password (POST /api/v1/password) before that."
        )


def _forbidden(principal: Principal, role: KeyRole) -> Problem:
    return Problem(403, "forbidden", f"This needs the role {role}; yours is {principal.role}.")


@cache
def require_or_loopback(role: Role) -> Callable[..., Awaitable[None]]:
    """As `require`, or a caller on this machine when the setting `metrics_open` allows it.

    A request that a proxy passed on says so in its headers and does not count as of this machine.
    """

    async def check(
        request: Request,
        services: Svc,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        cookie: Annotated[str | None, Security(session_cookie)],
    ) -> None:
        if services.settings.metrics_open and _is_local(request):
            return  # also while the database is away: that is when measures matter
        async with services.pool.connection(CONNECTION_SECONDS) as db:
            await require(role)(await authenticate(db, services, bearer, cookie))

    return check


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


Viewer = Annotated[Principal, Depends(require("viewer"))]
Operator = Annotated[Principal, Depends(require("operator"))]
Engineer = Annotated[Principal, Depends(require("engineer"))]
Admin = Annotated[Principal, Depends(require("admin"))]
