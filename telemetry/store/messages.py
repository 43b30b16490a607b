"""Network servers' messages as they came, kept for forensics: many to a row, compressed together.

One message compresses to two thirds, a thousand of one network to a fourteenth, at 1 µs each. A row holds
`{uplink id: message}` as MessagePack in one Zstandard frame. Its ids lie in one thousand of the sequence that
its writer alone was given, so the last row that begins at or before an id is the one that may hold it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import psycopg
import zstandard

_LEVEL = 1
IDS = 1000  # that a writer takes from the sequence at once


class Kept(NamedTuple):
    """One message and the id of the uplink that was made of it; times in µs since 1970."""

    uplink_id: int
    received_at: int
    message: bytes


_INSERT = """
    INSERT INTO message_block (first_id, time, messages)
    VALUES (%s, timestamptz 'epoch' + %s * interval '1 microsecond', %s)
"""
_FIND = """
    SELECT messages FROM message_block WHERE first_id <= %(id)s AND first_id > %(id)s::bigint - %(ids)s
    ORDER BY first_id DESC LIMIT 1
"""
_OF_IDS = """
    SELECT first_id, time, messages FROM message_block
    WHERE first_id > %(after)s AND first_id <= %(after)s::bigint + %(ids)s
"""
_DROP = "DELETE FROM message_block WHERE first_id = %(first_id)s AND time = %(time)s"
_REPLACE = """
    UPDATE message_block SET messages = %(messages)s WHERE first_id = %(first_id)s AND time = %(time)s
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, bytes]).decode


def store(cursor: psycopg.Cursor[Any], messages: Sequence[Kept]) -> None:
    """Keep the messages, inside the caller's transaction; they come in the order of their ids."""
    for block in _blocks(messages):  # mostly one: `executemany` would begin a pipeline for it
        cursor.execute(_INSERT, block)


def _blocks(messages: Iterable[Kept]) -> Iterable[tuple[int, int, bytes]]:
    for _, together in groupby(messages, lambda kept: (kept.uplink_id - 1) // IDS):
        block = list(together)
        packed = _compressed({kept.uplink_id: kept.message for kept in block})
        yield block[0].uplink_id, max(kept.received_at for kept in block), packed


def _compressed(messages: dict[int, bytes]) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(_encode(messages))


async def find(connection: psycopg.AsyncConnection[Any], uplink_id: int) -> bytes | None:
    """The message that this uplink was made of; None when it was not kept."""
    row = await (await connection.execute(_FIND, {"id": uplink_id, "ids": IDS})).fetchone()
    return None if row is None else unpack(row["messages"]).get(uplink_id)


def forget(cursor: psycopg.Cursor[Any], after: int, uplink_ids: Collection[int]) -> None:
    """Drop the messages of these uplinks, whose ids lie in the one thousand that follows `after`."""
    for first_id, time, block in cursor.execute(_OF_IDS, {"after": after, "ids": IDS}).fetchall():
        held = unpack(block)
        kept = {uplink_id: message for uplink_id, message in held.items() if uplink_id not in uplink_ids}
        where = {"first_id": first_id, "time": time}
        if not kept:
            cursor.execute(_DROP, where)
        elif len(kept) < len(held):
            cursor.execute(_REPLACE, {**where, "messages": _compressed(kept)})


def unpack(block: bytes) -> dict[int, bytes]:
    """The messages of one row, by uplink id."""
    return _decode(zstandard.ZstdDecompressor().decompress(block))
