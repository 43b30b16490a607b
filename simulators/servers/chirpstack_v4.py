"""ChirpStack v4's MQTT integration in JSON, with the fields and omissions of 4.11.

Source: https://www.chirpstack.io/docs/chirpstack/integrations/events.html and its api/proto files. The
integration emits default values at the top, while rxInfo, txInfo and location leave zeros out.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ..message import rfc3339
from . import Origin, Reception, Transmission

APPLICATION = "Quan trắc"
TENANT = "Quantrac"
_APPLICATION_ID = str(uuid5(NAMESPACE_URL, "quantrac:simulated:application"))
_TENANT_ID = str(uuid5(NAMESPACE_URL, "quantrac:simulated:tenant"))
_REGION = "as923_2"
_GPS_EPOCH = datetime(1980, 1, 6, tzinfo=UTC)
_LEAP_SECONDS = 18


def up(sent: Transmission) -> tuple[str, dict[str, Any]]:
    """Topic and body of the uplink."""
    return _topic(sent, "up"), {
        **_head(sent),
        "devAddr": sent.session.dev_addr,
        "adr": True,
        "dr": 12 - sent.spreading_factor,
        "fCnt": sent.f_cnt,
        "fPort": sent.f_port,
        "confirmed": False,
        "data": b64encode(sent.payload).decode(),
        "object": sent.fields,
        "rxInfo": [_rx_info(sent, reception) for reception in sent.receptions],
        "txInfo": {
            "frequency": sent.frequency,
            "modulation": {
                "lora": {
                    "bandwidth": 125000,
                    "spreadingFactor": sent.spreading_factor,
                    "codeRate": "CR_4_5",
                }
            },
        },
        "regionConfigId": _REGION,
    }


def join(sent: Transmission) -> tuple[str, dict[str, Any]]:
    """Topic and body of the event that a join-accept was scheduled."""
    return _topic(sent, "join"), {
        **_head(sent),
        "devAddr": sent.session.dev_addr,
        "regionConfigId": _REGION,
    }


def status(sent: Transmission) -> tuple[str, dict[str, Any]]:
    """Topic and body of a DevStatusAns; it shares the deduplicationId of the uplink that carried it."""
    raw = max(1, round(sent.battery * 254))
    margin = round(max(reception.snr for reception in sent.receptions))
    return _topic(sent, "status"), {
        **_head(sent),
        "margin": max(-32, min(31, margin)),
        "externalPowerSource": False,
        "batteryLevelUnavailable": False,
        "batteryLevel": round(raw / 254 * 100, 5),
    }


def _topic(sent: Transmission, event: str) -> str:
    return f"application/{_APPLICATION_ID}/device/{sent.origin.dev_eui}/event/{event}"


def _head(sent: Transmission) -> dict[str, Any]:
    by_gps = any(reception.gateway.gnss for reception in sent.receptions)
    time = sent.time if by_gps or not sent.receptions else sent.receptions[0].ns_time
    return {
        "deduplicationId": str(sent.id),
        "time": _stamp(sent, time),
        "deviceInfo": _device_info(sent.origin),
    }


def _device_info(origin: Origin) -> dict[str, Any]:
    profile = f"{origin.vendor} {origin.model}"
    return {
        "tenantId": _TENANT_ID,
        "tenantName": TENANT,
        "applicationId": _APPLICATION_ID,
        "applicationName": APPLICATION,
        "deviceProfileId": str(uuid5(NAMESPACE_URL, f"quantrac:simulated:profile:{profile}")),
        "deviceProfileName": profile,
        "deviceName": origin.name,
        "devEui": origin.dev_eui,
        "deviceClassEnabled": "CLASS_A",
        "tags": {"simulated": "true"},
    }


def _rx_info(sent: Transmission, reception: Reception) -> dict[str, Any]:
    gateway = reception.gateway
    info: dict[str, Any] = {"gatewayId": gateway.id, "uplinkId": reception.uplink_id}
    if gateway.gnss:
        info["gwTime"] = _stamp(sent, sent.time)
    info["nsTime"] = _stamp(sent, reception.ns_time)
    if gateway.gnss:
        gps = (sent.time - _GPS_EPOCH).total_seconds() + _LEAP_SECONDS
        info["timeSinceGpsEpoch"] = f"{gps:.3f}s"
    numbers = {
        "rssi": reception.rssi,
        "snr": reception.snr,
        "channel": sent.channel,
        "rfChain": sent.channel // 4,
    }
    info.update((name, value) for name, value in numbers.items() if value)
    place = (
        {"latitude": gateway.latitude, "longitude": gateway.longitude, "altitude": gateway.altitude_m}
        if gateway.gnss
        else {}
    )
    info["location"] = {name: value for name, value in place.items() if value}
    info["context"] = b64encode(reception.counter_us.to_bytes(4, "big")).decode()
    info["metadata"] = {"region_common_name": "AS923_2", "region_config_id": _REGION}
    info["crcStatus"] = "CRC_OK"
    return info


def _stamp(sent: Transmission, time: datetime) -> str:
    return rfc3339(time, zone="+00:00", nanoseconds=sent.nanoseconds)
