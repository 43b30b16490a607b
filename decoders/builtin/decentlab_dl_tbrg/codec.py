"""Decentlab DL-TBRG: tipping-bucket rain gauge with a counter of tips that is never reset by sending.

Counts stay tips here: how much rain a tip is depends on the device and is its device type's scale. `tips` are
those of the last `interval_s` seconds, `tips_total` all since installation (32 bits).
"""

from __future__ import annotations

from ..decentlab import BATTERY, Decentlab, Sensor, Word

CODEC = Decentlab(
    "decentlab-dl-tbrg",
    Sensor("rain", Word("tips"), Word("interval_s", optional=True), Word("tips_total", words=2)),
    BATTERY,
)
