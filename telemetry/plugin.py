"""What a third-party codec or adapter may import: small, stable, and nothing behind it.

A codec turns `(f_port, payload)` into named fields and, where it can, back again (simulators and downlinks
use that). It is registered as an entry point of the group ``quantrac.codecs``; see docs/how-to/codec.md.

An adapter turns a network server's message into an `Uplink` or an `Event`. Its group is
``quantrac.adapters``; see docs/how-to/other-servers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from .errors import BadMessage, DecodeError
from .model import Event, Gateway, RawMessage, Uplink, UplinkFlag, hash_key, message_key

__all__ = [
    "Adapter",
    "BadMessage",
    "Codec",
    "DecodeError",
    "Event",
    "Field",
    "Fields",
    "Gateway",
    "RawMessage",
    "Uplink",
    "UplinkFlag",
    "hash_key",
    "message_key",
]

Field = None | bool | int | float | str | list["Field"] | dict[str, "Field"]
Fields = dict[str, Field]


@runtime_checkable
class Codec(Protocol):
    """One payload format.

    `id` is unique among all codecs (``dragino-ldds75``); `version` changes whenever the same payload would
    give other fields, and is stored beside every decoded uplink.
    """

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str: ...

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Fields of one frame, in the units the vendor documents.

        Must be pure: the same arguments always give the same fields. A sensor that is absent or reports
        the vendor's "no reading" value is left out of the result rather than given as a number.

        Raises:
            DecodeError: the payload is too short, of an unknown port or otherwise unreadable; the message
                names the field that could not be read.
        """
        ...

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """The `(f_port, payload)` a device would send for these fields; the inverse of `decode`.

        Numbers between two steps of the frame are rounded to the nearest. A field that is left out is one
        without a reading, where the frame can say so.

        Raises:
            DecodeError: a field that is needed is missing, or one does not fit; the message names it.
        """
        ...


@runtime_checkable
class Adapter(Protocol):
    """One network server's format. `name` is unique among all adapters, and an uplink's `network`."""

    @property
    def name(self) -> str: ...

    def matches(self, topic: str, payload: bytes) -> bool:
        """Whether this is such a message; asked of every message that no adapter before took, so be quick."""
        ...

    def parse(self, message: RawMessage) -> Uplink | Event:
        """The uplink or event in the message. Must be pure.

        `dedup_key` is the message's identity: `hash_key` of what the server guarantees to be the same when it
        delivers the same message again, else `message_key`.

        Raises:
            BadMessage: nothing can be made of it; it becomes a reject with this reason.
        """
        ...
