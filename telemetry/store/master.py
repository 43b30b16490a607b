"""Master data as imports and the demo write it: whole rows by their natural key, all or nothing."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from ..errors import UsageError

# Unchanged rows are left alone, since a change makes every writer read the registry again.
_DEVICE_TYPE = """
    INSERT INTO device_type (id, vendor, model, codec, codec_version, codecs, expected_interval, mapping,
                             builtin)
    VALUES (%(id)s, %(vendor)s, %(model)s, %(codec)s, %(codec_version)s, %(codecs)s, %(expected_interval)s,
            %(map)s, %(builtin)s)
    ON CONFLICT (id) DO UPDATE SET
        vendor = excluded.vendor, model = excluded.model, codec = excluded.codec,
        codec_version = excluded.codec_version, codecs = excluded.codecs,
        expected_interval = excluded.expected_interval, mapping = excluded.mapping, updated_at = now()
    WHERE (device_type.builtin OR NOT excluded.builtin)
      AND (device_type.vendor, device_type.model, device_type.codec, device_type.codec_version,
           device_type.codecs, device_type.expected_interval, device_type.mapping)
          IS DISTINCT FROM (excluded.vendor, excluded.model, excluded.codec, excluded.codec_version,
                            excluded.codecs, excluded.expected_interval, excluded.mapping)
"""
_STATION = """
    INSERT INTO station (code, name, name_en, kind, river, basin, admin_unit, latitude, longitude, thresholds,
                         quality, source, certainty, simulated)
    VALUES (%(code)s, %(name)s, %(name_en)s, %(kind)s, %(river)s, %(basin)s, %(admin_unit)s, %(latitude)s,
            %(longitude)s, %(thresholds)s, %(quality)s, %(source)s, %(certainty)s, %(simulated)s)
    ON CONFLICT (code) DO UPDATE SET
        name = excluded.name, name_en = excluded.name_en, kind = excluded.kind, river = excluded.river,
        basin = excluded.basin, admin_unit = excluded.admin_unit, latitude = excluded.latitude,
        longitude = excluded.longitude, thresholds = excluded.thresholds,
        quality = excluded.quality, source = excluded.source,
        certainty = excluded.certainty, simulated = excluded.simulated, updated_at = now()
"""
_DEVICE = """
    INSERT INTO device (dev_eui, name, status, device_type, station_id, variables, simulated, firmware)
    VALUES (%(dev_eui)s, %(name)s, 'active', %(device_type)s, %(station_id)s, %(variables)s, %(simulated)s,
            %(firmware)s)
    ON CONFLICT (dev_eui) DO UPDATE SET
        name = excluded.name, status = 'active', device_type = excluded.device_type,
        station_id = excluded.station_id, variables = excluded.variables, simulated = excluded.simulated,
        firmware = coalesce(excluded.firmware, device.firmware), updated_at = now()
    RETURNING id
"""
_RULE = """
    INSERT INTO rule (id, definition, enabled, updated_by)
    VALUES (%(id)s, %(definition)s, %(enabled)s, %(actor)s)
    ON CONFLICT (id) DO UPDATE SET
        definition = excluded.definition, enabled = excluded.enabled, version = rule.version + 1,
        updated_at = now(), updated_by = excluded.updated_by
    WHERE (rule.definition, rule.enabled) IS DISTINCT FROM (excluded.definition, excluded.enabled)
"""


def save_device_type(cursor: psycopg.Cursor[Any], data: Mapping[str, Any], *, builtin: bool = False) -> None:
    """Add or replace one, given as `DeviceType.to_dict`; a built-in never replaces an edited one."""
    values = {"codec_version": None, **data, "map": Jsonb(data["map"]), "builtin": builtin}
    cursor.execute(_DEVICE_TYPE, {**values, "codecs": Jsonb(data.get("codecs", []))})


def save_station(cursor: psycopg.Cursor[Any], data: Mapping[str, Any]) -> None:
    """Add or replace one, keys as the columns of `station`."""
    own = {"thresholds": Jsonb(data["thresholds"]), "quality": Jsonb(data.get("quality", {}))}
    cursor.execute(_STATION, {**data, **own})


class SavedDevice(NamedTuple):
    """A device that was written; `missing` are variables its type asks for and it does not have."""

    id: int
    missing: list[str]


def save_device(
    cursor: psycopg.Cursor[Any],
    data: Mapping[str, Any],
    check_variables: Callable[[list[dict[str, Any]], Collection[str]], tuple[list[str], list[str]]],
) -> SavedDevice:
    """Register one or replace it; `station` is a code or None; without `firmware` the known one stays.

    `check_variables` gives the names that a stored mapping does not ask for, and those it lacks: what a
    mapping means is known one floor up, where device types are read.

    Raises:
        UsageError: no such station or device type, or a variable that the type does not ask for; one line
            for each fault.
    """
    faults: list[str] = []
    missing: list[str] = []
    station_id = None
    if data.get("station"):
        row = cursor.execute("SELECT id FROM station WHERE code = %s", (data["station"],)).fetchone()
        if row is None:
            near = _near(data["station"], cursor.execute("SELECT code FROM station").fetchall())
            faults.append(f"station: there is no {data['station']!r}{near}; import the stations first")
        else:
            station_id = row[0]
    found = cursor.execute("SELECT mapping FROM device_type WHERE id = %s", (data["device_type"],)).fetchone()
    if found is None:
        near = _near(data["device_type"], cursor.execute("SELECT id FROM device_type").fetchall())
        faults.append(
            f"device_type: there is no {data['device_type']!r}{near}; GET /api/v1/device-types lists them"
        )
    else:
        unknown, missing = check_variables(found[0], data["variables"])
        for name in unknown:
            near = _near(name, [(other,) for other in missing])
            faults.append(f"variables.{name}: a {data['device_type']} has no use for it{near}")
    if faults:
        raise UsageError("\n".join(faults))
    values = {"firmware": None, **data, "station_id": station_id, "variables": Jsonb(data["variables"])}
    cursor.execute(_DEVICE, values)
    row = cursor.fetchone()
    assert row is not None
    return SavedDevice(int(row[0]), missing)


def _near(word: str, known: list[tuple[Any, ...]]) -> str:
    near = difflib.get_close_matches(word, [row[0] for row in known], n=3)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def ask_for_decoding(cursor: psycopg.Cursor[Any], device_id: int, actor: str) -> None:
    """Let the frames a device sent before it was registered be decoded."""
    cursor.execute("INSERT INTO decode_job (device_id, requested_by) VALUES (%s, %s)", (device_id, actor))


def save_rule(cursor: psycopg.Cursor[Any], definition: Mapping[str, Any], actor: str) -> bool:
    """Add or replace one, given as `Rule.to_dict`; False when it was so already."""
    known = {"id": definition["id"], "enabled": definition["enabled"], "actor": actor}
    cursor.execute(_RULE, {**known, "definition": Jsonb(dict(definition))})
    return cursor.rowcount == 1
