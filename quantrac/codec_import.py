"""A device repository's vendors, models, firmware versions and codecs into the store.

What is there already decides what is written, so the same checkout twice changes nothing the second time:

- A codec's id is made of its place in the repository. Another text under the same id is another version.
- A device type of the same id is changed only when an import made it. Its map, interval and pinned version
  are never touched, and neither are `codecs` that somebody wrote by hand.
- Where both repositories give the same id, the one with a codec goes first, then The Things Network's; but a
  device type that was given a map keeps the codec whose fields the map names.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.types.json import Jsonb

from decoders.devicerepo.catalogue import Catalogue, CatalogueEntry
from decoders.devicerepo.model import Origin, RepoCodec
from telemetry.codec_version import codec_version
from telemetry.store.codecs import LOCK_REGISTRY, add_codec, list_codecs

EXPECTED_INTERVAL = 3600
"""Seconds between two uplinks, where the repository does not say; an engineer sets what is true."""
BATCH = 50  # rows of a transaction

_T = TypeVar("_T")
_PREFIXES = ("ttn.", "chirpstack.")
_LONGEST_ID = 64
_ADD_TYPE = """
    INSERT INTO device_type (id, vendor, model, codec, codecs, expected_interval, mapping)
    VALUES (%(id)s, %(vendor)s, %(model)s, %(codec)s, %(codecs)s, %(interval)s, '[]')
    ON CONFLICT (id) DO NOTHING
"""
# Somebody may have changed it since it was read; then it is theirs.
_CHANGE_TYPE = """
    UPDATE device_type SET vendor = %(vendor)s, model = %(model)s, codec = %(codec)s, codecs = %(codecs)s,
        updated_at = now()
    WHERE id = %(id)s AND codec = %(was)s AND NOT builtin
"""
_READ_TYPES = "SELECT id, vendor, model, codec, codecs, mapping <> '[]', builtin FROM device_type"


class TypeRow(NamedTuple):
    """A device type in the store, as far as an import looks at it."""

    id: str
    vendor: str
    model: str
    codec: str
    codecs: list[dict[str, Any]]
    mapped: bool
    builtin: bool


class NewType(NamedTuple):
    """A device type to be written; `was` is the codec it has now, None when it is new."""

    id: str
    vendor: str
    model: str
    codec: str
    codecs: list[dict[str, Any]]
    was: str | None


@dataclass(slots=True)
class Plan:
    """What is to be written, and what is not with the reason; `same` counts what is there already."""

    codecs: list[tuple[str, RepoCodec]] = field(default_factory=list)
    new_versions: int = 0
    same_codecs: int = 0
    outdated: list[str] = field(default_factory=list)
    types: list[NewType] = field(default_factory=list)
    same_types: int = 0
    kept: list[tuple[str, str]] = field(default_factory=list)


def codec_ids(catalogue: Catalogue, origin: Origin) -> dict[str, str]:
    """The store's id of each codec, by `RepoCodec.id`: ``ttn.milesight-iot.em500-udl``.

    Two files that would get the same, and names over 64 letters, get a part of their path's hash.
    """
    wished = {codec.id: _slug(origin, codec.path) for codec in catalogue.codecs.values()}
    counts = Counter(wished.values())
    ids = {}
    for content, id_ in wished.items():
        if counts[id_] > 1 or len(id_) > _LONGEST_ID:
            mark = hashlib.sha256(catalogue.codecs[content].path.encode()).hexdigest()[:8]
            id_ = f"{id_[: _LONGEST_ID - 9].rstrip('.-_')}-{mark}"
        ids[content] = id_
    return ids


def make_plan(
    catalogue: Catalogue,
    origin: Origin,
    refused: Mapping[str, object],
    known_codecs: Mapping[str, Sequence[str]],
    known_types: Mapping[str, TypeRow],
) -> Plan:
    """Compare a catalogue with the store. Pure.

    `refused` holds `RepoCodec.id` of codecs that must not be used; `known_codecs` the versions of each id,
    the newest first.
    """
    plan = Plan()
    ids = codec_ids(catalogue, origin)
    for content, codec in catalogue.codecs.items():
        if content in refused:
            continue
        versions, version = known_codecs.get(ids[content], ()), codec_version(codec.text)
        if version not in versions:
            plan.codecs.append((ids[content], codec))
            plan.new_versions += bool(versions)
            continue
        plan.same_codecs += 1
        if version != versions[0]:
            plan.outdated.append(ids[content])
    usable = {content: id_ for content, id_ in ids.items() if content not in refused}
    for entry in catalogue.entries:
        _plan_type(plan, _wanted(entry, usable), known_types.get(entry.id))
    return plan


def read_known(
    cursor: psycopg.Cursor[Any],
) -> tuple[dict[str, list[str]], dict[str, TypeRow]]:
    """What `make_plan` compares with."""
    versions: dict[str, list[str]] = {}
    for codec in list_codecs(cursor):
        versions.setdefault(codec.id, []).append(codec.version)
    cursor.execute(_READ_TYPES)
    return versions, {row[0]: TypeRow(*row) for row in cursor.fetchall()}


def write_plan(
    connection: psycopg.Connection[Any],
    plan: Plan,
    *,
    origin: str,
    actor: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a plan in transactions of `BATCH` rows, codecs first; after an interruption plan anew.

    `origin` is noted with each codec.
    """
    done, total = 0, len(plan.codecs) + len(plan.types)
    for codecs in _batches(plan.codecs):
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(LOCK_REGISTRY)
            for id_, codec in codecs:
                add_codec(cursor, id_, codec.text, origin=f"{origin}: {codec.path}", added_by=actor)
        done += len(codecs)
        progress(done, total)
    for types in _batches(plan.types):
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(LOCK_REGISTRY)
            for new in types:
                values = {**new._asdict(), "codecs": Jsonb(new.codecs), "interval": EXPECTED_INTERVAL}
                cursor.execute(_ADD_TYPE if new.was is None else _CHANGE_TYPE, values)
        done += len(types)
        progress(done, total)


