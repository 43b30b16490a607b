"""Device types: which codec a model speaks, and which of its fields is which quantity."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, cast

import msgspec
import yaml

from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError

Scalar = bool | int | float | str

_LARGEST = sys.float_info.max
_ID = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_TYPE_KEYS = ("id", "vendor", "model", "codec", "expected_interval", "map")
_ENTRY_KEYS = ("field", "metric", "channel", "scale", "offset", "when")


class Variable(msgspec.Struct, frozen=True):
    """A number that every device has for itself, such as the elevation of its sensor."""

    name: str


class MapEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One field becomes one value: ``field * scale + offset``, in the unit of the catalogue's `metric`.

    `field` is a path into the fields (``gps_1.latitude``, ``probes.0.level``). `when` holds (path, value)
    pairs that must all be equal. An entry whose offset is a `Variable` the device lacks is skipped.
    """

    field: str
    metric: str
    channel: int = 0
    scale: float = 1.0
    offset: float | Variable = 0.0
    when: tuple[tuple[str, Scalar], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As in a file; what has its default is left out."""
        entry: dict[str, object] = {"field": self.field, "metric": self.metric}
        if self.channel:
            entry["channel"] = self.channel
        if self.scale != 1:
            entry["scale"] = self.scale
        if isinstance(self.offset, Variable):
            entry["offset"] = {"variable": self.offset.name}
        elif self.offset:
            entry["offset"] = self.offset
        if self.when:
            entry["when"] = dict(self.when)
        return entry


class DeviceType(msgspec.Struct, frozen=True, kw_only=True):
    """A model of a vendor. `expected_interval` is the usual time between two uplinks, in seconds."""

    id: str
    vendor: str
    model: str
    codec: str
    expected_interval: int
    mapping: tuple[MapEntry, ...]

    def to_dict(self) -> dict[str, object]:
        """As in a file: `parse_device_type` gives the same device type again."""
        return {
            "id": self.id,
            "vendor": self.vendor,
            "model": self.model,
            "codec": self.codec,
            "expected_interval": self.expected_interval,
            "map": [entry.to_dict() for entry in self.mapping],
        }


def parse_device_type(data: object, known_metrics: Collection[str]) -> DeviceType:
    """Check what a file or a request says.

    Raises:
        UsageError: one line for every fault, each beginning with its path (``map[2].metric: …``).
    """
    check = _Check()
    entries: list[MapEntry] = []
    parsed = None
    if check.mapping("device type", data, _TYPE_KEYS):
        values = cast(Mapping[str, Any], data)
        id_, vendor, model, codec = (check.text(key, values.get(key)) for key in _TYPE_KEYS[:4])
        if id_ and not _ID.fullmatch(id_):
            check.fault("id", f"{id_!r} is not made of a-z, 0-9, '.', '_' and '-'")
        interval = check.integer("expected_interval", values.get("expected_interval"), 1)
        rows = values.get("map")
        if not isinstance(rows, list) or not rows:
            check.fault("map", "a list of at least one entry is needed")
            rows = []
        entries = [_parse_entry(check, f"map[{i}]", row, known_metrics) for i, row in enumerate(rows)]
        _check_unique(check, entries)
        parsed = DeviceType(
            id=id_,
            vendor=vendor,
            model=model,
            codec=codec,
            expected_interval=interval,
            mapping=tuple(entries),
        )
    if check.faults or parsed is None:
        raise UsageError("\n".join(check.faults))
    return parsed


def read_device_types(text: str, known_metrics: Collection[str]) -> list[DeviceType]:
    """The device types of one YAML file: one document (``---``) each.

    Raises:
        UsageError: not YAML, or a fault in a device type.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise UsageError(f"not YAML: {error}") from error
    return [parse_device_type(document, known_metrics) for document in documents]


@cache
def builtin_device_types() -> Mapping[str, DeviceType]:
    """The device types that ship with the built-in codecs, by id."""
    types: dict[str, DeviceType] = {}
    for folder in sorted(files("decoders.builtin").iterdir(), key=lambda folder: folder.name):
        file = folder.joinpath("device_type.yaml")
        if file.is_file():
            for type_ in read_device_types(file.read_text(encoding="utf-8"), CATALOGUE):
                types[type_.id] = type_
    return types


def check_variables(
    mapping: DeviceType | Iterable[Mapping[str, Any]], variables: Collection[str]
) -> tuple[list[str], list[str]]:
    """Which names of a device's `variables` its type does not ask for, and which it asks for in vain.

    `mapping` is a device type, or its list of entries as files and the store have them. Both lists are
    sorted. An unknown name is most likely a misspelt one: its entry would be skipped in silence.
    """
    entries = [entry.to_dict() for entry in mapping.mapping] if isinstance(mapping, DeviceType) else mapping
    offsets = (entry.get("offset") for entry in entries)
    asked = {str(offset["variable"]) for offset in offsets if isinstance(offset, Mapping)}
    return sorted(set(variables) - asked), sorted(asked - set(variables))


class _Check:
    """Collects faults, so that one run shows all of them; each check returns a usable value anyway."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def fault(self, path: str, message: str) -> None:
        self.faults.append(f"{path}: {message}")

    def mapping(self, path: str, value: object, keys: Collection[str]) -> bool:
        if not isinstance(value, Mapping):
            self.fault(path, f"keys and values are needed, got {value!r}")
            return False
        prefix = f"{path}." if path.startswith("map[") else ""
        for key in value:
            if key not in keys:
                self.fault(f"{prefix}{key}", f"unknown key{_did_you_mean(str(key), keys)}")
        return True

    def text(self, path: str, value: object) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.fault(path, "is missing" if value is None else f"a text is needed, got {value!r}")
        return ""

    def integer(self, path: str, value: object, least: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self.fault(
            path, "is missing" if value is None else f"a whole number from {least} is needed, got {value!r}"
        )
        return least

    def number(self, path: str, value: object) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            return float(value)
        self.fault(path, f"a number is needed, got {value!r}")
        return 0.0


def _parse_entry(check: _Check, path: str, row: object, known_metrics: Collection[str]) -> MapEntry:
    if not check.mapping(path, row, _ENTRY_KEYS):
        return MapEntry(field="", metric="")
    values = cast(Mapping[str, Any], row)
    metric = check.text(f"{path}.metric", values.get("metric"))
    if metric and metric not in known_metrics:
        check.fault(f"{path}.metric", f"unknown metric {metric!r}{_did_you_mean(metric, known_metrics)}")
    scale = check.number(f"{path}.scale", values.get("scale", 1))
    if values.get("scale") == 0:
        check.fault(f"{path}.scale", "0 makes every value the same")
    return MapEntry(
        field=check.text(f"{path}.field", values.get("field")),
        metric=metric,
        channel=check.integer(f"{path}.channel", values.get("channel", 0), 0),
        scale=scale,
        offset=_parse_offset(check, f"{path}.offset", values.get("offset", 0)),
        when=_parse_when(check, f"{path}.when", values.get("when")),
    )


def _parse_offset(check: _Check, path: str, value: object) -> float | Variable:
    if not isinstance(value, Mapping):
        return check.number(path, value)
    if value.keys() != {"variable"}:
        check.fault(path, "a number or {variable: NAME} is needed")
        return 0.0
    return Variable(check.text(f"{path}.variable", value["variable"]))


def _parse_when(check: _Check, path: str, value: object) -> tuple[tuple[str, Scalar], ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping) or not value:
        check.fault(path, f"fields and their values are needed, got {value!r}")
        return ()
    for field, expected in value.items():
        if not isinstance(expected, (bool, int, float, str)):
            check.fault(f"{path}.{field}", f"a text, a number, true or false is needed, got {expected!r}")
    return tuple((str(field), expected) for field, expected in value.items())


def _check_unique(check: _Check, entries: Iterable[MapEntry]) -> None:
    """Entries for one metric and channel are alternatives: then each must have its own condition."""
    seen: dict[tuple[str, int], tuple[int, MapEntry]] = {}
    for index, entry in enumerate(entries):
        first, other = seen.setdefault((entry.metric, entry.channel), (index, entry))
        if first != index and entry.metric and not (entry.when and other.when and entry.when != other.when):
            check.fault(
                f"map[{index}]",
                f"metric {entry.metric!r} on channel {entry.channel} is given by map[{first}] already; "
                "choose another channel, or give both a different `when`",
            )


def _did_you_mean(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
