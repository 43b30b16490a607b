"""The application: every route, and what surrounds them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware

from decoders.folder import read_folder
from decoders.javascript.workers import JsWorkers
from decoders.registry import Registry, load_codecs
from ingest.horizon import horizon_of
from ingest.intake import Intake
from ingest.settings import IngestSettings
from telemetry.clock import Clock, SystemClock
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings
from telemetry.store.pool import api_limits, async_pool, connect

from . import problems
from .auth import require
from .exports.worker import ExportWorker
from .middleware import BodyLimit, Boundary, OriginCheck
from .problems import ProblemView
from .reads import Reads
from .routes import (
    BASE,
    admin_units,
    alerts,
    belonging,
    calibrations,
    catalogue,
    codecs,
    deliveries,
    device_types,
    devices,
    endpoints,
    events,
    exports,
    facilities,
    gateways,
    health,
    health_alerts,
    intake,
    keys,
    link,
    owners,
    pages,
    provenance,
    quality,
    readings,
    rejects,
    rollups,
    rules,
    series,
    session,
    stations,
    stream,
    uplinks,
)
from .scripts import Scripts
from .services import Services
from .settings import ApiSettings
from .stream import Hub

_RESOURCES = (
    session, stations, devices, belonging, gateways, owners, facilities, admin_units, calibrations, link,
    device_types, codecs, catalogue, provenance, readings, rollups, series, quality, uplinks, events, rejects,
    rules, alerts, endpoints, deliveries, keys, stream, exports, intake, health, health_alerts,
)  # fmt: skip
# Nobody waits any more: requests were answered before the application ends.
INTAKE_DRAIN_SECONDS = 1.0
_PROBLEM = {
    "description": "Problem details (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemView"}}},
}


def create_app(
    settings: ApiSettings,
    store: StoreSettings,
    box: SecretBox,
    *,
    clock: Clock | None = None,
    codecs: Callable[[], Registry] | None = None,
    ingest: IngestSettings | None = None,
    instance: str = "",
) -> FastAPI:
    """The application; it connects when it starts and waits for no database.

    `box` encrypts webhook secrets; `codecs` gives the codecs of this machine, by default those that are
    installed and those of the user's folder. `ingest` says how messages of the HTTP intake are stored,
    `instance` tells this process from others of its kind, and stays the same from start to start.

    Raises:
        SettingsError: the database's address cannot be used.
    """
    pool = async_pool(store, application="quantrac api")
    clock = clock or SystemClock()
    ingest = ingest or IngestSettings()
    handed_over = Intake(
        ingest,
        lambda: connect(store.database_url, application="quantrac intake", limits=api_limits(store)),
        writer=f"intake-{instance or socket.gethostname()}",
        horizon=horizon_of(store, clock),
    )
    services = Services(
        settings=settings,
        pool=pool,
        reads=Reads(store, pool),
        clock=clock,
        hub=Hub(pool),
        box=box,
        codecs=codecs or cache(partial(_codecs, ingest.codecs_dir)),
        intake=handed_over,
        scripts=Scripts(),
        exports=ExportWorker(
            pool,
            settings,
            store.database_url,
            clock,
            f"{instance or socket.gethostname()}-{uuid4()}",
        ),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool, services.reads.open(), services.exports.running():
            yield
            services.hub.close()
            await services.scripts.close()
            await handed_over.close(INTAKE_DRAIN_SECONDS)

    app = FastAPI(
        title="Quantrac",
        version=_version(),
        summary="Environmental monitoring: stations, readings, alerts.",
        # Our own route for the document asks for a key; the pages that show it need scripts from elsewhere.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(Boundary),
            Middleware(OriginCheck, base_url=settings.api_base_url),
            Middleware(BodyLimit, intake=ingest.max_message),
        ],
    )
    app.state.services = services
    problems.install(app)
    for resource in _RESOURCES:
        app.include_router(resource.router, responses={"default": _PROBLEM})
    app.include_router(_document_route(app))
    app.include_router(pages.router)
    pages.mount_assets(app)
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the application, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schema = ProblemView.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas.update(schema.pop("$defs", {}))
        schemas["ProblemView"] = schema
        app.openapi_schema = document
    return app.openapi_schema


def _document_route(app: FastAPI) -> APIRouter:
    router = APIRouter(prefix=BASE, include_in_schema=False)

    @router.get("/openapi.json", dependencies=[Depends(require("viewer"))])
    async def document() -> JSONResponse:
        return JSONResponse(openapi(app))

    return router


def _codecs(folder: str) -> Registry:
    registry = load_codecs()
    if not folder:
        return registry
    with JsWorkers() as workers:
        return registry.with_scripts(*read_folder(Path(folder), workers))


def _version() -> str:
    try:
        return version("quantrac")
    except PackageNotFoundError:
        return "0"
