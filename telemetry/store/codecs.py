"""Vendors' JavaScript codecs in the store: many versions of one id, none of which ever changes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from ..codec_version import codec_version
from ..errors import ConflictError


class CodecRow(NamedTuple):
    """One version of a codec. `fresh`: each call gets a context of its own; `origin`: where it came from."""

    id: str
    version: str
    source: str
    fresh: bool
    origin: str
    added_at: datetime
    added_by: str


class CodecEntry(NamedTuple):
    """The same without its source; `newest`: of its id, what runs where no version is named."""

    id: str
    version: str
    fresh: bool
    origin: str
    added_at: datetime
    added_by: str
    newest: bool


# For asynchronous callers too. The order among versions is that of their adding.
ADD_CODEC = """
    INSERT INTO codec (id, version, source, fresh, origin, added_by)
    VALUES (%(id)s, %(version)s, %(source)s, %(fresh)s, %(origin)s, %(added_by)s)
    ON CONFLICT (id, version) DO NOTHING
"""
LIST_CODECS = """
    SELECT id, version, fresh, origin, added_at, added_by,
           row_number() OVER (PARTITION BY id ORDER BY added_at DESC, version DESC) = 1 AS newest
    FROM codec ORDER BY id, added_at DESC, version DESC
"""
FIND_CODEC = """
    SELECT id, version, source, fresh, origin, added_at, added_by FROM codec
    WHERE id = %(id)s AND (%(version)s::text IS NULL OR version = %(version)s)
    ORDER BY added_at DESC, version DESC LIMIT 1
"""
CODEC_USERS = """
    SELECT id FROM device_type
    WHERE codec = %(id)s OR codecs @> jsonb_build_array(jsonb_build_object('codec', %(id)s::text)) ORDER BY id
"""
# The row that every change of the registry touches last: whoever takes it first waits for nobody crosswise.
LOCK_REGISTRY = "SELECT FROM registry_version FOR UPDATE"
_READ = """
    SELECT id, version, source, fresh, origin, added_at, added_by FROM codec
    ORDER BY id, added_at DESC, version DESC
"""
_SOURCES = """
    SELECT id, version, source FROM codec
    WHERE (id, version) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
_FRESH = "SELECT fresh FROM codec WHERE id = %(id)s AND version = %(version)s"


def codec_parameters(
    id: str, source: str, *, fresh: bool = False, origin: str = "", added_by: str = ""
) -> dict[str, Any]:
    """What `ADD_CODEC` takes."""
    return {
        "id": id,
        "version": codec_version(source),
        "source": source,
        "fresh": fresh,
        "origin": origin,
        "added_by": added_by,
    }


def add_codec(
    cursor: psycopg.Cursor[Any],
    id: str,
    source: str,
    *,
    fresh: bool = False,
    origin: str = "",
    added_by: str = "",
) -> bool:
    """Add a version, which is the newest from then on; False when this text was there already.

    Raises:
        ConflictError: it is there already with the other `fresh`.
        psycopg.DataError: an empty id, or a text with U+0000, which PostgreSQL has no place for.
    """
    values = codec_parameters(id, source, fresh=fresh, origin=origin, added_by=added_by)
    cursor.execute(ADD_CODEC, values)
    if cursor.rowcount:
        return True
    cursor.execute(_FRESH, values)
    row = cursor.fetchone()
    if row is not None and row[0] is not fresh:
        raise ConflictError(
            f"codec {id}@{values['version']} is stored with fresh = {row[0]} and a version never changes; "
            "change a comment in the source to add it as another"
        )
    return False


def list_codecs(cursor: psycopg.Cursor[Any]) -> list[CodecEntry]:
    """All versions by id, each id's newest first."""
    cursor.execute(LIST_CODECS)
    return [CodecEntry(*row) for row in cursor.fetchall()]


def read_codecs(cursor: psycopg.Cursor[Any]) -> list[CodecRow]:
    """The same with their sources: for all of a device repository that is some 20 MB."""
    cursor.execute(_READ)
    return [CodecRow(*row) for row in cursor.fetchall()]


def find_codec(cursor: psycopg.Cursor[Any], id: str, version: str | None = None) -> CodecRow | None:
    """One version with its source, the newest where none is named; None when there is none."""
    cursor.execute(FIND_CODEC, {"id": id, "version": version})
    row = cursor.fetchone()
    return None if row is None else CodecRow(*row)


def read_sources(
    cursor: psycopg.Cursor[Any], wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """The sources of those of these (id, version) that are stored."""
    if not wanted:
        return {}
    ids, versions = map(list, zip(*wanted, strict=True))
    cursor.execute(_SOURCES, (ids, versions))
    return {(id_, version): source for id_, version, source in cursor.fetchall()}
