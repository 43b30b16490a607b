"""Dragino LDDS75: ultrasonic distance to a water surface or another flat object."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from telemetry.plugin import DecodeError, Field, Fields

from ..wire import check_port, check_size, refuse_unknown, to_flag, to_raw

_PORT = 2
_BATTERY_BITS = 0x3FFF
# "Flat object range 280mm - 7500mm"; firmware 1.1.4 and later sends 20 mm for anything nearer.
_NEAREST_MM = 280
_TOO_NEAR_MM = 20
# A DS18B20 measures -55 to +125 °C; anything else means that no probe is connected.
_PROBE_C = (-55.0, 125.0)
_NO_PROBE = 0x7FFF
_FULL = struct.Struct(">HHBhB")
_KNOWN = frozenset(
    {
        "battery_voltage",
        "distance_mm",
        "distance_status",
        "interrupt",
        "temperature_ds18b20",
        "sensor_detected",
    }
)


class Ldds75:
    """Frames of 4, 5, 7 or 8 bytes: the later fields are optional, in this order.

    `distance_status` says why `distance_mm` is missing: ``no_sensor`` or ``too_near``, which in a river
    means that the water has come within 28 cm of the sensor. Otherwise it is ``ok``.
    """

    id = "dragino-ldds75"
    version = "1"

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Fields of one frame: V, mm, °C and booleans; port 2 only."""
        check_port(f_port, _PORT)
        size = len(payload)
        check_size(payload, 0, 2, "battery_voltage")
        check_size(payload, 2, 2, "distance_mm")
        if size > _FULL.size:
            raise DecodeError(f"byte {_FULL.size}: {size - _FULL.size} more after the end of the frame")
        if size == 6:
            check_size(payload, 5, 2, "temperature_ds18b20")
        battery, distance, interrupt, temperature, detected = _FULL.unpack(payload.ljust(_FULL.size, b"\0"))

        status = "no_sensor" if distance == 0 or (size > 7 and not detected) else "ok"
        if status == "ok" and distance < _NEAREST_MM:
            status = "too_near"
        fields: Fields = {"battery_voltage": (battery & _BATTERY_BITS) / 1000, "distance_status": status}
        if status == "ok":
            fields["distance_mm"] = distance
        if size > 4:
            fields["interrupt"] = _flag(interrupt, 4, "interrupt")
        if size > 6 and _PROBE_C[0] <= temperature / 10 <= _PROBE_C[1]:
            fields["temperature_ds18b20"] = temperature / 10
        if size > 7:
            fields["sensor_detected"] = _flag(detected, 7, "sensor_detected")
        return fields

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """Port 2 and 8 bytes; needs `battery_voltage`, and a distance or the status that says why none.

        A distance under 280 mm, also a negative one (the sensor is under water), is sent as too near.
        """
        refuse_unknown(fields, _KNOWN)
        status = fields.get("distance_status", "ok")
        if status == "ok":
            distance = to_raw(fields, "distance_mm", -0xFFFF, 0xFFFF)
            if distance < _NEAREST_MM:
                distance = _TOO_NEAR_MM
        elif status in ("no_sensor", "too_near") and "distance_mm" not in fields:
            distance = 0 if status == "no_sensor" else _TOO_NEAR_MM
        else:
            raise DecodeError(
                f"distance_status: {status!r} is not ok, no_sensor or too_near without a distance"
            )
        temperature = _NO_PROBE
        if "temperature_ds18b20" in fields:
            temperature = to_raw(fields, "temperature_ds18b20", -550, 1250, 10)
        return _PORT, _FULL.pack(
            to_raw(fields, "battery_voltage", 0, _BATTERY_BITS, 1000),
            distance,
            to_flag(fields, "interrupt") if "interrupt" in fields else 0,
            temperature,
            to_flag(fields, "sensor_detected") if "sensor_detected" in fields else int(status != "no_sensor"),
        )


def _flag(raw: int, at: int, field: str) -> bool:
    if raw > 1:
        raise DecodeError(f"byte {at}: {field} is 0 or 1, got {raw}")
    return raw == 1


CODEC = Ldds75()
