"""Who is asking: an API key in the Authorization header, or the session cookie of the page."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from .credentials import KEY_PREFIX, digest
from .database import CONNECTION_SECONDS, Connection
from .problems import Problem
from .roles import Role, covers
from .services import Db, Svc

SESSION_COOKIE = "quantrac_session"

_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="An API key, `qt_…`.")
session_cookie = APIKeyCookie(
    name=SESSION_COOKIE, auto_error=False, scheme_name="session", description="Set by `POST /api/v1/login`."
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are; `actor` is the name that audit and alerts show.

    `account_id` is None for a key.
    """

    actor: str
    role: Role
    digest: bytes
    account_id: int | None = None
    must_change: bool = False


async def by_key(db: Connection, key_digest: bytes) -> Principal | None:
    cursor = await db.execute(
        "SELECT name, role FROM api_key WHERE key_hash = %s AND revoked_at IS NULL", (key_digest,)
    )
    row = await cursor.fetchone()
    return Principal(f"key:{row['name']}", row["role"], key_digest) if row else None


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
        found = await by_key(db, principal.digest)
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
            found = await by_key(db, digest(bearer.credentials))
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
        if principal.must_change and not before_change:
            raise Problem(
                403, "must-change-password", "Change the first password (POST /api/v1/password) before that."
            )
        if not covers(principal.role, role):
            raise Problem(403, "forbidden", f"This needs the role {role}; yours is {principal.role}.")
        return principal

    return check


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
