"""Codecs as readers see them: Python ones, and JavaScript ones of the user's folder and of the store."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from psycopg.sql import SQL
from pydantic import BaseModel

from decoders.registry import Registry, Script
from telemetry.store.codecs import CODEC_USERS, FIND_CODEC

from .database import Connection
from .paging import PageRequest, Row
from .where import Where, like

# Byte order, so that Python sorts the installed ones in among them.
_LIST = SQL("""
    SELECT * FROM (
        SELECT DISTINCT ON (id) id COLLATE "C" AS id, version, fresh, origin, added_at, added_by,
               count(*) OVER (PARTITION BY id) AS versions
        FROM codec ORDER BY id, added_at DESC, version DESC
    ) AS newest WHERE {where} ORDER BY id LIMIT %(fetch)s
""")
_VERSIONS = """
    SELECT version, fresh, origin, added_at, added_by FROM codec WHERE id = %s
    ORDER BY added_at DESC, version DESC
"""


class CodecView(BaseModel):
    """A codec and its newest version, which decodes where a device type names none.

    `origin` is where it came from. A `fresh` one gets an engine context of its own for every call.
    """

    id: str
    kind: Literal["python", "javascript"]
    version: str
    versions: int
    fresh: bool
    origin: str
    added_at: datetime | None
    added_by: str


class CodecVersionView(BaseModel):
    """One version; it is made of the source's content and never changes."""

    version: str
    fresh: bool = False
    origin: str
    added_at: datetime | None = None
    added_by: str = ""


class CodecDetail(BaseModel):
    """A codec with its versions, newest first, and the device types that name it.

    `source` is the text of the version asked for, else the newest; only engineers see it, and a Python codec
    has none here.
    """

    id: str
    kind: Literal["python", "javascript"]
    versions: list[CodecVersionView]
    device_types: list[str]
    source: str | None


async def list_codecs(
    db: Connection, registry: Registry, after: Row | None, words: str | None, page: PageRequest
) -> list[Row]:
    """All kinds by id, one more than the page shows; keys as `CodecView`."""
    where = Where(fetch=page.fetch)
    where.after('id > %(after_id)s COLLATE "C"', after)
    where.add("id ILIKE %(words)s", words=like(words))
    rows = await (await db.execute(_LIST.format(where=where.sql), where.values)).fetchall()
    found: dict[str, Row] = {row["id"]: {**row, "kind": "javascript"} for row in rows}
    for id_ in registry.ids():
        if (after is not None and id_ <= after["id"]) or (words or "").lower() not in id_.lower():
            continue
        versions = _own(registry, id_)
        older = found.get(id_, {}).get("versions", 0) if id_ in registry.scripts else 0
        kind = "javascript" if id_ in registry.scripts else "python"
        found[id_] = {**versions[0].model_dump(), "id": id_, "kind": kind, "versions": len(versions) + older}
    return [found[id_] for id_ in sorted(found)][: page.fetch]


async def find_codec(
    db: Connection, registry: Registry, id: str, version: str | None, *, with_source: bool
) -> CodecDetail | None:
    """One codec; None when there is none, or not this version of it."""
    versions = _own(registry, id)
    if id not in registry.codecs:
        rows = await (await db.execute(_VERSIONS, (id,))).fetchall()
        known = {entry.version for entry in versions}
        versions += [CodecVersionView.model_validate(row) for row in rows if row["version"] not in known]
    if not versions or version not in (None, *(entry.version for entry in versions)):
        return None
    script = None
    if with_source and id not in registry.codecs:
        script = await find_script(db, registry, id, version)
    return CodecDetail(
        id=id,
        kind="python" if id in registry.codecs else "javascript",
        versions=versions,
        device_types=[row["id"] for row in await (await db.execute(CODEC_USERS, {"id": id})).fetchall()],
        source=script.source if script else None,
    )


async def find_script(db: Connection, registry: Registry, id: str, version: str | None) -> Script | None:
    """This version of a JavaScript codec with its source, the newest where none is named."""
    for script in registry.scripts.get(id, ()):
        if version in (None, script.version):
            return script
    row = await (await db.execute(FIND_CODEC, {"id": id, "version": version})).fetchone()
    return Script(id, row["version"], row["source"], row["fresh"], row["origin"]) if row else None


def _own(registry: Registry, id: str) -> list[CodecVersionView]:
    """The versions on this machine, newest first: of a Python codec one, of the user's folder one."""
    if codec := registry.codecs.get(id):
        return [CodecVersionView(version=codec.version, origin="installed")]
    return [
        CodecVersionView(version=script.version, fresh=script.fresh, origin=script.origin)
        for script in registry.scripts.get(id, ())
    ]