def _plan_type(plan: Plan, wanted: NewType, known: TypeRow | None) -> None:
    if known is None:
        plan.types.append(wanted)
        return
    reason = _reason_to_keep(wanted, known)
    if reason:
        plan.kept.append((wanted.id, reason))
        return
    codecs = known.codecs if _by_hand(known.codecs) else wanted.codecs
    new = wanted._replace(codecs=codecs, was=known.codec)
    if (known.vendor, known.model, known.codec, known.codecs) == (
        new.vendor,
        new.model,
        new.codec,
        new.codecs,
    ):
        plan.same_types += 1
    else:
        plan.types.append(new)


def _reason_to_keep(wanted: NewType, known: TypeRow) -> str:
    """Why the store's device type stays as it is, or nothing."""
    if known.builtin:
        return "a device type of this id comes with the program"
    if not known.codec:
        return ""
    theirs = _prefix(known.codec)
    if theirs is None:
        return "it was given another codec"
    if not wanted.codec:
        return "it has a codec already, and here is none"
    if theirs == _prefix(wanted.codec):
        return ""
    if known.mapped:
        return "its map is made for the other codec's fields"
    if theirs == "ttn.":
        return "The Things Network's device repository has it too and goes first"
    return ""


def _by_hand(codecs: list[dict[str, Any]]) -> bool:
    return any(choice.keys() != {"codec", "firmware"} for choice in codecs)


def _wanted(entry: CatalogueEntry, usable: Mapping[str, str]) -> NewType:
    """Frames of a firmware go to its codec, all others to that of the newest firmware that has one."""
    choices: dict[str, str] = {}
    for firmware in entry.firmware:
        decoder = (firmware.codec and firmware.codec.uplink_decoder) or ""
        if decoder in usable and firmware.version.strip():
            choices.setdefault(firmware.version, usable[decoder])
    codecs = [{"codec": codec, "firmware": version} for version, codec in choices.items()]
    newest = next(reversed(choices.values()), "")
    return NewType(entry.id, entry.vendor, entry.model, newest, codecs, None)


def _prefix(codec: str) -> str | None:
    return next((prefix for prefix in _PREFIXES if codec.startswith(prefix)), None)


def _slug(origin: str, path: str) -> str:
    _, *folders, file = path.removesuffix(".js").split("/")
    parts = [origin, *(folder for folder in folders if folder != "codecs"), file]
    return ".".join(re.sub(r"[^a-z0-9_]+", "-", part.lower()).strip("-_") or "x" for part in parts)


def _batches(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
