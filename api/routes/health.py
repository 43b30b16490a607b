"""Is it alive, is it ready, how does it do: for supervisors and Prometheus."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from telemetry.store.revision import newest_revision

from ..auth import require_or_loopback
from ..problems import Problem
from ..services import Db, Svc

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(Health):
    """`replica`: whether heavy reads are answered there; the primary answers them else."""

    replica: Literal["none", "ok", "behind", "away", "promoted"]


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz")
async def readyz(db: Db, services: Svc) -> Readiness:
    """The database can be reached and has the schema this program was written for; else 503."""
    row = await (await db.execute("SELECT to_regclass('schema_version') IS NOT NULL AS known")).fetchone()
    found = None
    if row is not None and row["known"]:
        version = await (await db.execute("SELECT version_num FROM schema_version")).fetchone()
        found = version["version_num"] if version else None
    if found != newest_revision():
        raise Problem(
            503,
            "schema",
            f"The database has schema revision {found}, this program needs {newest_revision()}: "
            "run `quantrac migrate`.",
            headers={"Retry-After": "5"},
        )
    return Readiness(replica=services.reads.state)


@router.get("/metrics", dependencies=[Depends(require_or_loopback("viewer"))], response_class=Response)
async def metrics() -> Response:
    """What this process counts, in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
