"""The Things Stack v3's MQTT integration: zero, empty and false are left out, 64-bit integers are strings.

Source: https://www.thethingsindustries.com/docs/integrations/data-formats/ and messages.proto of
lorawan-stack.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from ..message import rfc3339
from . import Reception, Transmission

APPLICATION = "quan-trac"
TENANT = "dong-nai"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BEFORE_PUBLISHED = timedelta(milliseconds=60)
_PLACE_SOURCE = "SOURCE_REGISTRY"


def up(sent: Transmission) -> tuple[str, dict[str, Any]]:
    """Topic and body of the uplink, marked simulated."""
    first = min(reception.ns_time for reception in sent.receptions)
    served = first + timedelta(milliseconds=20)
    uplink = _without_defaults(
        {
            "session_key_id": b64encode(sent.session.key_id).decode(),
            "f_port": sent.f_port,
            "f_cnt": sent.f_cnt,
            "frm_payload": b64encode(sent.payload).decode(),
        }
    )
    uplink["decoded_payload"] = sent.fields
    uplink |= _without_defaults(
        {
            "rx_metadata": [_rx_metadata(sent, reception) for reception in sent.receptions],
            "settings": {
                "data_rate": {
                    "lora": {
                        "bandwidth": 125000,
                        "spreading_factor": sent.spreading_factor,
                        "coding_rate": "4/5",
                    }
                },
                "frequency": str(sent.frequency),
                "timestamp": sent.receptions[0].counter_us,
                "time": _stamp(sent, sent.time),
            },
            "received_at": _stamp(sent, served),
            "consumed_airtime": f"{sent.airtime_s:.6f}s",
            "locations": {
                "user": {
                    "latitude": sent.origin.latitude,
                    "longitude": sent.origin.longitude,
                    "source": _PLACE_SOURCE,
                }
            },
            "version_ids": {
                "brand_id": sent.origin.vendor.lower(),
                "model_id": sent.origin.model.split()[0].lower(),
                "band_id": "AS_923_2",
            },
            "network_ids": {"net_id": "000013", "tenant_id": TENANT, "cluster_id": "as1"},
            "last_battery_percentage": {
                "f_cnt": sent.f_cnt,
                "value": round(sent.battery * 100, 6),
                "received_at": _stamp(sent, served),
            },
        }
    )
    return _topic(sent, "up"), {
        **_head(sent, "gs:uplink"),
        "uplink_message": uplink,
        "simulated": True,
    }


def join(sent: Transmission) -> tuple[str, dict[str, Any]]:
    """Topic and body of the event that a join was accepted, marked simulated."""
    return _topic(sent, "join"), {
        **_head(sent, "gs:uplink"),
        "join_accept": {
            "session_key_id": b64encode(sent.session.key_id).decode(),
            "received_at": _stamp(sent, sent.time),
        },
        "simulated": True,
    }


def _topic(sent: Transmission, kind: str) -> str:
    return f"v3/{APPLICATION}@{TENANT}/devices/{_device_id(sent)}/{kind}"


def _device_id(sent: Transmission) -> str:
    return f"eui-{sent.origin.dev_eui}"


def _head(sent: Transmission, kind: str) -> dict[str, Any]:
    return {
        "end_device_ids": {
            "device_id": _device_id(sent),
            "application_ids": {"application_id": APPLICATION},
            "dev_eui": sent.origin.dev_eui.upper(),
            "join_eui": sent.origin.join_eui.upper(),
            "dev_addr": sent.session.dev_addr.upper(),
        },
        "correlation_ids": [f"{kind}:{_ulid(sent)}"],
        "received_at": _stamp(sent, sent.published - _BEFORE_PUBLISHED),
    }


def _rx_metadata(sent: Transmission, reception: Reception) -> dict[str, Any]:
    gateway = reception.gateway
    metadata: dict[str, Any] = {
        "gateway_ids": {"gateway_id": f"eui-{gateway.id}", "eui": gateway.id.upper()},
        "time": _stamp(sent, sent.time) if gateway.gnss else "",
        "timestamp": reception.counter_us,
        "rssi": reception.rssi,
        "channel_rssi": reception.rssi,
        "snr": reception.snr,
        "location": {
            "latitude": gateway.latitude,
            "longitude": gateway.longitude,
            "altitude": round(gateway.altitude_m),
            "source": _PLACE_SOURCE,
        },
        "uplink_token": b64encode(reception.uplink_id.to_bytes(4, "big")).decode(),
        "channel_index": sent.channel,
        "received_at": _stamp(sent, reception.ns_time),
    }
    return metadata


def _without_defaults(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out zero, empty and false at every depth, as protobuf's JSON mapping does."""
    kept: dict[str, Any] = {}
    for name, value in message.items():
        if isinstance(value, dict):
            value = _without_defaults(value)
        elif isinstance(value, list):
            value = [_without_defaults(item) for item in value]
        if value:
            kept[name] = value
    return kept


def _ulid(sent: Transmission) -> str:
    """48 bits of milliseconds and 80 bits that look random, in Crockford's base 32."""
    tail = blake2b(sent.id.bytes, digest_size=10).digest()
    number = int(sent.time.timestamp() * 1000) << 80 | int.from_bytes(tail, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def _stamp(sent: Transmission, time: datetime) -> str:
    return rfc3339(time, nanoseconds=sent.nanoseconds)
