"""Where a number comes from: its frame, how it was read and corrected, and why it is trusted or not."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from ingest.quality_scope import Explained, explain
from telemetry.checks import Check, Checks, Outcome
from telemetry.clock import micros

from ..auth import require
from ..fields import DevEui, Moment
from ..names import metric_ids, metric_names
from ..paging import Page, Row
from ..problems import not_found
from ..services import Db
from . import BASE

router = APIRouter(prefix=BASE, tags=["readings"])

_QUERY = "SELECT reading_provenance(%s, %s, %s::int2, %s) AS found LIMIT 100"
_STAMP = re.compile(r"(?P<codec>.*?)@(?P<version>[^@/]*)(/(?P<map>[^/]*))?")


class Frame(BaseModel):
    """The uplink that carried it; `fields` is what the codec read, `gateways` who heard it."""

    id: str
    time: datetime
    ns_time: datetime | None
    ingest_time: datetime
    dedup_key: str
    f_cnt: int | None
    f_port: int | None
    payload_hex: str
    network: str
    gateways: list[dict[str, Any]]
    fields: Any
    problem: str | None


class Decoding(BaseModel):
    """By what the frame was read: the codec's version, and the entries of the device type's map."""

    codec: str
    version: str
    map_version: str | None
    map: list[dict[str, Any]] | None


class AppliedCalibration(BaseModel):
    """What corrected it; of an increment that of its counter."""

    model_config = ConfigDict(populate_by_name=True)

    id: int
    metric: str
    start: datetime = Field(alias="from")
    end: datetime | None = Field(alias="to")
    definition: dict[str, Any]
    created_at: datetime
    created_by: str


class CheckView(BaseModel):
    """What a test finds, and the limits it finds it by, in the metric's unit and in seconds."""

    test: str
    outcome: Literal["pass", "suspect", "fail", "not_evaluated"]
    limits: Any


class Said(BaseModel):
    """A person's word; the newest that is not withdrawn holds."""

    model_config = ConfigDict(populate_by_name=True)

    id: int
    start: datetime = Field(alias="from")
    end: datetime | None = Field(alias="to")
    quality: int
    reason: str
    created_at: datetime
    created_by: str
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    withdrawn_reason: str | None


class Before(BaseModel):
    value: float
    raw: float | None
    quality: int


class DecodedAgain(BaseModel):
    """When its frame was decoded again, by which job, and what it `said` before, where that was another."""

    at: datetime
    job: int
    requested_by: str | None
    decoded_by: str | None
    said: list[Before]


class Count(BaseModel):
    time: datetime
    metric: str
    value: float
    uplink_id: str


class Provenance(BaseModel):
    """One reading and all that stands behind it.

    `raw` is what the device reported, `flag_it_came_with` what ingest or a job gave it at first. `tests` are
    those that are made of it; `pending`: what they find now is yet to be written. `counts` are the two that
    an increment lies between, null for anything else. `frame` is null when it is gone.
    """

    time: datetime
    dev_eui: str
    station: str | None
    metric: str
    unit: str
    channel: int
    value: float
    raw: float
    quality: int
    flag_it_came_with: int
    frame: Frame | None
    decoding: Decoding | None
    calibration: AppliedCalibration | None
    tests: list[CheckView]
    pending: bool
    overrides: list[Said]
    decoded_again: list[DecodedAgain]
    counts: list[Count] | None


@router.get("/readings/provenance", dependencies=[Depends(require("viewer"))])
async def get_provenance(
    db: Db,
    device: DevEui,
    metric: str,
    time: Annotated[Moment, Query(description="Of the reading, to the microsecond.")],
    channel: Annotated[int, Query(ge=0, le=32767)] = 0,
) -> Page[Provenance]:
    """Where the reading of this series and time comes from; `items` has one, several where there are."""
    row = await (await db.execute("SELECT id FROM device WHERE dev_eui = %s", (device,))).fetchone()
    if row is None:
        raise not_found("device", device)
    (metric_id,) = metric_ids(await metric_names(db), [metric])
    async with db.transaction():
        rows = await (await db.execute(_QUERY, (row["id"], metric, channel, time))).fetchall()
        if not rows:
            raise not_found("reading", f"{device} {metric} {channel} {time.isoformat()}")
        checks, found = await explain(db, (metric_id, metric), row["id"], channel, micros(time))
    explained = {(str(one.uplink_id), one.value): one for one in found}
    items = []
    for document in (row["found"] for row in rows):
        one = explained.get((document["uplink_id"], document["value"]))
        items.append(Provenance.model_validate({**_shown(document), **_judged(checks, one, document)}))
    return Page(items=items)


def _shown(document: Row) -> Row:
    frame, stamp = document["frame"], None
    if frame is not None:
        frame = {**frame, "id": document["uplink_id"]}
        stamp = _STAMP.fullmatch(frame["decoded_by"] or "")
    decoding = None
    if stamp is not None:
        entries = document["map"] and document["map"]["entries"]
        named = {"codec": stamp["codec"], "version": stamp["version"]}
        decoding = {**named, "map_version": stamp["map"], "map": entries}
    return {**document, "frame": frame, "decoding": decoding}


def _judged(checks: Checks, found: Explained | None, document: Row) -> dict[str, Any]:
    tests = []
    for check in Check:
        limits = checks.get(check)
        outcome = Outcome.NOT_EVALUATED if found is None else found.outcomes[check]
        told = outcome in (Outcome.SUSPECT, Outcome.FAIL) and check is not Check.OVERRIDE
        if limits is not None or told:
            shown = msgspec.to_builtins(limits)
            tests.append({"test": check.word, "outcome": outcome.name.lower(), "limits": shown})
    return {"tests": tests, "pending": found is None or found.pending}
