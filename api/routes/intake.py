"""Where network servers hand over messages by HTTP instead of MQTT. 200 only after COMMIT.

ChirpStack waits 5 seconds for an answer and never tries again; The Things Stack waits 5 to 10 and tries
again where its plan has webhook retries. So every answer comes within 5 seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import BaseModel

from ingest.sources.http import EVENT, chirpstack_topic, tenant_of, tts_topic
from telemetry.model import RawMessage

from ..auth import Principal, require_apart
from ..problems import Problem
from ..services import Services, Svc

LOOK_UP_SECONDS = 1.5
COMMIT_SECONDS = 3.0
RETRY_SECONDS = "5"
_JSON = "application/json"
_BINARY = frozenset(
    {"application/octet-stream", "application/x-protobuf", "application/protobuf",
     "application/vnd.google.protobuf"}
)  # fmt: skip

router = APIRouter(prefix="/intake", tags=["intake"])

Sender = Annotated[Principal, Depends(require_apart("intake", LOOK_UP_SECONDS))]


class Accepted(BaseModel):
    """Committed: as an uplink, as an event, or, when nothing can be made of it, as a reject that says why."""

    accepted: Literal[True] = True


@router.post("/chirpstack")
async def from_chirpstack(
    request: Request,
    sender: Sender,
    services: Svc,
    event: Annotated[str, Query(description="up, join, status, …: ChirpStack adds it.")] = "",
) -> Accepted:
    """ChirpStack's HTTP integration, JSON or Protobuf."""
    kind = _content_type(request)
    if kind != _JSON and kind not in _BINARY:
        raise _unsupported("Send application/json, or application/octet-stream for Protobuf.")
    if not EVENT.fullmatch(event):
        raise Problem(
            400, "bad-event", "The address lacks ?event=up (or join, status, …), as ChirpStack adds."
        )
    body = await request.body()
    return await _take(services, sender, chirpstack_topic(event, body, binary=kind != _JSON), body)


@router.post("/tts")
@router.post("/tts/{event:path}", include_in_schema=False)
async def from_tts(
    request: Request,
    sender: Sender,
    services: Svc,
    domain: Annotated[str, Header(alias="X-Tts-Domain")] = "",
    tenant: Annotated[str, Query(description="Where The Things Stack's own header does not tell it.")] = "",
) -> Accepted:
    """A webhook of The Things Stack, JSON; each event may have a path of its own below this one."""
    if _content_type(request) != _JSON:
        raise _unsupported("Send application/json: choose the webhook format JSON.")
    body = await request.body()
    told = request.path_params.get("event", "")
    return await _take(services, sender, tts_topic(body, tenant or tenant_of(domain), told), body)


async def _take(services: Services, sender: Principal, topic: str, body: bytes) -> Accepted:
    source = f"http:{sender.actor.removeprefix('key:')}"
    message = RawMessage(topic, body, services.clock.now(), source, qos=1)
    if not await services.intake.take(message, COMMIT_SECONDS):
        raise Problem(
            503,
            "unavailable",
            "The message is not committed: the database is away or too much waits for it. Send it again.",
            headers={"Retry-After": RETRY_SECONDS},
        )
    return Accepted()


def _content_type(request: Request) -> str:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise _unsupported(f"Send the body as it is, not as {encoding[:32]}.")
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported(detail: str) -> Problem:
    return Problem(415, "unsupported-media-type", detail)
