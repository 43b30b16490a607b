"""What a device type says: which field is which quantity, in which unit, and what is no value at all."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

import msgspec

from telemetry.plugin import Field
from telemetry.units import IDENTITY, Affine, conversion

Scalar = bool | int | float | str

_EXACT = 2**53


class Variable(msgspec.Struct, frozen=True):
    """A number that every device has for itself, such as the elevation of its sensor."""

    name: str


class Records(msgspec.Struct, frozen=True):
    """A datalog: `list` is the path to a list of objects, `time` the path to the time in each of them.

    `clock` is how that time is written: ``s`` or ``ms`` since 1970-01-01T00:00Z, or ``iso``, a text after
    ISO 8601 that names its offset from UTC; ``iso+07:00`` gives the offset of texts that name none.
    """

    list: str
    time: str
    clock: str = "s"

    def to_dict(self) -> dict[str, object]:
        """As in a file; what has its default is left out."""
        clock = {} if self.clock == "s" else {"clock": self.clock}
        return {"list": self.list, "time": self.time, **clock}


class Linear(NamedTuple):
    """From a field's number to the metric's unit: ``number * factor / divisor + offset``.

    0.1 is no exact float while dividing by 10 rounds correctly, so 272 becomes 27.2 and not
    27.200000000000003. Where `variable` is a name, the device's number of that name is added too.
    """

    factor: float
    divisor: float
    offset: float
    variable: str | None


class MapEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One field becomes one value in the unit of the catalogue's `metric`.

    ``field * scale`` is a number in `unit` (UCUM), where none is given in the metric's own; it is converted,
    and then `offset` is added, in the metric's unit. An entry whose offset is a `Variable` the device lacks
    is skipped.

    `field` is a path into the fields (``gps_1.latitude``, ``probes.0.level``). A field that is one of
    `absent` says that there is no sensor or no value; it is skipped. `when` holds (path, value) pairs that
    must all be equal. `wraps` is the field's number at which a counter starts again from 0 (65536 for one of
    16 bits). With `records`, `field` and `when` are paths inside each record of a datalog.
    """

    field: str
    metric: str
    channel: int = 0
    unit: str | None = None
    scale: float = 1.0
    offset: float | Variable = 0.0
    absent: tuple[float | str, ...] = ()
    wraps: int | None = None
    when: tuple[tuple[str, Scalar], ...] = ()
    records: Records | None = None

    def linear(self) -> Linear:
        """What to compute, worked out exactly and rounded once.

        Raises:
            UsageError: nothing leads from `unit` to the metric's unit.
            OverflowError: the scale is too large in the metric's unit.
        """
        to = self._conversion()
        exact = Fraction(repr(self.scale)) * to.factor
        factor, divisor = float(exact), 1.0
        if abs(exact.numerator) <= _EXACT and exact.denominator <= _EXACT:
            factor, divisor = float(exact.numerator), float(exact.denominator)
        if isinstance(self.offset, Variable):
            return Linear(factor, divisor, float(to.offset), self.offset.name)
        return Linear(factor, divisor, float(to.offset + Fraction(self.offset)), None)

    def modulus(self) -> float | None:
        """Of a counter, in the metric's unit: what it has counted whenever it starts again from 0."""
        if self.wraps is None:
            return None
        return float(self.wraps * Fraction(repr(self.scale)) * self._conversion().factor)

    def _conversion(self) -> Affine:
        return IDENTITY if self.unit is None else conversion(self.unit, self.metric)

    def to_dict(self) -> dict[str, object]:
        """As in a file; what has its default is left out."""
        entry: dict[str, object] = {"field": self.field, "metric": self.metric}
        if self.channel:
            entry["channel"] = self.channel
        if self.unit is not None:
            entry["unit"] = self.unit
        if self.scale != 1:
            entry["scale"] = self.scale
        if isinstance(self.offset, Variable):
            entry["offset"] = {"variable": self.offset.name}
        elif self.offset:
            entry["offset"] = self.offset
        if self.absent:
            entry["absent"] = list(self.absent)
        if self.wraps is not None:
            entry["wraps"] = self.wraps
        if self.when:
            entry["when"] = dict(self.when)
        if self.records is not None:
            entry["records"] = self.records.to_dict()
        return entry


class CodecChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A codec for some of a type's frames: those of a `firmware`, those of a period, or both.

    `version` None is the newest. `since` and `until` are called ``from`` and ``to`` in files; a frame of the
    time `since` belongs to the period, one of `until` no longer.
    """

    codec: str
    version: str | None = None
    firmware: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, firmware: str | None, time: datetime) -> bool:
        """Whether it is for a device with this firmware (None: nobody said), at this time of the frame.

        Case, blanks around it and a ``v`` before the number make no difference to a firmware.
        """
        if self.firmware is not None and (
            firmware is None or _plain_firmware(firmware) != _plain_firmware(self.firmware)
        ):
            return False
        return (self.since is None or self.since <= time) and (self.until is None or time < self.until)

    def to_dict(self) -> dict[str, object]:
        """As in a file."""
        told = {
            "codec": self.codec,
            "version": self.version,
            "firmware": self.firmware,
            "from": self.since and self.since.isoformat(),
            "to": self.until and self.until.isoformat(),
        }
        return {key: value for key, value in told.items() if value is not None}


class DeviceType(msgspec.Struct, frozen=True, kw_only=True):
    """A model of a vendor. `expected_interval` is the usual time between two uplinks, in seconds.

    Frames are decoded by the first of `codecs` that fits them, else by `codec` in `codec_version` (None: the
    newest). An empty `mapping` gives no readings; the fields are stored all the same.
    """

    id: str
    vendor: str
    model: str
    codec: str
    expected_interval: int
    mapping: tuple[MapEntry, ...]
    codec_version: str | None = None
    codecs: tuple[CodecChoice, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As in a file: `parse_device_type` gives the same device type again."""
        data: dict[str, object] = {
            "id": self.id,
            "vendor": self.vendor,
            "model": self.model,
            "codec": self.codec,
            "expected_interval": self.expected_interval,
            "map": [entry.to_dict() for entry in self.mapping],
        }
        if self.codec_version is not None:
            data["codec_version"] = self.codec_version
        if self.codecs:
            data["codecs"] = [choice.to_dict() for choice in self.codecs]
        return data


def choose_codec(device_type: DeviceType, firmware: str | None, time: datetime) -> CodecChoice:
    """The codec for a frame of this time from a device with this firmware; None: nobody said which."""
    for choice in device_type.codecs:
        if choice.fits(firmware, time):
            return choice
    return default_codec(device_type)


def default_codec(device_type: DeviceType) -> CodecChoice:
    """The codec of frames that none of the alternatives fits."""
    return CodecChoice(codec=device_type.codec, version=device_type.codec_version)


def _plain_firmware(firmware: str) -> str:
    return firmware.strip().lower().removeprefix("v")


def look_up(fields: Field, path: tuple[str, ...]) -> Field:
    """What lies at a path into objects and lists (``("probes", "0", "level")``), None where nothing does."""
    node = fields
    for key in path:
        if isinstance(node, dict):
            node = node.get(key)
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node
