"""What the pool and a worker process say to each other: MessagePack behind a length of four bytes."""

from __future__ import annotations

import struct

import msgspec

from .calls import Call

Answer = tuple[int, int, str]  # position of the call in its batch, µs it took, JSON of its `Outcome`

LENGTH = struct.Struct(">I")
MAX_FRAME = 64 * 1024 * 1024  # a report is far smaller; more can only be a worker gone mad


class Work(msgspec.Struct, array_like=True):
    """A batch, each codec's calls together.

    `sources` are those the worker has not seen: id to (text, fresh). `strikes` are slow failures that a codec
    is charged with beforehand. `careful` asks for a report after every call, so that what is missing when the
    worker dies begins with the call that killed it.
    """

    sources: dict[str, tuple[str, bool]]
    calls: list[Call]
    strikes: dict[str, int]
    careful: bool


class Report(msgspec.Struct, array_like=True):
    """Answers so far, in any order. `hung` is the call the worker ends itself over; `done` ends the batch.

    The first report of a worker is an empty one: it is ready.
    """

    answers: list[Answer]
    hung: int | None = None
    done: bool = False


def framed(message: Work | Report) -> bytes:
    """The message with its length in front."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body
