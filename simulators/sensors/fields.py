"""From what was measured to the fields of a frame: a device type's mapping, read backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from decoders.mapping import DeviceType, MapEntry, Records
from telemetry.plugin import Codec, DecodeError, Field, Fields

OWN = frozenset({"battery.voltage", "battery.level", "device.temperature", "power.external", "siren.on"})
"""What a device knows of itself."""

GAUGE = ("rain.total", "rain.interval")
"""What one instrument counts, without noise."""

READ_FROM = {"rain.interval": "rain.total"}
"""What a device works out from another quantity."""

_DROP_MM = 0.017
"""What an ATMOS 41 resolves (METER Group, ATMOS 41 integrator guide)."""


def readable(there: frozenset[str]) -> frozenset[str]:
    """What sensors can tell where `there` can be measured."""
    return there | {metric for metric, source in READ_FROM.items() if source in there}


class Sense(NamedTuple):
    """One number a sensor gives; the channel of a profile's probes is their order downwards."""

    metric: str
    channel: int = 0


class _Cell(NamedTuple):
    """Where a number goes: ``number = (value - offset) * divisor / factor`` under `path`."""

    path: tuple[str, ...]
    offset: float
    variable: str | None
    gain: float

    def number(self, value: float, variables: Mapping[str, float]) -> float:
        own = variables[self.variable] if self.variable else 0.0
        return (value - self.offset - own) * self.gain


class Plan:
    """How the devices of one type fill their frames at places where `measurable` can be measured.

    `senses` are what they measure, in the order that `frame` wants the values; `tip` is the smallest rain, in
    mm, that a gauge tells.
    """

    def __init__(self, type_: DeviceType, codec: Codec, measurable: Iterable[str]) -> None:
        known = OWN | frozenset(measurable)
        self.type = type_
        self.codec = codec
        cells = _cells((e for e in type_.mapping if e.records is None), known)
        self.senses = tuple(cells)
        self._cells = tuple(cells.values())
        self._gains = [cell.gain for cell in self._cells]
        self._names = [".".join(cell.path) for cell in self._cells]
        self._flat = all(len(cell.path) == 1 for cell in self._cells)
        self._finish = _finish(codec.id)
        gains = (cell.gain for sense, cell in cells.items() if sense.metric in GAUGE)
        # A field that is no number of tips is in mm, of drops that are counted.
        self.tip = next((1.0 / gain for gain in gains if gain != 1.0), _DROP_MM)
        logs = {e.records for e in type_.mapping if e.records is not None}
        self._log: Records | None = min(logs, key=lambda records: records.list, default=None)
        logged = _cells((e for e in type_.mapping if e.records == self._log is not None), known)
        self._logged = tuple((self.senses.index(s), c) for s, c in logged.items() if s in cells)

    @property
    def remembers(self) -> bool:
        """Whether its frames can carry values of the past."""
        return bool(self._logged)

    def offsets(self, variables: Mapping[str, float]) -> list[float]:
        """What `frame` takes off the values of a device that has these variables."""
        return [cell.offset + (variables[cell.variable] if cell.variable else 0.0) for cell in self._cells]

    def frame(
        self, values: Sequence[float], offsets: Sequence[float], device: int, every_s: float
    ) -> tuple[Fields, int, bytes]:
        """Fields, port and payload for `values` (one for each of `senses`); `device` is its EUI as a number.

        A number beyond what the codec can say is the nearest one that it can, as sensors saturate.

        Raises:
            DecodeError: the codec refuses all numbers, or needs a field that is not measured.
        """
        numbers = [
            (value - offset) * gain for value, offset, gain in zip(values, offsets, self._gains, strict=True)
        ]
        for _ in self._names:
            try:
                return self._encoded(numbers, device, every_s)
            except DecodeError as error:
                name = str(error).partition(":")[0]
                if name not in self._names:
                    raise
                self._saturate(numbers, self._names.index(name), device, every_s)
        return self._encoded(numbers, device, every_s)

    def records(
        self, rows: Iterable[tuple[float, Sequence[float]]], variables: Mapping[str, float]
    ) -> tuple[Fields, int, bytes]:
        """A frame of remembered values, each with its Unix time as the device's clock had it."""
        assert self._log is not None
        listed: list[Field] = []
        for time, values in rows:
            record: Fields = {}
            for index, cell in self._logged:
                _put(record, cell.path, cell.number(values[index], variables))
            _put(record, tuple(self._log.time.split(".")), int(time))
            listed.append(record)
        fields: Fields = {}
        _put(fields, tuple(self._log.list.split(".")), listed)
        port, payload = self.codec.encode(fields)
        return self.codec.decode(port, payload), port, payload

    def _saturate(self, numbers: list[float], index: int, device: int, every_s: float) -> None:
        """Bring one number, which was refused, as near to itself as it may be: by bisection from 0."""
        name, refused, taken = self._names[index], numbers[index], 0.0
        for _ in range(60):
            numbers[index] = (refused + taken) / 2.0
            try:
                self._encoded(numbers, device, every_s)
            except DecodeError as error:
                if str(error).partition(":")[0] == name:
                    refused = numbers[index]
                    continue
            taken = numbers[index]
        numbers[index] = taken

    def _encoded(self, numbers: Sequence[float], device: int, every_s: float) -> tuple[Fields, int, bytes]:
        fields: Fields = dict(zip(self._names, numbers, strict=True))
        if not self._flat:
            fields = {}
            for cell, number in zip(self._cells, numbers, strict=True):
                _put(fields, cell.path, number)
        if self._finish is not None:
            self._finish(fields, device, every_s)
        port, payload = self.codec.encode(fields)
        return self.codec.decode(port, payload), port, payload


def _cells(entries: Iterable[MapEntry], known: frozenset[str]) -> dict[Sense, _Cell]:
    """The first entry of each field and of each quantity; a field whose quantity is unknown is left out."""
    cells: dict[Sense, _Cell] = {}
    taken: set[str] = set()
    for entry in entries:
        sense = Sense(entry.metric, entry.channel)
        if entry.metric not in known or sense in cells or entry.field in taken:
            continue
        taken.add(entry.field)
        linear = entry.linear()
        cells[sense] = _Cell(
            tuple(entry.field.split(".")),
            linear.offset,
            linear.variable,
            linear.divisor / linear.factor,
        )
    return cells


Finish = Callable[[Fields, int, float], None]


def _finish(codec: str) -> Finish | None:
    """What a model's frames hold besides its measurements."""
    if codec == "dragino-ldds75":
        return _out_of_sight
    if codec == "decentlab-dl-tbrg":
        return _interval
    return _serial_number if codec.startswith("decentlab-") else None


def _out_of_sight(fields: Fields, _device: int, _every_s: float) -> None:
    """An LDDS75 sees a surface up to 7.5 m away (its user manual)."""
    distance = fields["distance_mm"]
    assert isinstance(distance, float)
    if distance > 7500.0:
        del fields["distance_mm"]
        fields["distance_status"] = "no_sensor"


def _serial_number(fields: Fields, device: int, _every_s: float) -> None:
    fields["device_id"] = device & 0xFFFF


def _interval(fields: Fields, device: int, every_s: float) -> None:
    fields["device_id"] = device & 0xFFFF
    fields["interval_s"] = min(round(every_s), 0xFFFF)


def _put(fields: Fields, path: tuple[str, ...], value: Field) -> None:
    node: dict[str, Any] = fields
    for step in path[:-1]:
        node = node.setdefault(step, {})
    node[path[-1]] = value
