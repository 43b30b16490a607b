"""The Things Network's device repository (github.com/TheThingsNetwork/lorawan-devices), as checked out.

``vendor/index.yaml`` lists the vendors, ``vendor/V/index.yaml`` a vendor's devices, ``vendor/V/DEVICE.yaml``
the firmware versions with a profile and a codec for each region, ``vendor/V/CODEC.yaml`` the JavaScript files
and their examples. Codecs that no device names are not read, as the repository's own validator does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .example import Input, given
from .files import BadFile, Files
from .model import CodecRoles, Firmware, Function, Problem, RepoCodec, RepoDevice, Vector


class _Struct(msgspec.Struct, frozen=True, rename="camel"):
    """Members that we do not read are ignored."""


class _Vendor(_Struct, frozen=True):
    id: str
    name: str
    draft: bool = False


class _Vendors(_Struct, frozen=True):
    vendors: list[_Vendor]


class _VendorIndex(_Struct, frozen=True):
    end_devices: list[str]


class _Profile(_Struct, frozen=True):
    codec: str | None = None


class _Firmware(_Struct, frozen=True):
    version: str
    profiles: dict[str, _Profile]
    hardware_versions: list[str] | None = None


class _Device(_Struct, frozen=True):
    name: str
    firmware_versions: list[_Firmware]
    description: str | None = None
    sensors: list[str] | None = None


class _Role(_Struct, frozen=True):
    file_name: str
    examples: list[Any] | None = None


class _Codec(_Struct, frozen=True):
    uplink_decoder: _Role | None = None
    downlink_encoder: _Role | None = None
    downlink_decoder: _Role | None = None


class _Example(_Struct, frozen=True):
    input: Input
    output: dict[str, Any]
    description: str = ""
    normalized_output: dict[str, Any] | None = None


_ROLES: tuple[tuple[str, str, Function], ...] = (
    ("uplink_decoder", "uplinkDecoder", "decode_uplink"),
    ("downlink_encoder", "downlinkEncoder", "encode_downlink"),
    ("downlink_decoder", "downlinkDecoder", "decode_downlink"),
)


class TtnCheckout:
    """See `Checkout`. `root` is the folder that holds ``vendor/``; `vendor` limits it to one vendor's id."""

    def __init__(self, root: Path, vendor: str | None = None) -> None:
        self._files = Files(root)
        self._only = vendor

    def devices(self) -> Iterator[RepoDevice | Problem]:
        """Every device that its vendor's index lists, but of draft vendors.

        One with a faulty codec comes without it.
        """
        codecs: dict[str, CodecRoles | Problem] = {}
        for vendor, name, device in self._devices():
            if isinstance(device, Problem):
                yield device
                continue
            if vendor.draft:
                continue
            for path in _named_by(vendor.id, device):
                if path not in codecs:
                    codecs[path] = self._roles(path)
                    if isinstance(problem := codecs[path], Problem):
                        yield problem
            usable = {path: roles for path, roles in codecs.items() if isinstance(roles, CodecRoles)}
            yield RepoDevice(
                origin="ttn",
                vendor_id=vendor.id,
                vendor=vendor.name,
                model_id=name,
                name=device.name,
                description=device.description or "",
                sensors=tuple(device.sensors or ()),
                firmware=tuple(_firmware(vendor.id, device, usable)),
            )

    def codecs(self) -> Iterator[RepoCodec | Problem]:
        """Every JavaScript file that a device's codec names, each once."""
        seen: set[str] = set()
        for path in self._named():
            try:
                definition = self._files.yaml(path, _Codec)
            except BadFile as error:
                yield error.problem
                continue
            for role, _, _ in _ROLES:
                source = _source(path, getattr(definition, role))
                if source is None or source in seen:
                    continue
                seen.add(source)
                try:
                    yield self._codec(source)
                except BadFile as error:
                    yield error.problem

    def vectors(self) -> Iterator[Vector | Problem]:
        """The examples of every codec that a device names."""
        for path in self._named():
            try:
                definition = self._files.yaml(path, _Codec)
            except BadFile as error:
                yield error.problem
                continue
            for role, key, function in _ROLES:
                yield from self._examples(path, key, function, getattr(definition, role))

    def _examples(
        self, path: str, key: str, function: Function, role: _Role | None
    ) -> Iterator[Vector | Problem]:
        source = _source(path, role)
        if role is None or source is None or not role.examples:
            return
        try:
            codec = self._codec(source).id
        except BadFile as error:
            yield error.problem
            return
        for index, raw in enumerate(role.examples):
            place = f"{key}.examples[{index}]"
            try:
                example = self._files.convert(path, raw, _Example, place)
            except BadFile as error:
                yield error.problem
                continue
            yield Vector(
                origin="ttn",
                codec=codec,
                function=function,
                description=example.description,
                file=path,
                place=place,
                expected=example.output,
                **given(example.input, raw["input"]),
            )
            if example.normalized_output is not None and function == "decode_uplink":
                yield Vector(
                    origin="ttn",
                    codec=codec,
                    function="normalize_uplink",
                    description=f"{example.description} (normalized)",
                    file=path,
                    place=place,
                    expected=example.normalized_output,
                    f_port=example.input.f_port,
                    data=example.output.get("data"),
                )

    def _devices(self) -> Iterator[tuple[_Vendor, str, _Device | Problem]]:
        try:
            vendors = self._files.yaml("vendor/index.yaml", _Vendors).vendors
        except BadFile as error:
            yield _Vendor("", ""), "", error.problem
            return
        for vendor in vendors:
            index = f"vendor/{vendor.id}/index.yaml"
            # Most listed vendors are members of the alliance without a device here.
            if (self._only and vendor.id != self._only) or not self._files.exists(index):
                continue
            try:
                names = self._files.yaml(index, _VendorIndex).end_devices
            except BadFile as error:
                yield vendor, "", error.problem
                continue
            for name in names:
                try:
                    yield vendor, name, self._files.yaml(f"vendor/{vendor.id}/{name}.yaml", _Device)
                except BadFile as error:
                    yield vendor, name, error.problem

    def _named(self) -> list[str]:
        """Codec files that a device names, each once, in the order of the devices."""
        found = (
            path
            for vendor, _, device in self._devices()
            if isinstance(device, _Device)
            for path in _named_by(vendor.id, device)
        )
        return list(dict.fromkeys(found))

    def _roles(self, path: str) -> CodecRoles | Problem:
        try:
            definition = self._files.yaml(path, _Codec)
            sources = {role: _source(path, getattr(definition, role)) for role, _, _ in _ROLES}
            return CodecRoles(**{role: self._codec(source).id for role, source in sources.items() if source})
        except BadFile as error:
            return error.problem

    def _codec(self, source: str) -> RepoCodec:
        return RepoCodec.of(source, self._files.text(source))


def _source(path: str, role: _Role | None) -> str | None:
    return None if role is None else f"{path.rpartition('/')[0]}/{role.file_name}"


def _named_by(vendor: str, device: _Device) -> list[str]:
    profiles = (profile for version in device.firmware_versions for profile in version.profiles.values())
    return list(
        dict.fromkeys(f"vendor/{vendor}/{profile.codec}.yaml" for profile in profiles if profile.codec)
    )


def _firmware(vendor: str, device: _Device, codecs: dict[str, CodecRoles]) -> Iterator[Firmware]:
    for version in device.firmware_versions:
        regions: dict[str | None, list[str]] = {}
        for region, profile in version.profiles.items():
            regions.setdefault(profile.codec, []).append(region)
        for codec, where in regions.items():
            roles = codecs.get(f"vendor/{vendor}/{codec}.yaml")
            yield Firmware(version.version, tuple(version.hardware_versions or ()), tuple(where), roles)
