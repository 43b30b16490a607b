"""Decentlab DL-TBRG: tipping-bucket rain gauge with a counter of tips that is never reset by sending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from telemetry.plugin import DecodeError, Field, Fields

from ..decentlab import read_message, write_message
from ..wire import check_port, refuse_unknown, to_raw

_SENSORS = (("rain", 4), ("battery", 1))
_RAIN = ("tips", "interval_s", "tips_total")
_KNOWN = frozenset({*_RAIN, "device_id", "battery_voltage"})


class DlTbrg:
    """Counts stay tips here: how much rain a tip is depends on the device and is its device type's scale.

    `tips` are those of the last `interval_s` seconds, `tips_total` all since installation (32 bits).
    """

    id = "decentlab-dl-tbrg"
    version = "1"

    def decode(self, f_port: int, payload: bytes) -> Fields:
        """Counts, seconds and V; a sensor whose flag is not set is left out."""
        check_port(f_port)
        device_id, words = read_message(payload, _SENSORS)
        fields: Fields = {"device_id": device_id}
        if "rain" in words:
            tips, interval, low, high = words["rain"]
            fields.update(tips=tips, interval_s=interval, tips_total=low + (high << 16))
        if "battery" in words:
            fields["battery_voltage"] = words["battery"][0] / 1000
        return fields

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        """Port 1 and a message of the rain sensor, the battery or both."""
        refuse_unknown(fields, _KNOWN)
        words: dict[str, Sequence[int]] = {}
        if not fields.keys().isdisjoint(_RAIN):
            total = to_raw(fields, "tips_total", 0, 0xFFFFFFFF)
            words["rain"] = (
                to_raw(fields, "tips", 0, 0xFFFF),
                to_raw(fields, "interval_s", 0, 0xFFFF),
                total & 0xFFFF,
                total >> 16,
            )
        if "battery_voltage" in fields:
            words["battery"] = (to_raw(fields, "battery_voltage", 0, 0xFFFF, 1000),)
        if not words:
            raise DecodeError("tips_total, battery_voltage: a message carries at least one of them")
        return 1, write_message(to_raw(fields, "device_id", 0, 0xFFFF), words, _SENSORS)


CODEC = DlTbrg()
