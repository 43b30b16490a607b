"""ChirpStack v4's MQTT integration in JSON, with the fields and omissions of 4.11, and with those of 4.0.

4.11 emits default values at the top, while rxInfo, txInfo and location leave zeros out. 4.0 leaves them out
everywhere; its gateways have a `time`, which 4.6 renamed to gwTime, and no nsTime.

Source: https://www.chirpstack.io/docs/chirpstack/integrations/events.html and, of the tags v4.0.0 and
v4.11.0 of https://github.com/chirpstack/chirpstack, api/proto and chirpstack/src/uplink/data.rs.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from telemetry.plugin import Fields

from . import Downlink, Gateway, Origin, Reception, Said, Server, Transmission
from .words import (
    base64,
    battery_level,
    encode,
    heard_at,
    margin,
    named_uuid,
    profile,
    queue_item,
    raw,
    since_gps_epoch,
    stamp,
    uuid_text,
)

APPLICATION = "Quan trắc"
TENANT = "Quantrac"
APPLICATION_ID = named_uuid("application")
TENANT_ID = named_uuid("tenant")
REGION, REGION_NAME = "as923_2", "AS923_2"
RETRANSMISSION = "Uplink was flagged as re-transmission / frame-counter did not increment"
_TAGS = raw({"simulated": "true"})


class _DeviceInfo(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    tenant_id: str
    tenant_name: str
    application_id: str
    application_name: str
    device_profile_id: str
    device_profile_name: str
    device_name: str
    dev_eui: str
    device_class_enabled: str = ""
    tags: Raw = msgspec.Raw()


class _Location(msgspec.Struct, omit_defaults=True, gc=False):
    latitude: float = 0
    longitude: float = 0
    altitude: float = 0


class _RxInfo(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    gateway_id: str
    uplink_id: int
    gw_time: str | None = None
    time: str | None = None
    ns_time: str | None = None
    time_since_gps_epoch: str | None = None
    rssi: int = 0
    snr: float = 0
    channel: int = 0
    rf_chain: int = 0
    location: Raw = msgspec.Raw()
    context: str = ""
    metadata: Raw = msgspec.Raw()
    crc_status: str = ""


class _Event(msgspec.Struct, rename="camel", gc=False):
    deduplication_id: str
    time: str
    device_info: _DeviceInfo


class _Up(_Event, gc=False):
    dev_addr: str
    adr: bool = False
    dr: int = 0
    f_cnt: int = 0
    f_port: int = 0
    confirmed: bool = False
    data: str = ""
    object: Fields | UnsetType = UNSET
    rx_info: list[_RxInfo] = []
    tx_info: Raw = msgspec.Raw()
    region_config_id: str = ""


class _Join(_Event, gc=False):
    dev_addr: str
    region_config_id: str = ""


class _Status(_Event, gc=False):
    margin: int = 0
    external_power_source: bool = False
    battery_level_unavailable: bool = False
    battery_level: float = 0


class _Ack(_Event, gc=False):
    queue_item_id: str = ""
    acknowledged: bool = False
    f_cnt_down: int = 0


class _Log(msgspec.Struct, rename="camel", gc=False):
    time: str
    device_info: _DeviceInfo
    level: str
    code: str
    description: str
    context: dict[str, str]


class _UpOmitting(_Up, omit_defaults=True, gc=False):
    pass


class _StatusOmitting(_Status, omit_defaults=True, gc=False):
    pass


class _JoinOmitting(_Join, omit_defaults=True, gc=False):
    pass


class _AckOmitting(_Ack, omit_defaults=True, gc=False):
    pass


class _Version(NamedTuple):
    """What differs from one version to another."""

    up: type[_Up]
    join: type[_Join]
    status: type[_Status]
    ack: type[_Ack]
    old: bool
    region: str
    device_class: str
    crc_status: str
    metadata: Raw


_V4_11 = _Version(
    _Up,
    _Join,
    _Status,
    _Ack,
    False,
    REGION,
    "CLASS_A",
    "CRC_OK",
    raw({"region_common_name": REGION_NAME, "region_config_id": REGION}),
)
_V4_0 = _Version(
    _UpOmitting,
    _JoinOmitting,
    _StatusOmitting,
    _AckOmitting,
    True,
    "",
    "",
    "",
    raw({"region_name": REGION, "region_common_name": REGION_NAME}),
)


def topic(origin: Origin, event: str) -> str:
    """Where ChirpStack v4 publishes an event, whichever marshaler it uses."""
    return f"application/{APPLICATION_ID}/device/{origin.dev_eui}/event/{event}"


def _up(version: _Version, sent: Transmission) -> Said:
    id_, time, info = _head(version, sent)
    event = version.up(
        id_,
        time,
        info,
        sent.session.dev_addr,
        sent.adr,
        12 - sent.spreading_factor,
        sent.f_cnt,
        sent.f_port,
        sent.confirmed,
        base64(sent.payload),
        sent.fields or UNSET,
        _rx_info(version, sent, time),
        _tx_info(sent.frequency, sent.spreading_factor),
        version.region,
    )
    return topic(sent.origin, "up"), encode(event)


def _join(version: _Version, sent: Transmission) -> Said:
    event = version.join(*_head(version, sent), sent.session.dev_addr, version.region)
    return topic(sent.origin, "join"), encode(event)


def _status(version: _Version, sent: Transmission) -> Said:
    """It shares the deduplicationId of the uplink that carried it."""
    event = version.status(*_head(version, sent), margin(sent), False, False, battery_level(sent))
    return topic(sent.origin, "status"), encode(event)


def _log(version: _Version, sent: Transmission) -> Said:
    id_, time, info = _head(version, sent)
    context = {"deduplication_id": id_}
    if not version.old:
        context["f_cnt_up"] = str(sent.f_cnt)
    event = _Log(time, info, "WARNING", "UPLINK_F_CNT_RETRANSMISSION", RETRANSMISSION, context)
    return topic(sent.origin, "log"), encode(event)


def _ack(version: _Version, sent: Transmission, downlink: Downlink, f_cnt_down: int) -> Said:
    event = version.ack(*_head(version, sent), queue_item(downlink, f_cnt_down), True, f_cnt_down)
    return topic(sent.origin, "ack"), encode(event)


def _head(version: _Version, sent: Transmission) -> tuple[str, str, _DeviceInfo]:
    time = stamp(heard_at(sent), sent.nanoseconds, "+00:00")
    return uuid_text(sent.id), time, _device_info(version, sent.origin)


def _device_info(version: _Version, origin: Origin) -> _DeviceInfo:
    return _DeviceInfo(
        TENANT_ID,
        TENANT,
        APPLICATION_ID,
        APPLICATION,
        *profile(origin.vendor, origin.model),
        origin.name,
        origin.dev_eui,
        version.device_class,
        _TAGS,
    )


def _rx_info(version: _Version, sent: Transmission, by_gps: str) -> list[_RxInfo]:
    """`by_gps` is the frame's own time: that of the gateways with GNSS, if there is any."""
    seconds, milliseconds = since_gps_epoch(sent.time)
    gps_epoch = f"{seconds}.{milliseconds:03d}s"
    return [_heard(version, sent, reception, by_gps, gps_epoch) for reception in sent.receptions]


