"""One vendor's codec by itself, outside of any repository: a folder, or what a request brings.

Its examples may have any of three forms, told apart by what is in them:

- The Things Network's: ``{uplinkDecoder: {examples: [{input, output}]}, …}`` (YAML)
- ChirpStack's: ``[{input, expected}]`` (JSON); a file named ``test_encode_….json`` is about downlinks
- Quantrac's own: ``{source, vectors: [{name, f_port, payload, fields or error}]}`` (JSON)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from decoders.javascript.calls import Call
from decoders.javascript.workers import JsWorkers
from decoders.vectors import Vector as OwnVector
from telemetry.errors import UsageError

from .example import Input, given
from .files import BadFile, Files
from .model import Function, Problem, RepoCodec, RepoDevice, Vector
from .run import Report, run_checkout

DEVICE_TYPE_FILE = "device_type.yaml"

_T = TypeVar("_T")
_ROLES: Mapping[str, Function] = {
    "uplinkDecoder": "decode_uplink",
    "downlinkEncoder": "encode_downlink",
    "downlinkDecoder": "decode_downlink",
}


class _Role(msgspec.Struct, frozen=True):
    examples: list[Any] | None = None


class _Example(msgspec.Struct, frozen=True, rename="camel"):
    input: Input
    output: dict[str, Any]
    description: str = ""
    normalized_output: dict[str, Any] | None = None


class _Test(msgspec.Struct, frozen=True):
    input: Input
    expected: dict[str, Any]
    name: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class SingleCodec:
    """A `Checkout` of one codec. `examples` by the name of the file, or the field, that they came in."""

    codec: RepoCodec
    examples: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()

    def devices(self) -> Iterator[RepoDevice | Problem]:
        return iter(())

    def codecs(self) -> Iterator[RepoCodec | Problem]:
        yield self.codec

    def vectors(self) -> Iterator[Vector | Problem]:
        yield from self.problems
        for name, value in self.examples.items():
            try:
                yield from _vectors(self.codec.id, name, value)
            except BadFile as error:
                yield error.problem


def is_single(folder: Path) -> bool:
    """Whether a folder holds JavaScript, as `open_single` wants it."""
    return any(folder.glob("*.js"))


def open_single(folder: Path) -> SingleCodec:
    """The codec of a folder with one JavaScript file, and every example beside it.

    Raises:
        UsageError: not exactly one JavaScript file, or it cannot be read.
    """
    files = Files(folder)
    sources = files.glob("*.js")
    if len(sources) != 1:
        what = "no JavaScript file" if not sources else f"{len(sources)} JavaScript files"
        raise UsageError(f"{folder} holds {what}; a vendor's codec is one *.js file in a folder of its own")
    examples: dict[str, Any] = {}
    problems: list[Problem] = []
    try:
        codec = RepoCodec.of(sources[0], files.text(sources[0]))
    except BadFile as error:
        raise UsageError(f"{folder / error.problem.file}: {error.problem.message}") from None
    for name in [*files.glob("vectors.json"), *files.glob("test_*.json"), *files.glob("*.y*ml")]:
        if name == DEVICE_TYPE_FILE:
            continue
        try:
            examples[name] = files.json(name, Any) if name.endswith(".json") else files.yaml(name, Any)
        except BadFile as error:
            problems.append(error.problem)
    return SingleCodec(codec, examples, tuple(problems))


def faults(single: SingleCodec, workers: JsWorkers, *, fresh: bool = False) -> tuple[list[str], Report]:
    """Why this codec should not be used, one sentence each, and what became of its examples.

    It must be JavaScript with a decoder of uplinks, and its own examples must be readable and pass.

    Raises:
        UsageError: the source is too large.
    """
    key = workers.add(single.codec.text, fresh=fresh)
    outcome = workers.run([Call(key, "decode_uplink", 1)])[0]
    if outcome.failure in ("source", "missing"):
        return [f"{single.codec.path}: {'; '.join(outcome.errors)}"], Report()
    report = run_checkout(single, workers)
    return [str(problem) for problem in report.skipped] + [str(miss) for miss in report.failed], report


def _vectors(codec: str, name: str, value: Any) -> Iterator[Vector | Problem]:
    if isinstance(value, Mapping) and "vectors" in value:
        value = value["vectors"]
    if isinstance(value, Mapping) and value.keys() & _ROLES.keys():
        for role, function in _ROLES.items():
            examples = _as(_Role, name, role, value.get(role) or {}).examples
            for index, raw in enumerate(examples or ()):
                yield from _things_network(codec, name, f"{role}.examples[{index}]", function, raw)
    elif isinstance(value, list):
        encodes = name.startswith("test_encode_")
        for index, raw in enumerate(value):
            if isinstance(raw, Mapping) and "input" in raw:
                yield _chirpstack(codec, name, index, "encode_downlink" if encodes else "decode_uplink", raw)
            else:
                yield _own(codec, name, index, raw)
    else:
        yield Problem(name, None, "holds no examples: see docs/how-to/vendor-codec.md for the forms")


def _things_network(codec: str, name: str, place: str, function: Function, raw: Any) -> Iterator[Vector]:
    example = _as(_Example, name, place, raw)
    taken = given(example.input, raw["input"])
    yield Vector("ttn", codec, function, example.description, name, place, example.output, **taken)
    if example.normalized_output is not None and function == "decode_uplink":
        yield Vector(
            "ttn",
            codec,
            "normalize_uplink",
            f"{example.description} (normalized)",
            name,
            place,
            example.normalized_output,
            f_port=example.input.f_port,
            data=example.output.get("data"),
        )


def _chirpstack(codec: str, name: str, index: int, function: Function, raw: Any) -> Vector:
    test = _as(_Test, name, f"[{index}]", raw)
    told = test.name or test.description or ""
    taken = given(test.input, raw["input"])
    return Vector("chirpstack", codec, function, told, name, f"[{index}]", test.expected, **taken)


def _own(codec: str, name: str, index: int, raw: Any) -> Vector:
    place = f"vectors[{index}]"
    vector = _as(OwnVector, name, place, raw)
    if (vector.fields is None) == (vector.error is None):
        raise BadFile(Problem(name, None, f"{place}: a vector needs either fields or an error"))
    try:
        payload = bytes.fromhex(vector.payload)
    except ValueError as error:
        raise BadFile(Problem(name, None, f"{place}.payload: {error}")) from None
    expected: dict[str, Any] = {"error": vector.error} if vector.fields is None else {"data": vector.fields}
    return Vector(
        "quantrac",
        codec,
        "decode_uplink",
        vector.name,
        name,
        place,
        expected,
        payload=payload,
        f_port=vector.f_port,
    )


def _as(type_: type[_T], name: str, place: str, raw: Any) -> _T:
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError as error:
        raise BadFile(Problem(name, None, f"{place}: {error}")) from None
