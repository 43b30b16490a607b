"""Codecs: which there are, adding a vendor's JavaScript, trying a payload."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from decoders.device_types import DeviceType, parse_device_type
from decoders.devicerepo.model import RepoCodec
from decoders.devicerepo.single import SingleCodec, faults
from decoders.javascript.calls import Failure
from ingest.trial import call_native, call_script, judge, read_payload
from telemetry.catalogue import CATALOGUE
from telemetry.errors import ConflictError, UsageError
from telemetry.store.codecs import ADD_CODEC, LOCK_REGISTRY, codec_parameters

from ..audit import audit
from ..auth import Principal, Viewer, require, require_briefly
from ..codecs import CodecDetail, CodecView, find_codec, find_script, list_codecs
from ..database import CONNECTION_SECONDS, Connection
from ..fields import Body, JsonObject, Moment, SlugId, Text, Words, storable
from ..paging import Keyset, Page, Paging, text
from ..problems import FieldProblem, invalid, invalid_fields, not_found, usage_problem
from ..roles import covers
from ..services import Db, Services, Svc
from . import BASE

router = APIRouter(prefix=f"{BASE}/codecs", tags=["codecs"])

_KEYSET = Keyset("codecs", id=text)
_MOST_VECTORS = 200
_SHOWN = 50  # faults told in one answer
_DEVICE_TYPE = "SELECT id, vendor, model, expected_interval, mapping AS map FROM device_type WHERE id = %s"

Adder = Annotated[Principal, Depends(require_briefly("engineer"))]
Source = Annotated[str, StringConstraints(min_length=1), AfterValidator(storable)]
Version = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]


class CodecBody(Body):
    """A vendor's JavaScript. Its own `vectors` must pass, or `force` must be set.

    `vectors` are examples as The Things Network (an object with `uplinkDecoder`), ChirpStack (a list of
    `input` and `expected`) or Quantrac (a list of `payload` and `fields`) writes them.
    """

    id: SlugId
    source: Source
    fresh: bool = False
    vectors: Annotated[list[JsonObject], Field(max_length=_MOST_VECTORS)] | JsonObject = Field(default=[])
    force: bool = False


class TryBody(Body):
    """A payload to be decoded, in hex or base64.

    `time` is when it was received, now when left out; it is what the codec's clock shows. `device_type` maps
    the fields to metrics. Without `version` the newest is tried.
    """

    payload: Annotated[str, StringConstraints(max_length=20_000)]
    f_port: Annotated[int, Field(ge=0, le=255)]
    time: Moment | None = None
    variables: JsonObject = Field(default={})
    version: Version | None = None
    device_type: Text | None = None


class MetricTried(BaseModel):
    """A reading as it would be stored; `quality` after QARTOD: 1 good, 4 fail."""

    time: datetime
    metric: str
    channel: int
    value: float
    unit: str
    quality: int


class TrialView(BaseModel):
    """What became of a payload. `fields` is null when there are `errors`.

    `failure` says why the codec gave no answer at all. `problems` are fields that the device type's map could
    not use, `unmapped` those that it does not name. `normalized` is what the codec's `normalizeUplink` gave;
    its readings are among `metrics`. `micros` is the time used in µs.
    """

    fields: dict[str, Any] | None
    metrics: list[MetricTried]
    problems: list[str]
    unmapped: list[str]
    warnings: list[str]
    errors: list[str]
    console: list[str]
    failure: Failure | None
    micros: int
    normalized: Any


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_all(page: Paging, db: Db, services: Svc, q: Words = None) -> Page[CodecView]:
    """Codecs by id, each with its newest version."""
    registry = await asyncio.to_thread(services.codecs)
    rows = await list_codecs(db, registry, _KEYSET.after(page.cursor), q, page)
    shown, following = _KEYSET.cut(rows, page)
    return Page(items=[CodecView.model_validate(row) for row in shown], next=following)


@router.get("/{id}")
async def get_codec(
    id: str,
    principal: Viewer,
    db: Db,
    services: Svc,
    version: Annotated[str | None, Query(description="Whose source; the newest when not given.")] = None,
) -> CodecDetail:
    """One codec with its versions; engineers see its source."""
    engineer = covers(principal.role, "engineer")
    registry = await asyncio.to_thread(services.codecs)
    found = await find_codec(db, registry, id, version, with_source=engineer)
    if found is None:
        raise not_found("codec", id if version is None else f"{id}@{version}")
    return found


@router.post("")
async def add_codec(body: CodecBody, principal: Adder, response: Response, services: Svc) -> CodecDetail:
    """Add a version of a codec (201); 200 when this source is there already. Failing vectors refuse it."""
    registry = await asyncio.to_thread(services.codecs)
    if body.id in registry.ids():
        raise ConflictError(f"A codec of this machine has the id {body.id!r} and goes first; choose another.")
    reasons = await _faults(services, body)
    if reasons and not body.force:
        raise invalid_fields(reasons)
    values = codec_parameters(body.id, body.source, fresh=body.fresh, origin="API", added_by=principal.actor)
    async with services.pool.connection(CONNECTION_SECONDS) as db, db.transaction():
        await db.execute(LOCK_REGISTRY)
        added = (await db.execute(ADD_CODEC, values)).rowcount == 1
        stored = await find_script(db, registry, body.id, values["version"])
        if stored is None or stored.fresh is not body.fresh:
            raise ConflictError(
                f"This source is there already with another `fresh`, and a version never changes; change a "
                f"comment in it to add it as another version of {body.id}."
            )
        if added:
            told = {"version": values["version"], "fresh": body.fresh, "forced": bool(reasons)}
            await audit(db, principal, "codec.add", body.id, told)
        found = await find_codec(db, registry, body.id, values["version"], with_source=True)
    assert found is not None
    response.status_code = 201 if added else 200
    return found


@router.post("/{id}/try", dependencies=[Depends(require_briefly("engineer"))])
async def try_codec(id: str, body: TryBody, services: Svc) -> TrialView:
    """Decode one payload and map its fields; nothing is stored."""
    try:
        payload = read_payload(body.payload)
    except UsageError as error:
        raise usage_problem(error) from None
    time = body.time or services.clock.now()
    registry = await asyncio.to_thread(services.codecs)
    native = registry.codecs.get(id)
    async with services.pool.connection(CONNECTION_SECONDS) as db:
        device_type = await _device_type(db, body.device_type, id)
        script = None if native else await find_script(db, registry, id, body.version)
    if native and body.version in (None, native.version):
        outcome = await asyncio.to_thread(call_native, native, body.f_port, payload)
    elif script:
        outcome = await services.scripts.run(
            lambda workers: call_script(workers, script, body.f_port, payload, time, body.variables)
        )
    else:
        raise not_found("codec", id if body.version is None else f"{id}@{body.version}")
    trial = await asyncio.to_thread(judge, outcome, device_type, time, body.variables)
    return TrialView.model_validate(msgspec.to_builtins(trial, builtin_types=(datetime,)))


async def _faults(services: Services, body: CodecBody) -> list[FieldProblem]:
    single = SingleCodec(
        RepoCodec.of("source", body.source), {"vectors": body.vectors} if body.vectors else {}
    )
    try:
        reasons, _ = await services.scripts.run(partial(faults, single, fresh=body.fresh))
    except UsageError as error:
        raise invalid("source", str(error)) from None
    problems = []
    for reason in reasons[:_SHOWN]:
        field, _, told = reason.partition(": ")
        problems.append(FieldProblem(field=field, problem=told))
    return problems


async def _device_type(db: Connection, id: str | None, codec: str) -> DeviceType | None:
    """The device type, as if it named the codec that is tried."""
    if id is None:
        return None
    row = await (await db.execute(_DEVICE_TYPE, (id,))).fetchone()
    if row is None:
        raise invalid("device_type", f"there is no {id[:100]!r}")
    return parse_device_type({**row, "codec": codec}, CATALOGUE)