def _heard(
    version: _Version, sent: Transmission, reception: Reception, by_gps: str, gps_epoch: str
) -> _RxInfo:
    gateway, old = reception.gateway, version.old
    gnss = gateway.gnss
    return _RxInfo(
        gateway.id,
        reception.uplink_id,
        by_gps if gnss and not old else None,
        by_gps if gnss and old else None,
        None if old else stamp(reception.ns_time, sent.nanoseconds, "+00:00"),
        gps_epoch if gnss else None,
        reception.rssi,
        reception.snr or 0,
        sent.channel,
        sent.channel // 4,
        _location(gateway),
        base64(reception.counter_us.to_bytes(4, "big")),
        version.metadata,
        version.crc_status,
    )


@lru_cache(maxsize=4096)
def _location(gateway: Gateway) -> Raw:
    if not gateway.gnss:
        return raw({})
    return raw(_Location(gateway.latitude or 0, gateway.longitude or 0, gateway.altitude_m or 0))


@lru_cache(maxsize=256)
def _tx_info(frequency: int, spreading_factor: int) -> Raw:
    lora = {"bandwidth": 125000, "spreadingFactor": spreading_factor, "codeRate": "CR_4_5"}
    return raw({"frequency": frequency, "modulation": {"lora": lora}})


def _server(version: _Version) -> Server:
    return Server(*(partial(event, version) for event in (_up, _join, _status, _log, _ack)))


SERVER = _server(_V4_11)
SERVER_4_0 = _server(_V4_0)
