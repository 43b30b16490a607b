"""The quantities Quantrac knows."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from telemetry.catalogue import CATALOGUE, Change, Kind

from ..alerts import BothNames
from ..auth import require
from ..paging import Keyset, Page, Paging, text
from . import BASE

router = APIRouter(prefix=f"{BASE}/metrics-catalogue", tags=["catalogue"])

_KEYSET = Keyset("metrics", key=text)


class ChangeView(BaseModel):
    """The most a quantity can do: change `by` so many units `within` so many seconds."""

    by: float
    within: int


class MetricView(BaseModel):
    """A quantity with its one unit (UCUM); `range` is what a working sensor can plausibly report.

    `increment` of a counter is the metric of its growth between two readings; `cf` is the CF standard name
    and `definition_url` where the quantity is defined, each where one exists.
    """

    key: str
    name: BothNames
    unit: str
    range: tuple[float, float]
    precision: int
    kind: Kind
    increment: str | None
    max_change: ChangeView | None
    cf: str | None
    definition_url: str | None


@router.get("", dependencies=[Depends(require("viewer"))])
async def list_metrics(page: Paging) -> Page[MetricView]:
    """Every metric, by key."""
    after = _KEYSET.after(page.cursor)
    keys = [key for key in sorted(CATALOGUE) if after is None or key > after["key"]]
    rows, following = _KEYSET.cut([{"key": key} for key in keys[: page.fetch]], page)
    items = []
    for key in (row["key"] for row in rows):
        metric = CATALOGUE[key]
        items.append(
            MetricView(
                key=key,
                name=BothNames(vi=metric.vi, en=metric.en),
                unit=metric.unit,
                range=metric.range,
                precision=metric.precision,
                kind=metric.kind,
                increment=metric.increment,
                max_change=_change(metric.max_change),
                cf=metric.cf,
                definition_url=metric.definition_url,
            )
        )
    return Page(items=items, next=following)


def _change(change: Change | None) -> ChangeView | None:
    return ChangeView(by=change.by, within=change.within) if change else None
