"""The newest reading of each series of a device, from the one row the writers keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import BaseModel

from .names import MetricName

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


class NewestValue(msgspec.Struct, gc=False):
    """A `LatestReading` among very many. No model: 60,000 of them would cost more than the query."""

    dev_eui: str
    metric: str
    channel: int
    time: datetime
    value: float
    quality: int
    unit: str


class LatestSeries(msgspec.Struct, gc=False):
    """One row of `/latest`."""

    dev_eui: str
    station: str | None
    metric: str
    channel: int
    time: datetime
    value: float
    quality: int
    unit: str


T = TypeVar("T")


class Newest(Generic[T]):
    """Reads `latest.readings`, as text, of many devices, and makes a `make(*whose, metric, channel, time,
    value, quality, unit)` of each series whose metric has a name."""

    def __init__(self, make: Callable[..., T], names: Mapping[int, MetricName]) -> None:
        self._make = make
        self._names = names
        self._layouts: dict[tuple[str, ...], list[_Place]] = {}  # devices of a type have the same series

    @property
    def unasked(self) -> list[str]:
        """Keys that were met and of which nothing is made: the next devices may do without them."""
        met = {key for layout in self._layouts for key in layout}
        return sorted(met - {place[-1] for places in self._layouts.values() for place in places})

    def of(self, readings: str, *whose: str | None) -> list[T]:
        """The series of one device, ordered by metric and channel."""
        document = _document.decode(readings)
        layout = tuple(document)
        places = self._layouts.get(layout)
        if places is None:
            places = self._layouts[layout] = _places(layout, self._names)
        make, last, time = self._make, None, _EPOCH
        found = []
        for metric, channel, unit, key in places:
            micros, value, quality = document[key]
            if micros != last:  # what came in one frame has one time
                last, time = micros, _EPOCH + timedelta(microseconds=micros)
            found.append(make(*whose, metric, channel, time, value, quality, unit))
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
