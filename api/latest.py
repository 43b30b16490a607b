"""The newest reading of each series of a device, from the one row the writers keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from pydantic import BaseModel

from .names import MetricName
from .paging import Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_document = msgspec.json.Decoder(dict[str, tuple[int, float, int]])


class LatestReading(BaseModel):
    """The newest value of one series; `quality` is a QARTOD flag, `unit` in UCUM."""

    dev_eui: str
    metric: str
    channel: int
    time: datetime
    value: float
    quality: int
    unit: str


class LatestSeries(msgspec.Struct, gc=False):
    """One row of `/latest`. No model: 60,000 of them would cost more than the query."""

    dev_eui: str
    station: str | None
    metric: str
    channel: int
    time: datetime
    value: float
    quality: int
    unit: str


def latest_series(rows: Sequence[Row], names: Mapping[int, MetricName]) -> list[LatestSeries]:
    """The series of these metrics in rows (dev_eui, station, readings as text), ordered within each."""
    series: dict[str, tuple[str, int, str] | None] = {}
    times: dict[int, datetime] = {}
    found = []
    for row in rows:
        own = []
        for key, (micros, value, quality) in _document.decode(row["readings"]).items():
            if key not in series:
                series[key] = _named(key, names)
            name = series[key]
            if name is not None:
                time = times.get(micros)
                if time is None:
                    time = times[micros] = _EPOCH + timedelta(microseconds=micros)
                own.append((name, time, value, quality))
        own.sort()
        eui, station = row["dev_eui"], row["station"]
        found += [
            LatestSeries(eui, station, metric, channel, time, value, quality, unit)
            for (metric, channel, unit), time, value, quality in own
        ]
    return found


def _named(key: str, names: Mapping[int, MetricName]) -> tuple[str, int, str] | None:
    metric_id, _, channel = key.partition(":")
    name = names.get(int(metric_id))
    return None if name is None else (name.key, int(channel), name.unit)


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
