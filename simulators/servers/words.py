"""What the network servers' words have in common."""

from __future__ import annotations

from binascii import b2a_base64
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from . import Downlink, Transmission

encode = msgspec.json.Encoder().encode
_VARIANT = "89ab" * 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400
_GPS_EPOCH, _LEAP_SECONDS = 315_964_800, 18


def raw(value: Any) -> msgspec.Raw:
    """JSON that is the same in many messages."""
    return msgspec.Raw(encode(value))


def named_uuid(name: str) -> str:
    """The identifier that something of every simulation has."""
    return str(uuid5(NAMESPACE_URL, f"quantrac:simulated:{name}"))


def uuid_text(sixteen: bytes) -> str:
    """Any 16 bytes as a UUID of version 4, so without six of their bits."""
    text = sixteen.hex()
    variant = _VARIANT[int(text[16], 16)]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def queue_item(downlink: Downlink, f_cnt_down: int) -> str:
    """What the server calls a queued downlink: as its sender does, else by itself."""
    return downlink.id or named_uuid(f"downlink:{downlink.dev_eui}:{f_cnt_down}")


def base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def since_1970(time: datetime) -> tuple[int, int]:
    """Seconds and microseconds."""
    since = time - _EPOCH
    return since.days * _DAY + since.seconds, since.microseconds


def stamp(time: datetime, nanoseconds: int, zone: str = "Z") -> str:
    """A time in UTC with nine decimals."""
    seconds, rest = since_1970(time)
    return f"{_to_the_second(seconds)}.{rest * 1000 + nanoseconds:09d}{zone}"


@lru_cache(maxsize=1024)
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def heard_at(sent: Transmission) -> datetime:
    """The time that ChirpStack gives a frame: a gateway's with GNSS, else when the server had it first."""
    receptions = sent.receptions
    for reception in receptions:
        if reception.gateway.gnss:
            return sent.time
    return receptions[0].ns_time if receptions else sent.time


def since_gps_epoch(time: datetime) -> tuple[int, int]:
    """Seconds, with the leap seconds (18 since 2017), and milliseconds."""
    seconds, rest = since_1970(time)
    return seconds - _GPS_EPOCH + _LEAP_SECONDS, rest // 1000


def margin(sent: Transmission) -> int:
    """A DevStatusAns's: the loudest gateway's snr, within the six bits it has."""
    return max(-32, min(31, round(max(reception.snr for reception in sent.receptions))))


def battery_level(sent: Transmission) -> float:
    """A DevStatusAns's, as ChirpStack tells it: percent, of a byte from 1 to 254."""
    return round(max(1, round(sent.battery * 254)) / 254 * 100, 5)


@lru_cache(maxsize=1024)
def profile(vendor: str, model: str) -> tuple[str, str]:
    """ID and name of a device type's profile."""
    name = f"{vendor} {model}"
    return named_uuid(f"profile:{name}"), name
