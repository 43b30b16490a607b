"""Where devices were, and when: a reading belongs to the station of its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.rows import tuple_row

from telemetry.clock import micros

from .selection import Selection
from .table import Coded

_DEVICES = """
    SELECT d.id, d.dev_eui, d.simulated FROM device d
    WHERE (%(euis)s::text[] IS NULL OR d.dev_eui = ANY(%(euis)s)) AND d.id >= %(first)s
      AND (%(stations)s::text[] IS NULL OR d.id IN (
          SELECT p.device_id FROM device_station_period p JOIN station s ON s.id = p.station_id
          WHERE s.code = ANY(%(stations)s)))
    ORDER BY d.id
"""
_STAYS = """
    SELECT p.device_id, p.valid_from, p.valid_to, s.code, s.name
    FROM device_station_period p JOIN station s ON s.id = p.station_id
    WHERE p.device_id = ANY(%(devices)s) AND (%(stations)s::text[] IS NULL OR s.code = ANY(%(stations)s))
    ORDER BY p.device_id, p.valid_from NULLS FIRST
"""


class Named(NamedTuple):
    """A device as rows tell of it."""

    dev_eui: str
    simulated: bool


class Stay(NamedTuple):
    """From `since` until before `until`, in µs since 1970 and within the span of the export."""

    since: int
    until: int
    station: str
    station_name: str


Stays = Mapping[int, Sequence[Stay]]
"""By device id, in the order of time."""


def devices_of(connection: psycopg.Connection[Any], selection: Selection, first: int) -> dict[int, Named]:
    """By id, from the id `first` on, of those asked for that ever were at a station asked for."""
    wanted = {
        "euis": list(selection.devices) or None, "stations": list(selection.stations) or None, "first": first,
    }  # fmt: skip
    with connection.cursor(row_factory=tuple_row) as cursor:
        return {id_: Named(*named) for id_, *named in cursor.execute(_DEVICES, wanted).fetchall()}


def stays_of(connection: psycopg.Connection[Any], selection: Selection, devices: Sequence[int]) -> Stays:
    """Where these were within the span of the selection, at the stations that are asked for."""
    assert selection.end is not None
    begin, end = micros(selection.since), micros(selection.end)
    found: dict[int, list[Stay]] = {}
    wanted = {"devices": list(devices), "stations": list(selection.stations) or None}
    with connection.cursor(row_factory=tuple_row) as cursor:
        for device, valid_from, valid_to, station, name in cursor.execute(_STAYS, wanted):
            since = max(begin, micros(valid_from)) if valid_from else begin
            until = min(end, micros(valid_to)) if valid_to else end
            if since < until:
                found.setdefault(device, []).append(Stay(since, until, station, name))
    return found


def stations_at(
    stays: Stays, devices: npt.NDArray[np.int32], times: npt.NDArray[np.int64]
) -> tuple[Coded, Coded]:
    """Code and name of the station of each row. `devices` ascend, shape (n,), as have `times`."""
    codes = np.zeros(len(devices), np.int64)
    names: list[tuple[str | None, str | None]] = [(None, None)]
    ids, begins = np.unique(devices, return_index=True)
    for id_, begin, end in zip(ids.tolist(), begins, [*begins[1:], len(devices)], strict=True):
        own = stays.get(id_)
        if not own:
            continue
        of = times[begin:end]
        stay = np.searchsorted([one.since for one in own], of, "right") - 1
        there = (stay >= 0) & (of < np.array([one.until for one in own])[stay])
        codes[begin:end] = np.where(there, len(names) + stay, 0)
        names += [(one.station, one.station_name) for one in own]
    return Coded(codes, [code for code, _ in names]), Coded(codes, [name for _, name in names])
