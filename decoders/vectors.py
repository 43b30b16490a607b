"""Runs the vectors beside a codec: payloads with the fields, or the error, that must come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from telemetry.errors import UsageError
from telemetry.plugin import Codec, DecodeError, Fields


class Vector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One payload (hex, spaces allowed) and either its `fields` or a part of its `error`.

    `origin` says who vouches for it: `vendor`, with the `source` that shows payload and values, or
    `layout`, made by us from the documented frame. `encodes` is false for a frame that the codec never
    makes itself, such as the shorter form of an old firmware.
    """

    name: str
    origin: str
    f_port: int
    payload: str
    source: str | None = None
    fields: dict[str, Any] | None = None
    error: str | None = None
    encodes: bool = True


class VectorFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `vectors.json`; `source` are the documents the codec was written from."""

    source: list[str]
    vectors: list[Vector]


@dataclass(frozen=True)
class VectorResult:
    """`difference` is empty when the vector passed, else what was wrong, one line for each field."""

    name: str
    difference: str

    @property
    def passed(self) -> bool:
        return not self.difference


def read_vectors(path: Path) -> VectorFile:
    """The vectors of a file, or of the `vectors.json` in a folder.

    Raises:
        UsageError: no such file, or not a vector file; names the place of the fault.
    """
    file = path / "vectors.json" if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=VectorFile)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{file}: {error}") from error


def run_vectors(codec: Codec, path: Path) -> list[VectorResult]:
    """Decode every vector and compare exactly; encoding and decoding again must change nothing.

    Raises:
        UsageError: as `read_vectors`.
    """
    return [VectorResult(vector.name, _difference(codec, vector)) for vector in read_vectors(path).vectors]


def _difference(codec: Codec, vector: Vector) -> str:
    if (vector.fields is None) == (vector.error is None):
        return "a vector needs either fields or an error"
    try:
        payload = bytes.fromhex(vector.payload)
    except ValueError as error:
        return f"payload: {error}"
    try:
        fields = codec.decode(vector.f_port, payload)
    except DecodeError as error:
        if vector.error is None:
            return f"does not decode: {error}"
        return "" if vector.error in str(error) else f"error: expected {vector.error!r}, got {str(error)!r}"
    # A vendor's codec may fail in any way; that is a failed vector and not the end of the run.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if vector.fields is None:
        return f"error: expected {vector.error!r}, got {fields!r}"
    return _compare(vector.fields, fields) or (_round_trip(codec, fields) if vector.encodes else "")


def _round_trip(codec: Codec, fields: Fields) -> str:
    try:
        again = codec.decode(*codec.encode(fields))
    except Exception as error:
        return f"encode: {type(error).__name__}: {error}"
    difference = _compare(fields, again)
    return f"encoded and decoded again: {difference}" if difference else ""


def _compare(expected: Fields, actual: Fields) -> str:
    """One line for each field that differs; true and 1 are not the same, 1 and 1.0 are."""
    return "\n".join(
        f"{name}: expected {_shown(expected, name)}, got {_shown(actual, name)}"
        for name in sorted(expected.keys() | actual.keys())
        if _shown(expected, name) != _shown(actual, name)
    )


def _shown(fields: Fields, name: str) -> str:
    return _canonical(fields[name]) if name in fields else "nothing"


def _canonical(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_canonical(item)}" for key, item in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_canonical, value)) + "]"
    if isinstance(value, float) and value.is_integer():
        return repr(int(value))
    return repr(value)
