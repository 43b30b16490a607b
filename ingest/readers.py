"""Device types made ready to read frames: the codecs they name, found, and their maps, compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
import structlog

from decoders.datalog import ReadDatalog, compile_datalog
from decoders.mapping import CodecChoice, DeviceType, default_codec
from decoders.normalise import Normalise, compile_mapping
from decoders.registry import Registry, Script
from telemetry.errors import UsageError
from telemetry.plugin import Codec
from telemetry.store.codecs import list_codecs, read_sources

from .javascript import JavaScript

_log = structlog.get_logger()

NORMALIZED = "normalized_payload@1"
"""Stands for codec@version where the network server decoded."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A device type with one of its codecs: that codec, its map, and the stamp stored beside what they give,
    codec@version/map_version.

    `codec` is None where the codec is JavaScript; `script` is then its name in a `Call`. A type without a
    codec has neither, and reads what the network server made of its payloads. `mapped` are the map's metrics.
    """

    codec: Codec | None
    script: str
    stamp: str
    normalise: Normalise
    datalog: ReadDatalog | None
    mapped: frozenset[str]

    @property
    def codec_stamp(self) -> str:
        """codec@version."""
        return self.stamp.rpartition("/")[0]


Readers = dict[CodecChoice, Reader | str]
"""A reader for each codec that a device type names, or why there is none."""


class _Usable(NamedTuple):
    codec: Codec | None
    script: str
    stamp: str


_Named = tuple[str, str | None]  # a codec's id, and its version where the device type says which


class Type(NamedTuple):
    """A device type, and the name of its map's version."""

    device_type: DeviceType
    map_version: str


def make_readers(
    cursor: psycopg.Cursor[Any], codecs: Registry, javascript: JavaScript | None, types: Sequence[Type]
) -> list[Readers]:
    """The readers of each of these types; JavaScript codecs come from `codecs`, then from the store, and are
    handed to `javascript`."""
    stored = (Script(one.id, one.version, None, one.fresh, one.origin) for one in list_codecs(cursor))
    named = {
        (choice.codec, choice.version): None for type_ in types for choice in _choices(type_.device_type)
    }
    usable = _resolve(cursor, codecs.with_scripts(stored), javascript, named)
    return [
        {choice: _reader(type_, choice, usable) for choice in _choices(type_.device_type)} for type_ in types
    ]


def _choices(device_type: DeviceType) -> tuple[CodecChoice, ...]:
    return (*device_type.codecs, default_codec(device_type))


def _resolve(
    cursor: psycopg.Cursor[Any], registry: Registry, javascript: JavaScript | None, named: Iterable[_Named]
) -> dict[_Named, _Usable | str]:
    resolved: dict[_Named, _Usable | str] = {}
    scripts: dict[_Named, Script] = {}
    for name in named:
        try:
            found = registry.find(*name)
        except UsageError as error:
            resolved[name] = str(error)
            continue
        if isinstance(found, Script):
            scripts[name] = found
        else:
            resolved[name] = _Usable(found, "", f"{found.id}@{found.version}")
    # Versions never change, so each is read once in a process's life.
    wanted = {(one.id, one.version) for one in scripts.values() if one.source is None}
    if javascript is not None:
        wanted = {one for one in wanted if javascript.key(*one) is None}
    sources = read_sources(cursor, wanted)
    for name, script in scripts.items():
        resolved[name] = _script(javascript, script, sources.get((script.id, script.version), script.source))
    return resolved


def _script(javascript: JavaScript | None, script: Script, source: str | None) -> _Usable | str:
    if javascript is None:
        return f"codec {script.id!r} is JavaScript, which is not run here"
    key = javascript.key(script.id, script.version)
    if key is None:
        if source is None:
            return f"codec {script.id!r} was removed from the store"
        try:
            key = javascript.add(script.id, script.version, source, fresh=script.fresh)
        except UsageError as error:
            return f"codec {script.id!r}: {error}"
    return _Usable(None, key, f"{script.id}@{script.version}")


def _reader(type_: Type, choice: CodecChoice, usable: Mapping[_Named, _Usable | str]) -> Reader | str:
    device_type = type_.device_type
    # Nothing to warn of where there is no codec: its vendor published none.
    found = usable[choice.codec, choice.version] if choice.codec else _Usable(None, "", NORMALIZED)
    if isinstance(found, str):
        _log.warning("device_type_unusable", device_type=device_type.id, problem=found)
        return f"device type {device_type.id}: {found}"
    found = found._replace(stamp=f"{found.stamp}/{type_.map_version}")
    mapped = frozenset(entry.metric for entry in device_type.mapping)
    return Reader(*found, compile_mapping(device_type), compile_datalog(device_type), mapped)
