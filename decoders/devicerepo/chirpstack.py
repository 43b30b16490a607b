"""ChirpStack's device profiles (github.com/chirpstack/chirpstack-device-profiles), as they lie in a checkout.

``vendors/V/vendor.toml`` names a vendor, ``vendors/V/devices/D.toml`` a device's firmware versions with
profiles (one for each region) and codec, ``vendors/V/codecs/C.js`` has its tests beside it in
``test_decode_C.json`` and ``test_encode_C.json``. Some of those are JavaScript rather than JSON (hexadecimal
numbers, comments): each such file is a `Problem`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .example import Input, given
from .files import BadFile, Files
from .model import CodecRoles, Firmware, Function, Problem, RepoCodec, RepoDevice, Vector


class _Struct(msgspec.Struct, frozen=True):
    """Members that we do not read are ignored."""


class _Vendor(_Struct, frozen=True):
    name: str


class _VendorFile(_Struct, frozen=True):
    vendor: _Vendor


class _Firmware(_Struct, frozen=True):
    version: str
    profiles: list[str] = []
    codec: str | None = None


class _Device(_Struct, frozen=True):
    name: str
    description: str = ""
    firmware: list[_Firmware] = []


class _DeviceFile(_Struct, frozen=True):
    device: _Device


class _Profile(_Struct, frozen=True):
    region: str


class _ProfileFile(_Struct, frozen=True):
    profile: _Profile


class _Test(_Struct, frozen=True):
    input: Input
    expected: dict[str, Any]
    name: str | None = None
    description: str | None = None


_EXAMPLE = "vendors/example-vendor"
_CODEC_DEPTH = "vendors/V/codecs/C.js".count("/")
_TESTS: tuple[tuple[str, Function], ...] = (
    ("test_decode_", "decode_uplink"),
    ("test_encode_", "encode_downlink"),
)


class ChirpstackCheckout:
    """See `Checkout`. `root` is the folder that holds ``vendors/``; `vendor` limits it to one of those."""

    def __init__(self, root: Path, vendor: str | None = None) -> None:
        self._files = Files(root)
        self._vendors = vendor or "*"

    def devices(self) -> Iterator[RepoDevice | Problem]:
        """Every file in a ``devices`` folder but the example's, as ChirpStack imports them.

        A fault in a codec or profile costs only that.
        """
        told: set[Problem] = set()
        for path in self._files.glob(f"vendors/{self._vendors}/vendor.toml"):
            folder = path.removesuffix("/vendor.toml")
            try:
                vendor = self._files.toml(path, _VendorFile).vendor
            except BadFile as error:
                yield error.problem
                continue
            if folder == _EXAMPLE:
                continue
            for file in self._files.glob(f"{folder}/devices/*.toml"):
                try:
                    device = self._files.toml(file, _DeviceFile).device
                except BadFile as error:
                    yield error.problem
                    continue
                problems: list[Problem] = []
                firmware = tuple(self._firmware(folder, version, problems) for version in device.firmware)
                yield from (problem for problem in dict.fromkeys(problems) if problem not in told)
                told.update(problems)
                yield RepoDevice(
                    origin="chirpstack",
                    vendor_id=folder.removeprefix("vendors/"),
                    vendor=vendor.name,
                    model_id=file.rpartition("/")[2].removesuffix(".toml"),
                    name=device.name,
                    description=device.description,
                    sensors=(),
                    firmware=firmware,
                )

    def codecs(self) -> Iterator[RepoCodec | Problem]:
        """Every JavaScript file in a ``codecs`` folder."""
        for path in self._files.glob(f"vendors/{self._vendors}/codecs/*.js"):
            try:
                yield RepoCodec.of(path, self._files.text(path))
            except BadFile as error:
                yield error.problem

    def vectors(self) -> Iterator[Vector | Problem]:
        """The tests of every codec; a file whose codec cannot be told is a problem."""
        for prefix, function in _TESTS:
            for path in self._files.glob(f"vendors/{self._vendors}/codecs/{prefix}*.json"):
                try:
                    codec = RepoCodec.of(source := self._codec_of(path, prefix), self._files.text(source))
                    tests = self._files.json(path, list[Any])
                except BadFile as error:
                    yield error.problem
                    continue
                for index, raw in enumerate(tests):
                    try:
                        yield self._vector(path, index, raw, function, codec.id)
                    except BadFile as error:
                        yield error.problem

    def _vector(self, path: str, index: int, raw: Any, function: Function, codec: str) -> Vector:
        test = self._files.convert(path, raw, _Test, f"[{index}]")
        return Vector(
            origin="chirpstack",
            codec=codec,
            function=function,
            description=test.name or test.description or "",
            file=path,
            place=f"[{index}]",
            expected=test.expected,
            **given(test.input, raw["input"]),
        )

    def _codec_of(self, path: str, prefix: str) -> str:
        """The codec of a test file: of the same name or, as ``dl-tbrg-01`` for ``dl-tbrg``, the only one that
        goes on with a dash."""
        folder, _, file = path.rpartition("/")
        name = file.removeprefix(prefix).removesuffix(".json")
        exact = f"{folder}/{name}.js"
        if self._files.exists(exact):
            return exact
        longer = self._files.glob(f"{folder}/{name}-*.js")
        if len(longer) != 1:
            raise BadFile(Problem(path, None, f"no codec {name}.js beside it"))
        return longer[0]

    def _firmware(self, folder: str, version: _Firmware, problems: list[Problem]) -> Firmware:
        regions = []
        for profile in version.profiles:
            try:
                regions.append(self._files.toml(f"{folder}/profiles/{profile}", _ProfileFile).profile.region)
            except BadFile as error:
                problems.append(error.problem)
        roles = None
        if version.codec is not None:
            try:
                roles = self._roles(f"{folder}/codecs/{version.codec}")
            except BadFile as error:
                problems.append(error.problem)
        return Firmware(version.version, (), tuple(dict.fromkeys(regions)), roles)

    def _roles(self, path: str) -> CodecRoles:
        if path.count("/") != _CODEC_DEPTH:
            raise BadFile(Problem(path, None, "a codec must lie in its vendor's codecs folder"))
        codec = RepoCodec.of(path, self._files.text(path))
        able = set(codec.functions)
        return CodecRoles(
            uplink_decoder=codec.id,
            downlink_encoder=codec.id if able & {"encodeDownlink", "Encode", "Encoder"} else None,
            downlink_decoder=codec.id if "decodeDownlink" in able else None,
        )
