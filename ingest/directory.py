"""Who a frame is from and how it is read: devices, device types and codecs, as of one registry version."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
import structlog

from decoders.device_types import parse_device_type
from decoders.mapping import DeviceType, choose_codec, default_codec
from decoders.normalized import MOST_MEASUREMENTS
from decoders.registry import Registry
from telemetry.catalogue import CATALOGUE
from telemetry.clock import from_micros
from telemetry.errors import QuantracError
from telemetry.store.calibrations import read_calibrations
from telemetry.store.overrides import read_overrides_now
from telemetry.store.registry import (
    DeviceRow,
    read_device_types,
    read_devices,
    read_map_versions,
    read_metric_ids,
    read_stays,
    read_unmapped_counters,
)

from .corrections import Corrections, of_values
from .javascript import JavaScript
from .quality import SingleReading
from .readers import Reader, Readers, Type, make_readers

_log = structlog.get_logger()


class Trial(NamedTuple):
    """A device type as it would be: what `changes` give of `codec`, `codec_version`, `codecs` and `map`."""

    device_type: str
    changes: Mapping[str, Any]


@dataclass(slots=True)
class Directory:
    """Everything decoding depends on. `version` is the registry's; devices that merely appeared are added.

    A device type is in one of `readers`, `problems` and, where its codec depends on firmware or time, in
    `alternatives`. `scripted` are the devices whose type names a JavaScript codec, `datalogs` the types with
    datalogs. `counters` are those known to be told beside maps, in normalized payloads. `derived` are each
    type's metrics and channels that are worked out of its counters.
    """

    version: int = -1
    devices: dict[str, DeviceRow] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    alternatives: dict[str, tuple[DeviceType, Readers]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    scripted: frozenset[str] = frozenset()
    datalogs: set[str] = field(default_factory=set)
    counters: frozenset[str] = frozenset()
    derived: dict[str, frozenset[tuple[str, int]]] = field(default_factory=dict)
    metric_ids: dict[str, int] = field(default_factory=dict)
    flags: SingleReading = field(default_factory=lambda: SingleReading({}))
    corrections: Corrections = field(default_factory=Corrections)

    def add(self, rows: Iterable[DeviceRow]) -> None:
        for row in rows:
            self.devices[row.dev_eui] = row

    def logging(self, devices: Iterable[DeviceRow]) -> Set[int]:
        """The ids of those of the devices that tell readings twice: in datalogs."""
        if not self.datalogs:
            return frozenset()
        return {device.id for device in devices if device.device_type in self.datalogs}

    def recipe(self, device: DeviceRow) -> str:
        """All that decoding a frame of this device depends on beside the frame, as words."""
        type_ = device.device_type or ""
        if type_ in self.alternatives:
            readers = [*self.alternatives[type_][1].values()]
            periods = repr(self.alternatives[type_][0].codecs)
        else:
            readers = [self.readers.get(type_) or self.problems.get(type_, "")]
            periods = ""
        stamps = [reader if isinstance(reader, str) else reader.stamp for reader in readers]
        return repr((type_, stamps, periods, device.firmware, sorted(device.variables.items())))

    def stamp(self, device: DeviceRow, time: int) -> str | None:
        """What a frame of this time (µs since 1970) is stamped with now; None where nothing can read it."""
        type_ = device.device_type or ""
        reader = self.readers.get(type_) or self.other_reader(type_, device.firmware, time)
        return None if isinstance(reader, str) else reader.stamp

    def other_reader(self, device_type: str, firmware: str | None, time: int) -> Reader | str:
        """For a type that is not in `readers`: what reads a frame of this time (µs since 1970) from a device
        with this firmware, or why nothing does."""
        several = self.alternatives.get(device_type)
        if several is not None:
            return several[1][choose_codec(several[0], firmware, from_micros(time))]
        return self.problems.get(device_type, f"device type {device_type} is not known")


def read_directory(
    cursor: psycopg.Cursor[Any],
    codecs: Registry,
    version: int,
    javascript: JavaScript | None = None,
    trial: Trial | None = None,
) -> Directory:
    """What the devices there are need of the registry; a device type or codec that cannot be used is a
    problem of its own devices only. Without `javascript`, JavaScript codecs are such. With a `trial`, one
    device type is read as it would be."""
    metric_ids = read_metric_ids(cursor)
    directory = Directory(version=version, metric_ids=metric_ids)
    directory.flags = SingleReading(metric_ids, read_stays(cursor), read_overrides_now(cursor))
    directory.counters = read_unmapped_counters(cursor)
    directory.corrections = of_values(read_calibrations(cursor))
    devices = read_devices(cursor)
    directory.add(devices)
    types = list(_used_types(cursor, directory, {row.device_type for row in devices}, trial))
    scripted = set()
    for (device_type, _), readers in zip(types, make_readers(cursor, codecs, javascript, types), strict=True):
        id_, default = device_type.id, readers[default_codec(device_type)]
        directory.derived[id_] = frozenset(_derived(device_type, directory.counters))
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
    cursor: psycopg.Cursor[Any], directory: Directory, used: Collection[str | None], trial: Trial | None
) -> Iterator[Type]:
    """A device repository brings a thousand types; no more are made ready than have devices."""
    versions = read_map_versions(cursor)
    for data in read_device_types(cursor):
        tried = trial.changes if trial is not None and trial.device_type == data["id"] else None
        if data["id"] not in used and tried is None:
            continue
        map_version = versions.get(data["id"], "")
        try:
            device_type = parse_device_type({**data, **(tried or {})}, CATALOGUE)
            if tried and "map" in tried and device_type.to_dict()["map"] != data["map"]:
                map_version = "trial"
            yield Type(device_type, map_version)
        except QuantracError as error:
            directory.problems[data["id"]] = f"device type {data['id']}: {error}"
            _log.warning("device_type_unusable", device_type=data["id"], problem=str(error))


def _derived(device_type: DeviceType, counters: Iterable[str]) -> Iterator[tuple[str, int]]:
    reported = {(entry.metric, entry.channel) for entry in device_type.mapping}
    mapped = {metric for metric, _ in reported}
    beside = {(one, n) for one in counters if one not in mapped for n in range(MOST_MEASUREMENTS)}
    for metric, channel in reported | beside:
        growth = CATALOGUE[metric].increment
        if growth is not None and (growth, channel) not in reported:
            yield growth, channel
