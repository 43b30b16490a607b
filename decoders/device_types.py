"""Device types as files and requests have them: reading, and saying what is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, cast

import yaml

from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError

from .checks import Check
from .mapping import CodecChoice, DeviceType, Linear, MapEntry, Records, Scalar, Variable

__all__ = [
    "CodecChoice",
    "DeviceType",
    "Linear",
    "MapEntry",
    "Records",
    "Scalar",
    "Variable",
    "builtin_device_types",
    "check_variables",
    "parse_device_type",
    "read_device_types",
]

_WIDEST = 2**64
_HIGHEST_CHANNEL = 2**15 - 1
_ID = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_TYPE_KEYS = ("id", "vendor", "model", "codec", "expected_interval", "map", "codec_version", "codecs")
_CHOICE_KEYS = ("codec", "version", "firmware", "from", "to")
_ENTRY_KEYS = ("field", "metric", "channel", "unit", "scale", "offset", "absent", "wraps", "when", "records")
_RECORDS_KEYS = ("list", "time", "clock")
_CLOCK = re.compile(r"s|ms|iso([+-](0\d|1[0-4]):[0-5]\d)?", re.ASCII)


def parse_device_type(data: object, known_metrics: Collection[str]) -> DeviceType:
    """Check what a file or a request says.

    Raises:
        UsageError: one line for every fault, each beginning with its path (``map[2].metric: …``).
    """
    check = Check()
    entries: list[MapEntry] = []
    parsed = None
    if check.mapping("device type", data, _TYPE_KEYS):
        values = cast(Mapping[str, Any], data)
        id_, vendor, model = (check.text(key, values.get(key)) for key in _TYPE_KEYS[:3])
        # Of an imported device whose vendor published none it is "".
        codec = "" if values.get("codec") == "" else check.text("codec", values.get("codec"))
        if id_ and not _ID.fullmatch(id_):
            check.fault("id", f"{id_!r} is not made of a-z, 0-9, '.', '_' and '-'")
        interval = check.integer("expected_interval", values.get("expected_interval"), 1)
        rows = values.get("map")
        if not isinstance(rows, list):
            check.fault("map", "a list of entries is needed; an empty one, [], maps nothing")
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
            codec_version=_optional_text(check, "codec_version", values.get("codec_version")),
            codecs=_parse_choices(check, values.get("codecs")),
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


def _parse_choices(check: Check, value: object) -> tuple[CodecChoice, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        check.fault("codecs", f"a list is needed, got {value!r}")
        return ()
    choices = [_parse_choice(check, f"codecs[{index}]", row) for index, row in enumerate(value)]
    return tuple(choice for choice in choices if choice is not None)


def _parse_choice(check: Check, path: str, row: object) -> CodecChoice | None:
    if not check.mapping(path, row, _CHOICE_KEYS):
        return None
    values = cast(Mapping[str, Any], row)
    choice = CodecChoice(
        codec=check.text(f"{path}.codec", values.get("codec")),
        version=_optional_text(check, f"{path}.version", values.get("version")),
        firmware=_optional_text(check, f"{path}.firmware", values.get("firmware")),
        since=_parse_time(check, f"{path}.from", values.get("from")),
        until=_parse_time(check, f"{path}.to", values.get("to")),
    )
    if choice.firmware is None and choice.since is None and choice.until is None:
        check.fault(path, "a firmware, from or to is needed; a codec for all frames is the type's `codec`")
    if choice.since and choice.until and choice.since >= choice.until:
        check.fault(f"{path}.to", f"{choice.until.isoformat()} is not after `from`")
    return choice


def _optional_text(check: Check, path: str, value: object) -> str | None:
    return None if value is None else check.text(path, value)


def _parse_time(check: Check, path: str, value: object) -> datetime | None:
    if value is None:
        return None
    try:
        # YAML has times of its own, JSON texts.
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        check.fault(path, f"a time with its zone is needed, such as 2026-03-01T00:00:00+07:00, got {value!r}")
        return None
    return time


def _parse_entry(check: Check, path: str, row: object, known_metrics: Collection[str]) -> MapEntry:
    if not check.mapping(path, row, _ENTRY_KEYS):
        return MapEntry(field="", metric="")
    values = cast(Mapping[str, Any], row)
    metric = check.metric(f"{path}.metric", values.get("metric"), known_metrics)
    scale = check.number(f"{path}.scale", values.get("scale", 1))
    if values.get("scale") == 0:
        check.fault(f"{path}.scale", "0 makes every value the same")
    unit, wraps = values.get("unit"), values.get("wraps")
    entry = MapEntry(
        field=check.text(f"{path}.field", values.get("field")),
        metric=metric,
        channel=check.integer(f"{path}.channel", values.get("channel", 0), 0, _HIGHEST_CHANNEL),
        unit=None if unit is None else check.text(f"{path}.unit", unit),
        scale=scale,
        offset=_parse_offset(check, f"{path}.offset", values.get("offset", 0)),
        absent=_parse_absent(check, f"{path}.absent", values.get("absent")),
        wraps=None if wraps is None else check.integer(f"{path}.wraps", wraps, 2, _WIDEST),
        when=_parse_when(check, f"{path}.when", values.get("when")),
        records=_parse_records(check, f"{path}.records", values.get("records")),
    )
    if metric in known_metrics:
        _check_numbers(check, path, entry)
    return entry


def _check_numbers(check: Check, path: str, entry: MapEntry) -> None:
    """That the unit fits the metric, and that only a counter wraps."""
    if entry.unit:
        try:
            entry.linear()
        except UsageError as error:
            check.fault(f"{path}.unit", str(error))
        except OverflowError:
            check.fault(f"{path}.scale", f"{entry.scale:g} {entry.unit} is too large for {entry.metric}")
    if entry.wraps is not None and (
        entry.metric not in CATALOGUE or CATALOGUE[entry.metric].kind != "counter"
    ):
        check.fault(f"{path}.wraps", f"{entry.metric} is no counter of the catalogue")


def _parse_absent(check: Check, path: str, value: object) -> tuple[float | str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        check.fault(path, f"a list of the numbers or texts that say *no value* is needed, got {value!r}")
        return ()
    return tuple(
        item if isinstance(item, str) else check.number(f"{path}[{index}]", item)
        for index, item in enumerate(value)
    )


def _parse_records(check: Check, path: str, value: object) -> Records | None:
    if value is None or not check.mapping(path, value, _RECORDS_KEYS):
        return None
    values = cast(Mapping[str, Any], value)
    clock = values.get("clock", "s")
    if not isinstance(clock, str) or not _CLOCK.fullmatch(clock):
        check.fault(f"{path}.clock", f"s, ms, iso or iso+07:00 is needed, got {clock!r}")
        clock = "s"
    return Records(
        check.text(f"{path}.list", values.get("list")), check.text(f"{path}.time", values.get("time")), clock
    )


def _parse_offset(check: Check, path: str, value: object) -> float | Variable:
    if not isinstance(value, Mapping):
        return check.number(path, value)
    if value.keys() != {"variable"}:
        check.fault(path, "a number or {variable: NAME} is needed")
        return 0.0
    return Variable(check.text(f"{path}.variable", value["variable"]))


def _parse_when(check: Check, path: str, value: object) -> tuple[tuple[str, Scalar], ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping) or not value:
        check.fault(path, f"fields and their values are needed, got {value!r}")
        return ()
    for field, expected in value.items():
        if not isinstance(expected, (bool, int, float, str)):
            check.fault(f"{path}.{field}", f"a text, a number, true or false is needed, got {expected!r}")
    return tuple((str(field), expected) for field, expected in value.items())


def _check_unique(check: Check, entries: Iterable[MapEntry]) -> None:
    """Entries for one metric and channel are alternatives: then each must have its own condition.

    What is measured now and what the datalog tells of it are no alternatives: their times differ.
    """
    seen: dict[tuple[str, int, Records | None], tuple[int, MapEntry]] = {}
    for index, entry in enumerate(entries):
        first, other = seen.setdefault((entry.metric, entry.channel, entry.records), (index, entry))
        if first != index and entry.metric and not (entry.when and other.when and entry.when != other.when):
            check.fault(
                f"map[{index}]",
                f"metric {entry.metric!r} on channel {entry.channel} is given by map[{first}] already; "
                "choose another channel, or give both a different `when`",
            )
