"""A frame as a simulated network server knows it, to be put into words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from simulators.servers import Gateway, Origin, Reception, Session, Transmission

TIME = datetime(2026, 3, 2, 9, 34, 15, 775023, tzinfo=UTC)
AT_GNSS = Gateway("0016c001f153a14c", "Trạm 1", 10.9512, 106.8225, 34.5, gnss=True)
INDOORS = Gateway("24e124fffef54092", "Trạm 2", 10.9, 106.9, 0.0, gnss=False)


def heard(gateway: Gateway, rssi: int, snr: float, after_ms: int, uplink_id: int) -> Reception:
    return Reception(gateway, rssi, snr, TIME + timedelta(milliseconds=after_ms), uplink_id, 327_391_801)


def transmission(**changes: Any) -> Transmission:
    """Heard by two gateways, of which one knows neither time nor place."""
    sent = Transmission(
        id=bytes(range(16)),
        origin=Origin(
            "24e124136b502217", "0024e10000000000", "Mực nước «B»", "Milesight", "EM300-TH", 10.95, 106.8
        ),
        session=Session("260b1c2d", bytes(range(100, 116))),
        time=TIME,
        published=TIME + timedelta(milliseconds=260),
        nanoseconds=7,
        f_cnt=1174,
        f_port=85,
        payload=bytes.fromhex("01755c03673401046865"),
        fields={"battery": 92, "temperature": 30.8, "humidity": 50.5, "alarm": False, "note": "ấm"},
        channel=3,
        frequency=923_400_000,
        spreading_factor=9,
        airtime_s=0.205824,
        receptions=(heard(AT_GNSS, -71, 10.5, 26, 4_217_106_255), heard(INDOORS, -118, -7.25, 37, 22_817)),
        battery=0.9,
    )
    return msgspec.structs.replace(sent, **changes)
