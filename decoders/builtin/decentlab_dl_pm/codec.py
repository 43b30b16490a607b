"""Decentlab DL-PM: particulate matter, temperature, humidity and air pressure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from telemetry.plugin import DecodeError, Field, Fields

from ..decentlab import read_message, write_message
from ..wire import check_port, refuse_unknown, to_raw

_SENSORS = (("battery", 1), ("particles", 10), ("climate", 2), ("pressure", 1))
_PARTICLES = (
    ("pm1_0_mass_concentration", 10),
    ("pm2_5_mass_concentration", 10),
    ("pm4_mass_concentration", 10),
    ("pm10_mass_concentration", 10),
    ("typical_particle_size", 1),
    ("pm0_5_number_concentration", 10),
    ("pm1_0_number_concentration", 10),
    ("pm2_5_number_concentration", 10),
    ("pm4_number_concentration", 10),
    ("pm10_number_concentration", 10),
)
_PA = 2
_CLIMATE = ("air_temperature", "air_humidity")
_KNOWN = frozenset(
    {"device_id", "battery_voltage", "barometric_pressure", *_CLIMATE, *(name for name, _ in _PARTICLES)}
)


class DlPm:
    """The vendor's field names and units: µg/m³, 1/cm³, nm, °C, %, Pa, V."""

    id = "decentlab-dl-pm"
    version = "1"

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Fields of the sensors whose flag is set; the particle sensor is off without its 5 V supply."""
        check_port(f_port)
        device_id, words = read_message(payload, _SENSORS)
        fields: Fields = {"device_id": device_id}
        if "battery" in words:
            fields["battery_voltage"] = words["battery"][0] / 1000
        if "particles" in words:
            for (name, per_unit), word in zip(_PARTICLES, words["particles"], strict=True):
                fields[name] = word if per_unit == 1 else word / per_unit
        if "climate" in words:
            temperature, humidity = words["climate"]
            fields["air_temperature"] = 175.72 * temperature / 65536 - 46.85
            fields["air_humidity"] = 125 * humidity / 65536 - 6
        if "pressure" in words:
            fields["barometric_pressure"] = words["pressure"][0] * _PA
        return fields

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """Port 1 and a message of those sensors that have fields; of a sensor, all fields are needed."""
        refuse_unknown(fields, _KNOWN)
        words: dict[str, Sequence[int]] = {}
        if "battery_voltage" in fields:
            words["battery"] = (to_raw(fields, "battery_voltage", 0, 0xFFFF, 1000),)
        if any(name in fields for name, _ in _PARTICLES):
            words["particles"] = [to_raw(fields, name, 0, 0xFFFF, per_unit) for name, per_unit in _PARTICLES]
        if not fields.keys().isdisjoint(_CLIMATE):
            words["climate"] = (
                _word(fields, "air_temperature", 46.85, 175.72),
                _word(fields, "air_humidity", 6, 125),
            )
        if "barometric_pressure" in fields:
            words["pressure"] = (to_raw(fields, "barometric_pressure", 0, 0xFFFF, 1 / _PA),)
        if not words:
            raise DecodeError("fields: a message carries at least one sensor")
        return 1, write_message(to_raw(fields, "device_id", 0, 0xFFFF), words, _SENSORS)


def _word(fields: Mapping[str, Field], name: str, offset: float, span: float) -> int:
    """The 16-bit word of a quantity that spans `span` units, beginning at -`offset`."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DecodeError(f"{name}: a number is needed, got {value!r}")
    if not -offset <= value <= span - offset:
        raise DecodeError(f"{name}: {value} is outside {-offset:g} to {span - offset:g}")
    return min(round((value + offset) * 65536 / span), 0xFFFF)


CODEC = DlPm()
