"""What surrounds every request: the last net for errors, security headers, Origin check, size limit."""

from __future__ import annotations

import time
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .auth import SESSION_COOKIE
from .measures import REQUESTS, SECONDS
from .problems import Problem, respond

MOST_BODY_BYTES = 1 << 20

_log = structlog.get_logger("api")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _SAFE | {"POST", "PUT", "PATCH", "DELETE"}
# uPlot and Leaflet set styles through the CSSOM, which style-src does not govern.
_CSP = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Boundary:
    """Headers and measures for every answer, and a bare 500 for what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                _measure(scope, message["status"], time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            name = uuid4().urn
            _log.exception("request_failed", instance=name, method=scope["method"], path=scope["path"])
            if started:
                raise
            problem = Problem(500, "internal", "The request failed; our log tells why under this instance.")
            problem.__cause__ = error
            await respond(problem, name)(scope, receive, send_on)


def _measure(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "other")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(method, route, status).inc()
    SECONDS.labels(route).observe(seconds)


class OriginCheck:
    """No other site may make a browser change anything here with its user's cookie, or log it in."""

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self._app = app
        self._own = urlsplit(base_url).netloc.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _SAFE:
            headers = Headers(scope=scope)
            if not _has_key(headers) and not self._allows(headers):
                problem = Problem(403, "foreign-origin", "The Origin header does not name this server.")
                await respond(problem, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _allows(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return not _has_session(headers)
        host = urlsplit(origin).netloc.lower()
        return bool(host) and host in {headers.get("host", "").lower(), self._own}


def _has_key(headers: Headers) -> bool:
    # Read as `api.auth` reads it: whatever else the header holds, the cookie is what counts.
    scheme, key = get_authorization_scheme_param(headers.get("authorization"))
    return scheme.lower() == "bearer" and bool(key)


def _has_session(headers: Headers) -> bool:
    return any(SESSION_COOKIE in value for value in headers.getlist("cookie"))


class BodyLimit:
    """Reads a body before anything looks at it, and refuses one above a mebibyte.

    A message of a network server may have `intake` bytes.
    """

    def __init__(self, app: ASGIApp, *, intake: int) -> None:
        self._app = app
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE:
            await self._app(scope, receive, send)
            return
        of_intake = scope["path"].startswith("/intake/")
        most = self._intake if of_intake else MOST_BODY_BYTES
        length = Headers(scope=scope).get("content-length", "")
        body = bytearray()
        more = True
        fits = not length.isdecimal() or int(length) <= most
        while fits and more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            fits = len(body) <= most
        if not fits:
            cure = " Raise QUANTRAC_MAX_MESSAGE if such messages are real." if of_intake else ""
            problem = Problem(413, "too-large", f"A body may have {most} bytes.{cure}")
            problem.headers["Connection"] = "close"
            await respond(problem, scope["path"])(scope, receive, send)
            return
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, receive_again, send)
