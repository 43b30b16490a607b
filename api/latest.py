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
    layouts: dict[tuple[str, ...], list[_Place]] = {}  # devices of a type have the same series
    times: dict[int, datetime] = {}
    found = []
    for row in rows:
        eui, station = row["dev_eui"], row["station"]
        document = _document.decode(row["readings"])
        layout = tuple(document)
        places = layouts.get(layout)
        if places is None:
            places = layouts[layout] = _places(layout, names)
        for metric, channel, unit, key in places:
            micros, value, quality = document[key]
            time = times.get(micros)
            if time is None:
                time = times[micros] = _EPOCH + timedelta(microseconds=micros)
            found.append(LatestSeries(eui, station, metric, channel, time, value, quality, unit))
    return found


_Place = tuple[str, int, str, str]  # metric, channel, unit, key in the document


def _places(keys: Sequence[str], names: Mapping[int, MetricName]) -> list[_Place]:
    places = []
    for key in keys:
        metric_id, _, channel = key.partition(":")
        name = names.get(int(metric_id))
        if name is not None:
            places.append((name.key, int(channel), name.unit, key))
    return sorted(places)


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
            LatestReading.model_construct(  # what the writers stored needs no checking
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
