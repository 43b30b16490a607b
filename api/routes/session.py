"""Logging in and out of the page, and changing one's password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from ..audit import audit
from ..auth import SESSION_COOKIE, Principal, require
from ..credentials import LEAST_PASSWORD, MOST_PASSWORD
from ..fields import Name
from ..logins import change_password, count_try, forget_tries, log_in, peer_of
from ..problems import Problem, invalid
from ..roles import KeyRole
from ..services import Db, Services, Svc
from . import BASE

router = APIRouter(prefix=BASE, tags=["session"])

Anybody = Annotated[Principal, Depends(require("viewer", before_change=True))]


class Login(BaseModel):
    login: Name
    password: str = Field(max_length=MOST_PASSWORD)


class NewPassword(BaseModel):
    old: str = Field(max_length=MOST_PASSWORD)
    new: str = Field(min_length=LEAST_PASSWORD, max_length=MOST_PASSWORD)


class SessionView(BaseModel):
    """Who is logged in; while `must_change`, nothing but changing the password works."""

    login: str
    role: KeyRole
    must_change: bool


def _view(principal: Principal) -> SessionView:
    return SessionView(login=principal.actor, role=principal.role, must_change=principal.must_change)


def _is_https(request: Request, services: Services) -> bool:
    return request.url.scheme == "https" or services.settings.api_base_url.startswith("https:")


def _peer(request: Request) -> str:
    return peer_of(request.client.host if request.client else None)


@router.post("/login")
async def login(body: Login, request: Request, response: Response, services: Svc) -> SessionView:
    """Open a session and set its cookie; after failed tries a 429 says in Retry-After how long to wait."""
    session = await log_in(services, login=body.login, password=body.password, peer=_peer(request))
    response.set_cookie(
        SESSION_COOKIE,
        session.token,
        max_age=int(services.settings.session_hours * 3600),
        httponly=True,
        samesite="lax",
        secure=_is_https(request, services),
    )
    return _view(session.principal)


@router.get("/session")
async def session(principal: Anybody) -> SessionView:
    """Who this is."""
    return _view(principal)


@router.post("/logout", status_code=204)
async def logout(principal: Anybody, request: Request, response: Response, db: Db, services: Svc) -> None:
    """End this session."""
    await db.execute("DELETE FROM session WHERE token_hash = %s", (principal.digest,))
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax", secure=_is_https(request, services))


@router.post("/password", status_code=204)
async def password(body: NewPassword, principal: Anybody, request: Request, db: Db, services: Svc) -> None:
    """Change one's own password; this session goes on, the account's others end."""
    if principal.account_id is None:
        raise Problem(403, "forbidden", "A key has no password.")
    if body.new == body.old:
        raise invalid("new", "is the present password")
    peer = _peer(request)
    await count_try(db, principal.actor, peer, services.clock.now())
    if not await change_password(db, services.passwords, principal, old=body.old, new=body.new):
        raise invalid("old", "is not the present password")
    await forget_tries(db, principal.actor, peer)
    await audit(db, principal, "password.change", principal.actor)
