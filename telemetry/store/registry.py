"""Devices and device types as writers need them: read at once, kept until the registry's version moves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import psycopg

from ..checks import StationChecks, stored_station_checks

EVER = 2**62
"""Later, or earlier if negative, than any time in µs."""


class DeviceRow(NamedTuple):
    """One device; `device_type` is None until it is registered, `firmware` while nobody said which."""

    id: int
    dev_eui: str
    status: str
    device_type: str | None
    variables: dict[str, float]
    simulated: bool
    firmware: str | None = None


class Stay(NamedTuple):
    """A device at a station with these checks, from `first` to before `end` (µs since 1970)."""

    device_id: int
    checks: StationChecks
    first: int = -EVER
    end: int = EVER


def read_devices(cursor: psycopg.Cursor[Any]) -> list[DeviceRow]:
    cursor.execute("SELECT id, dev_eui, status, device_type, variables, simulated, firmware FROM device")
    return [DeviceRow(*row) for row in cursor.fetchall()]


def read_device_types(cursor: psycopg.Cursor[Any]) -> list[dict[str, Any]]:
    """Every device type in the form that `decoders.device_types.parse_device_type` takes."""
    cursor.execute(
        "SELECT id, vendor, model, codec, expected_interval, mapping, codec_version, codecs FROM device_type"
    )
    keys = ("id", "vendor", "model", "codec", "expected_interval", "map", "codec_version", "codecs")
    return [dict(zip(keys, row, strict=True)) for row in cursor.fetchall()]


def read_map_versions(cursor: psycopg.Cursor[Any]) -> dict[str, str]:
    """The version of each device type's map, by the type's id; table `device_type_map` has the maps."""
    cursor.execute("SELECT id, map_version FROM device_type")
    return dict(cursor.fetchall())


def read_maps(cursor: psycopg.Cursor[Any], versions: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The entries of those of these versions of maps that there were."""
    cursor.execute(
        "SELECT map_version, mapping FROM device_type_map WHERE map_version = ANY(%s)", (list(versions),)
    )
    return dict(cursor.fetchall())


def read_metric_ids(cursor: psycopg.Cursor[Any]) -> dict[str, int]:
    cursor.execute("SELECT key, id FROM metric")
    return dict(cursor.fetchall())


def read_stays(cursor: psycopg.Cursor[Any]) -> list[Stay]:
    """Where devices were, and when, of the stations that have quality checks of their own."""
    query = """
        SELECT p.device_id, s.quality::text,
               coalesce((extract(epoch FROM p.valid_from) * 1000000)::int8, %(first)s),
               coalesce((extract(epoch FROM p.valid_to) * 1000000)::int8, %(last)s)
        FROM device_station_period p JOIN station s ON s.id = p.station_id
        WHERE s.quality <> '{}'
    """
    cursor.execute(query, {"first": -EVER, "last": EVER})
    return [Stay(id_, stored_station_checks(text), *span) for id_, text, *span in cursor.fetchall()]


def read_unmapped_counters(cursor: psycopg.Cursor[Any]) -> frozenset[str]:
    """The counters that some device tells beside its map: in normalized payloads."""
    cursor.execute("SELECT key FROM metric WHERE normalized")
    return frozenset(key for (key,) in cursor.fetchall())


def add_unmapped_counters(cursor: psycopg.Cursor[Any], metrics: Collection[str]) -> None:
    """Note that devices tell these counters beside their maps; a new version where nobody did before."""
    cursor.execute(
        "UPDATE metric SET normalized = true WHERE key = ANY(%s) AND NOT normalized", (sorted(metrics),)
    )
    if cursor.rowcount:
        cursor.execute("UPDATE registry_version SET version = version + 1")


_ADD = """
    INSERT INTO device (dev_eui, name, origin, simulated)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::jsonb[], %s::boolean[])
    ON CONFLICT (dev_eui) DO NOTHING
"""


def add_unregistered(
    cursor: psycopg.Cursor[Any], newcomers: list[tuple[str, str, Any, bool]]
) -> list[DeviceRow]:
    """Let devices appear that nobody registered: (dev_eui, name, origin, simulated); returns their rows.

    Two writers may meet the same newcomer; in key order they wait for each other instead of deadlocking.
    """
    ordered = sorted(newcomers, key=lambda n: n[0])
    cursor.execute(_ADD, tuple(map(list, zip(*ordered, strict=True))))
    cursor.execute(
        "SELECT id, dev_eui, status, device_type, variables, simulated, firmware FROM device"
        " WHERE dev_eui = ANY(%s)",
        ([n[0] for n in ordered],),
    )
    return [DeviceRow(*row) for row in cursor.fetchall()]
