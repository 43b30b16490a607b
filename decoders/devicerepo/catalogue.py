"""Device types as an officer picks them from a list, made from the devices of a checkout."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .model import Checkout, Firmware, Origin, Problem, RepoCodec, RepoDevice

# What the law adds to a company's name, without dots and in lower case.
_FORM = re.compile(
    r"ab|ag|as|a/s|bv|co|corp|corporation|doo|gmbh|inc|incorp|kg|limited|llc|ltd|nv|oo|oy|plc|pty|pvt"
    r"|sa|sas|se|sl|sp|spa|srl|sro|z"
)
_LAST = re.compile(r"[\s,(&]+([^\s,(&]+)$")
_FILLER = re.compile(r"(?<=\w{3})[\s,]+(?:IoT|Technology|Technologies)$", re.IGNORECASE)
_LETTERS = str.maketrans("Đđ", "Dd")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One device type. `label` is unique up to devices whose vendor gave them the same name.

    `id` is lowercase letters, digits, ``-`` and ``_``: ``milesight-em500-udl``. `repository_id` is its name
    in the repository: ``milesight-iot/em500-udl``. Firmware versions are in the vendor's order.
    """

    id: str
    label: str
    vendor: str
    model: str
    description: str
    sensors: tuple[str, ...]
    firmware: tuple[Firmware, ...]
    origin: Origin
    repository_id: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`codecs` by `RepoCodec.id`: of files with the same text the first. Every id in `entries` is there."""

    entries: tuple[CatalogueEntry, ...]
    codecs: dict[str, RepoCodec]
    problems: tuple[Problem, ...]


def read_catalogue(checkout: Checkout) -> Catalogue:
    """All devices and codecs of a checkout. What cannot be used is in `problems`, and costs nothing else."""
    devices: list[RepoDevice] = []
    codecs: dict[str, RepoCodec] = {}
    problems: dict[Problem, None] = {}
    for codec in checkout.codecs():
        if isinstance(codec, RepoCodec):
            codecs.setdefault(codec.id, codec)
        else:
            problems[codec] = None
    for device in checkout.devices():
        if isinstance(device, RepoDevice):
            devices.append(device)
        else:
            problems[device] = None
    return Catalogue(device_types(devices), codecs, tuple(problems))


def device_types(devices: Iterable[RepoDevice]) -> tuple[CatalogueEntry, ...]:
    """One entry for each device, sorted by id; all ids differ.

    An id is made of the vendor's short name and the repository's name of the model. Where two devices would
    get the same, each gets the repository's name of its vendor instead; what is the same then is numbered.
    No id depends on the order of the devices.
    """
    once = {(device.vendor_id, device.model_id): device for device in devices}
    wished = {key: _id(short_vendor(device.vendor), device.model_id) for key, device in once.items()}
    shared = {id_ for id_, count in Counter(wished.values()).items() if count > 1}
    entries: dict[str, CatalogueEntry] = {}
    for key in sorted(once, key=lambda key: (wished[key] in shared, key)):
        base = id_ = _id(*key) if wished[key] in shared else wished[key]
        number = 1
        while id_ in entries:
            number += 1
            id_ = f"{base}-{number}"
        entries[id_] = _entry(once[key], id_)
    return tuple(entries[id_] for id_ in sorted(entries))


def short_vendor(name: str) -> str:
    """A vendor's name as people say it: ``Milesight IoT Co., Ltd`` is Milesight."""
    short = name
    while (last := _LAST.search(short)) and _FORM.fullmatch(last[1].lower().replace(".", "").rstrip(",)")):
        short = short[: last.start()]
    return _FILLER.sub("", short) if short != name or short.lower().endswith(" iot") else name


def _entry(device: RepoDevice, id_: str) -> CatalogueEntry:
    vendor = short_vendor(device.vendor)
    model = device.name.split(" - ")[0].strip() or device.name
    if model.lower().startswith(f"{vendor.lower()} "):
        model = model[len(vendor) :].lstrip(" -")
    return CatalogueEntry(
        id=id_,
        label=f"{vendor} {model}",
        vendor=vendor,
        model=model,
        description=device.description,
        sensors=device.sensors,
        firmware=device.firmware,
        origin=device.origin,
        repository_id=f"{device.vendor_id}/{device.model_id}",
    )


def _id(vendor: str, model: str) -> str:
    prefix, rest = _slug(vendor), _slug(model)
    if rest == prefix or rest.startswith(f"{prefix}-"):
        prefix = ""
    return "-".join(filter(None, (prefix, rest))) or "device"


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")
