"""What a checkout of a device repository holds, in one form for both of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Function = Literal["decode_uplink", "normalize_uplink", "encode_downlink", "decode_downlink"]
Origin = Literal["ttn", "chirpstack", "quantrac"]

_ENTRY = re.compile(
    r"\b(?:function\s+|var\s+|let\s+|const\s+|exports\.|this\.)?"
    r"(decodeUplink|normalizeUplink|encodeDownlink|decodeDownlink|Decoder|Decode|Encoder|Encode)"
    r"\s*(?:=(?!=)|\((?=[^()]*\)\s*\{))"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a checkout that could not be used. `file` is relative to the checkout, `line` from 1."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.message}"


@dataclass(frozen=True, slots=True)
class RepoCodec:
    """One JavaScript file, as it lies in the checkout. `id` is the SHA-256 of its text, in hex."""

    path: str
    text: str = field(repr=False)
    id: str

    @classmethod
    def of(cls, path: str, text: str) -> RepoCodec:
        return cls(path, text, hashlib.sha256(text.encode()).hexdigest())

    @property
    def functions(self) -> tuple[str, ...]:
        """Entry points that the text seems to define, sorted (``decodeUplink``, ``Decoder``, …).

        Read from the text without running it: good for a list, not for a decision.
        """
        return tuple(sorted(set(_ENTRY.findall(self.text))))


@dataclass(frozen=True, slots=True)
class CodecRoles:
    """The `RepoCodec.id` that does each work; often one and the same file does them all."""

    uplink_decoder: str | None = None
    downlink_encoder: str | None = None
    downlink_decoder: str | None = None


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware version in the regions where it speaks one codec.

    A version that speaks different codecs in different regions gives several of these. `codec` is None when
    the vendor published none or it could not be read.
    """

    version: str
    hardware_versions: tuple[str, ...]
    regions: tuple[str, ...]
    codec: CodecRoles | None


@dataclass(frozen=True, slots=True)
class RepoDevice:
    """A model of a vendor. Ids are the repository's own, unique only within vendor and repository."""

    origin: Origin
    vendor_id: str
    vendor: str
    model_id: str
    name: str
    description: str
    sensors: tuple[str, ...]
    firmware: tuple[Firmware, ...]


@dataclass(frozen=True, slots=True)
class Vector:
    """One example: what goes into a function of a codec, and the output its author vouches for.

    `codec` is a `RepoCodec.id`. `expected` is the output as written: `data` (or `bytes` and `fPort`),
    `errors`, `warnings`. `data` is the input of `encode_downlink` and `normalize_uplink`. `place` is the way
    to the example within `file`, as in ``uplinkDecoder.examples[2]``. `more` are members of the input that no
    standard names, and that no network server sends.
    """

    origin: Origin
    codec: str
    function: Function
    description: str
    file: str
    place: str
    expected: Mapping[str, Any]
    payload: bytes = b""
    f_port: int | None = None
    recv_time_us: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.file}: {self.place} ({self.description})"


class Checkout(Protocol):
    """A repository on disk. Each method reads the files anew; what it cannot use comes as a `Problem`."""

    def devices(self) -> Iterator[RepoDevice | Problem]: ...

    def codecs(self) -> Iterator[RepoCodec | Problem]: ...

    def vectors(self) -> Iterator[Vector | Problem]: ...
