"""ChirpStack v4's MQTT integration in protobuf (``json=false``), of version 4.11, on the same topics as JSON.

Source: integration/integration.proto, gw/gw.proto and common/common.proto in
https://github.com/chirpstack/chirpstack/tree/v4.11.0/api/proto.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from . import Downlink, Gateway, Origin, Reception, Said, Server, Transmission
from .chirpstack_v4 import (
    APPLICATION,
    APPLICATION_ID,
    REGION,
    REGION_NAME,
    RETRANSMISSION,
    TENANT,
    TENANT_ID,
    topic,
)
from .protowire import block, double, entry, fields, integer, moment, single, text, usual
from .words import (
    battery_level,
    heard_at,
    margin,
    profile,
    queue_item,
    since_1970,
    since_gps_epoch,
    uuid_text,
)

_WARNING, _F_CNT_RETRANSMISSION = 1, 7
_CR_4_5 = 1
_REGION_AND_CRC_OK = (
    entry(15, "region_common_name", REGION_NAME) + entry(15, "region_config_id", REGION) + integer(16, 2)
)


def up(sent: Transmission) -> Said:
    """The uplink."""
    parts = [
        _head(sent),
        text(4, sent.session.dev_addr),
        usual(5, sent.adr),
        usual(6, 12 - sent.spreading_factor),
        usual(7, sent.f_cnt),
        usual(8, sent.f_port),
        usual(9, sent.confirmed),
    ]
    if sent.payload:
        parts.append(block(10, sent.payload))
    if sent.fields:
        parts.append(fields(11, sent.fields))
    seconds, milliseconds = since_gps_epoch(sent.time)
    gps_epoch = moment(seconds, milliseconds * 1_000_000)
    by_gps = block(3, _moment(sent, sent.time)) + block(4, gps_epoch)
    parts += [block(12, _rx_info(sent, reception, by_gps)) for reception in sent.receptions]
    parts.append(_tx_info(sent.frequency, sent.spreading_factor))
    return topic(sent.origin, "up"), b"".join(parts)


def join(sent: Transmission) -> Said:
    """A join-accept was scheduled."""
    body = _head(sent) + text(4, sent.session.dev_addr) + text(7, REGION)
    return topic(sent.origin, "join"), body


def status(sent: Transmission) -> Said:
    """A DevStatusAns; it shares the deduplicationId of the uplink that carried it."""
    body = _head(sent) + integer(5, margin(sent)) + single(8, battery_level(sent))
    return topic(sent.origin, "status"), body


def log(sent: Transmission) -> Said:
    """A frame with the counter of one before."""
    body = (
        block(1, _moment(sent, heard_at(sent)))
        + block(2, _device_info(sent.origin))
        + integer(3, _WARNING)
        + integer(4, _F_CNT_RETRANSMISSION)
        + text(5, RETRANSMISSION)
        + entry(6, "deduplication_id", uuid_text(sent.id))
        + entry(6, "f_cnt_up", str(sent.f_cnt))
    )
    return topic(sent.origin, "log"), body


def ack(sent: Transmission, downlink: Downlink, f_cnt_down: int) -> Said:
    """The frame acknowledged a confirmed downlink."""
    told = text(4, queue_item(downlink, f_cnt_down)) + integer(5, True) + integer(6, f_cnt_down)
    return topic(sent.origin, "ack"), _head(sent) + told


def _head(sent: Transmission) -> bytes:
    time = block(2, _moment(sent, heard_at(sent)))
    return text(1, uuid_text(sent.id)) + time + block(3, _device_info(sent.origin))


def _device_info(origin: Origin) -> bytes:
    return (
        _of_profile(origin.vendor, origin.model) + text(7, origin.name) + text(8, origin.dev_eui) + _SIMULATED
    )


_SIMULATED = entry(9, "simulated", "true")  # class A is 0, and left out
_OF_ALL = text(1, TENANT_ID) + text(2, TENANT) + text(3, APPLICATION_ID) + text(4, APPLICATION)


@lru_cache(maxsize=1024)
def _of_profile(vendor: str, model: str) -> bytes:
    id_, name = profile(vendor, model)
    return _OF_ALL + text(5, id_) + text(6, name)


def _moment(sent: Transmission, time: datetime) -> bytes:
    seconds, rest = since_1970(time)
    return moment(seconds, rest * 1000 + sent.nanoseconds)


def _rx_info(sent: Transmission, reception: Reception, by_gps: bytes) -> bytes:
    gateway = reception.gateway
    return b"".join(
        (
            _gateway_id(gateway),
            integer(2, reception.uplink_id),
            by_gps if gateway.gnss else b"",
            usual(6, reception.rssi),
            single(7, reception.snr),
            usual(8, sent.channel),
            usual(9, sent.channel // 4),
            _location(gateway),
            block(13, reception.counter_us.to_bytes(4, "big")),
            _REGION_AND_CRC_OK,
            block(17, _moment(sent, reception.ns_time)),
        )
    )


@lru_cache(maxsize=4096)
def _gateway_id(gateway: Gateway) -> bytes:
    return text(1, gateway.id)


@lru_cache(maxsize=4096)
def _location(gateway: Gateway) -> bytes:
    if not gateway.gnss:
        return block(12, b"")
    place = double(1, gateway.latitude) + double(2, gateway.longitude) + double(3, gateway.altitude_m)
    return block(12, place)


@lru_cache(maxsize=256)
def _tx_info(frequency: int, spreading_factor: int) -> bytes:
    lora = integer(1, 125000) + integer(2, spreading_factor) + integer(5, _CR_4_5)
    return block(13, integer(1, frequency) + block(2, block(3, lora))) + text(16, REGION)


SERVER = Server(up, join, status, log, ack)
