"""The web page: its two documents and their assets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Security
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ..auth import by_session, session_cookie
from ..credentials import digest
from ..services import Db, Svc

WEB = Path(__file__).parent.parent / "web"

# leaflet-1.9.4.js is another file once its content is another; app.js has to be asked for anew.
_VERSIONED = re.compile(r"-\d+(\.\d+)+\.|-\d{4}-\d\d-\d\d\.")
_FOREVER = "public, max-age=31536000, immutable"
_ASK = "no-cache"

router = APIRouter(include_in_schema=False)


class _Assets(StaticFiles):
    """Files that browsers keep for good when their path names a version, and ask after otherwise."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _FOREVER if _VERSIONED.search(path) else _ASK
        return response


def mount_assets(app: FastAPI, web: Path = WEB) -> None:
    app.mount("/static/vendor", _Assets(directory=web / "vendor", check_dir=False), name="vendor")
    app.mount("/static", _Assets(directory=web / "static", check_dir=False), name="static")


@router.get("/")
async def index(db: Db, services: Svc, cookie: Annotated[str | None, Security(session_cookie)]) -> Response:
    """The page for who is logged in, the login for everybody else."""
    if cookie and await by_session(db, digest(cookie), services.clock.now()):
        return _document("index.html")
    return RedirectResponse("/login", status_code=303)


@router.get("/login")
async def login() -> Response:
    return _document("login.html")


def _document(name: str) -> Response:
    return FileResponse(WEB / name, headers={"Cache-Control": _ASK})
