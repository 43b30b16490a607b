"""Who a frame is from and how it is read: devices, device types and codecs, as of one registry version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog

from decoders.device_types import parse_device_type
from decoders.normalise import Normalise, compile_mapping
from decoders.registry import Registry
from telemetry.catalogue import CATALOGUE
from telemetry.errors import QuantracError
from telemetry.plugin import Codec
from telemetry.store.registry import DeviceRow, read_device_types, read_devices, read_metric_ids

from .quality import GrossRange

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reader:
    """A device type made ready: its codec, its map, and the stamp stored beside what they give."""

    codec: Codec
    normalise: Normalise
    stamp: str


@dataclass(slots=True)
class Directory:
    """Everything decoding depends on. `version` is the registry's; devices that merely appeared are added."""

    version: int = -1
    devices: dict[str, DeviceRow] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    metric_ids: dict[str, int] = field(default_factory=dict)
    gross_range: GrossRange = field(default_factory=lambda: GrossRange({}))

    def add(self, rows: Iterable[DeviceRow]) -> None:
        for row in rows:
            self.devices[row.dev_eui] = row


def read_directory(cursor: psycopg.Cursor[Any], codecs: Registry, version: int) -> Directory:
    """The whole registry; a device type that cannot be read is a problem of its own devices only."""
    metric_ids = read_metric_ids(cursor)
    directory = Directory(version=version, metric_ids=metric_ids, gross_range=GrossRange(metric_ids))
    for data in read_device_types(cursor):
        try:
            device_type = parse_device_type(data, CATALOGUE)
            codec = codecs.get(device_type.codec)
        except QuantracError as error:
            directory.problems[data["id"]] = f"device type {data['id']}: {error}"
            _log.warning("device_type_unusable", device_type=data["id"], problem=str(error))
            continue
        stamp = f"{codec.id}@{codec.version}"
        directory.readers[device_type.id] = Reader(codec, compile_mapping(device_type), stamp)
    directory.add(read_devices(cursor))
    return directory
