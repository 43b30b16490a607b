"""Who a frame is from and how it is read: devices, device types and codecs, as of one registry version."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog

from decoders.device_types import parse_device_type
from decoders.mapping import DeviceType, choose_codec, default_codec
from decoders.registry import Registry
from telemetry.catalogue import CATALOGUE
from telemetry.clock import from_micros
from telemetry.errors import QuantracError
from telemetry.store.calibrations import read_calibrations
from telemetry.store.registry import (
    DeviceRow,
    read_device_types,
    read_devices,
    read_metric_ids,
    read_unmapped_counters,
)

from .corrections import Corrections, of_values
from .javascript import JavaScript
from .quality import GrossRange
from .readers import Reader, Readers, make_readers

_log = structlog.get_logger()


@dataclass(slots=True)
class Directory:
    """Everything decoding depends on. `version` is the registry's; devices that merely appeared are added.

    A device type is in one of `readers`, `problems` and, where its codec depends on firmware or time, in
    `alternatives`. `scripted` are the devices whose type names a JavaScript codec, `datalogs` the types with
    datalogs. `counters` are those known to be told beside maps, in normalized payloads.
    """

    version: int = -1
    devices: dict[str, DeviceRow] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    alternatives: dict[str, tuple[DeviceType, Readers]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    scripted: frozenset[str] = frozenset()
    datalogs: set[str] = field(default_factory=set)
    counters: frozenset[str] = frozenset()
    metric_ids: dict[str, int] = field(default_factory=dict)
    gross_range: GrossRange = field(default_factory=lambda: GrossRange({}))
    corrections: Corrections = field(default_factory=Corrections)

    def add(self, rows: Iterable[DeviceRow]) -> None:
        for row in rows:
            self.devices[row.dev_eui] = row

    def logging(self, devices: Iterable[DeviceRow]) -> Set[int]:
        """The ids of those of the devices that tell readings twice: in datalogs."""
        if not self.datalogs:
            return frozenset()
        return {device.id for device in devices if device.device_type in self.datalogs}

    def other_reader(self, device_type: str, firmware: str | None, time: int) -> Reader | str:
        """For a type that is not in `readers`: what reads a frame of this time (µs since 1970) from a device
        with this firmware, or why nothing does."""
        several = self.alternatives.get(device_type)
        if several is not None:
            return several[1][choose_codec(several[0], firmware, from_micros(time))]
        return self.problems.get(device_type, f"device type {device_type} is not known")


def read_directory(
    cursor: psycopg.Cursor[Any], codecs: Registry, version: int, javascript: JavaScript | None = None
) -> Directory:
    """What the devices there are need of the registry; a device type or codec that cannot be used is a
    problem of its own devices only. Without `javascript`, JavaScript codecs are such."""
    metric_ids = read_metric_ids(cursor)
    directory = Directory(version=version, metric_ids=metric_ids, gross_range=GrossRange(metric_ids))
    directory.counters = read_unmapped_counters(cursor)
    directory.corrections = of_values(read_calibrations(cursor))
    devices = read_devices(cursor)
    directory.add(devices)
    types = list(_used_types(cursor, directory, {row.device_type for row in devices}))
    scripted = set()
    for device_type, readers in zip(types, make_readers(cursor, codecs, javascript, types), strict=True):
        id_, default = device_type.id, readers[default_codec(device_type)]
        if device_type.codecs:
            directory.alternatives[id_] = device_type, readers
        elif isinstance(default, str):
            directory.problems[id_] = default
        else:
            directory.readers[id_] = default
        if any(isinstance(reader, Reader) and reader.script for reader in readers.values()):
            scripted.add(id_)
        if any(entry.records is not None for entry in device_type.mapping):
            directory.datalogs.add(id_)
    directory.scripted = frozenset(row.dev_eui for row in devices if row.device_type in scripted)
    return directory


def _used_types(
    cursor: psycopg.Cursor[Any], directory: Directory, used: Collection[str | None]
) -> Iterator[DeviceType]:
    """A device repository brings a thousand types; no more are made ready than have devices."""
    for data in read_device_types(cursor):
        if data["id"] not in used:
            continue
        try:
            yield parse_device_type(data, CATALOGUE)
        except QuantracError as error:
            directory.problems[data["id"]] = f"device type {data['id']}: {error}"
            _log.warning("device_type_unusable", device_type=data["id"], problem=str(error))
