"""The newest reading of each series of a device, from the one row the writers keep."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from .names import MetricName

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LatestReading(BaseModel):
    """The newest value of one series; `quality` is a QARTOD flag, `unit` in UCUM."""

    dev_eui: str
    metric: str
    channel: int
    time: datetime
    value: float
    quality: int
    unit: str


def latest_readings(
    dev_eui: str,
    document: Mapping[str, list[Any]] | None,
    names: Mapping[int, MetricName],
) -> list[LatestReading]:
    """The readings in `latest.readings`, ordered by metric and channel."""
    found = []
    for series, (micros, value, quality) in (document or {}).items():
        metric_id, _, channel = series.partition(":")
        name = names.get(int(metric_id))
        if name is None:
            continue
        found.append(
            LatestReading(
                dev_eui=dev_eui,
                metric=name.key,
                channel=int(channel),
                time=_EPOCH + timedelta(microseconds=micros),
                value=value,
                quality=quality,
                unit=name.unit,
            )
        )
    return sorted(found, key=lambda reading: (reading.metric, reading.channel))
