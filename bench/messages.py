"""Test load: ChirpStack v4 uplinks as MQTT PUBLISH packets, made before anything is measured.

2,000 weather nodes send Cayenne LPP with six quantities, which a built-in device type maps; one to three
gateways hear each frame. Message `n` is frame `n // DEVICES` of device `n % DEVICES`, so that what a
database holds can be traced to its message. Fields: ChirpStack's api/proto/integration/integration.proto.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

DEVICES = 2000
READINGS = 6
DEVICE_TYPE = "cayenne-lpp-generic"
GAP_NS = 50_000
"""Time between two uplinks of the whole network: 20,000 a second."""
PACKET_IDS = 65535

_APPLICATION = "17c82e96-be03-4f38-aef3-f83d48582d97"
_GATEWAYS = (1, 1, 1, 2, 2, 3)  # of six frames, how many gateways hear each
_VARIANTS = 1000
_SEED = 4
_FRAME = struct.Struct(">BBhBBBBBHBBHBBhBBB")
_NETWORK_DELAY_NS = 41_000_000
_BODY = (
    b'{"deduplicationId":"%b","time":"%b","deviceInfo":%b,"devAddr":"%08x","adr":true,"dr":3,"fCnt":%d,'
    b'"fPort":2,"confirmed":false,"data":"%b","object":%b,"rxInfo":[%b],"txInfo":{"frequency":%d,'
    b'"modulation":{"lora":{"bandwidth":125000,"spreadingFactor":9,"codeRate":"CR_4_5"}}},'
    b'"regionConfigId":"as923_2"}'
)
# The second and third gateway have no GNSS: no time and no place of their own.
_RX = (
    b'{"gatewayId":"24e124fffef51a0c","uplinkId":%d,"gwTime":"%b","nsTime":"%b","rssi":%d,"snr":%b,'
    b'"channel":%d,"location":{"latitude":20.4453,"longitude":106.3421},'
    b'"crcStatus":"CRC_OK"}',
    b',{"gatewayId":"0016c001f153a14c","uplinkId":%d,"nsTime":"%b","rssi":%d,"snr":%b,"channel":%d,'
    b'"location":{},"crcStatus":"CRC_OK"}',
    b',{"gatewayId":"a84041ffff27c9e8","uplinkId":%d,"nsTime":"%b","rssi":%d,"snr":%b,"channel":%d,'
    b'"location":{},"crcStatus":"CRC_OK"}',
)


class Sample(NamedTuple):
    """What a node measured: °C, %, hPa, lx, and in the soil °C and %."""

    temperature: float
    humidity: float
    pressure: float
    light: int
    soil_temperature: float
    soil_moisture: float


class Corpus(NamedTuple):
    """Packets one after another in `file`; packet `i` is bytes `offsets[i]` to `offsets[i + 1]`."""

    file: Path
    offsets: npt.NDArray[np.int64]
    first: int

    def __len__(self) -> int:
        return len(self.offsets) - 1


def encode(sample: Sample) -> bytes:
    """As Cayenne LPP: four records of the air on channel 0, two of the soil on channel 1."""
    return _FRAME.pack(
        *(0, 103, round(sample.temperature * 10), 0, 104, round(sample.humidity * 2)),
        *(0, 115, round(sample.pressure * 10), 0, 101, sample.light),
        *(1, 103, round(sample.soil_temperature * 10), 1, 104, round(sample.soil_moisture * 2)),
    )


def samples(rng: random.Random, count: int) -> list[Sample]:
    return [_sample(rng) for _ in range(count)]


def decoded(sample: Sample) -> dict[str, Any]:
    """The same as ChirpStack's own Cayenne LPP codec gives it in `object`."""
    return {
        "temperatureSensor": {"0": sample.temperature, "1": sample.soil_temperature},
        "humiditySensor": {"0": sample.humidity, "1": sample.soil_moisture},
        "barometer": {"0": sample.pressure},
        "illuminanceSensor": {"0": float(sample.light)},
    }


def dev_eui(device: int) -> str:
    return f"a84041ff{device:08x}"


def number_of(f_cnt: int, eui: str) -> int:
    """Which message a stored frame came from."""
    return f_cnt * DEVICES + int(eui[8:], 16)


def topic(device: int) -> str:
    return f"application/{_APPLICATION}/device/{dev_eui(device)}/event/up"


def uplinks(first: int, count: int, began_ns: int) -> Iterator[tuple[str, bytes]]:
    """(topic, payload) of messages `first` and on; the first one's time is `began_ns` since 1970."""
    rng = random.Random(_SEED + first)
    payloads = [(base64.b64encode(encode(s)), _json(decoded(s))) for s in samples(rng, _VARIANTS)]
    devices = [(topic(device), _json(_device_info(device))) for device in range(DEVICES)]
    for number in range(first, first + count):
        device = number % DEVICES
        at = began_ns + (number - first) * GAP_NS
        time, ns_time = _text(at), _text(at + _NETWORK_DELAY_NS)
        data, fields = payloads[rng.randrange(_VARIANTS)]
        name, info = devices[device]
        heard = _GATEWAYS[number % len(_GATEWAYS)]
        rx = _RX[0] % (number, time, ns_time, -60 - number % 50, b"%.1f" % (10 - number % 19), number % 8)
        for gateway in range(1, heard):
            signal = (-90 - (number + gateway) % 30, b"%.2f" % (4.25 - (number + gateway) % 17))
            rx += _RX[gateway] % (number + gateway, ns_time, *signal, number % 8)
        frequency = 921_400_000 + number % 8 * 200_000
        address = 0x00180000 + device
        yield (
            name,
            _BODY % (_uuid(rng), time, info, address, number // DEVICES, data, fields, rx, frequency),
        )


def write_corpus(file: Path, first: int, count: int, began_ns: int) -> Corpus:
    """Messages as QoS 1 PUBLISH packets of MQTT 3.1.1, packet identifiers 1 to `PACKET_IDS` in turn."""
    offsets = np.zeros(count + 1, dtype=np.int64)
    at = 0
    with file.open("wb", buffering=1 << 20) as out:
        for i, (name, payload) in enumerate(uplinks(first, count, began_ns)):
            at += out.write(_packet(name.encode(), i % PACKET_IDS + 1, payload))
            offsets[i + 1] = at
    return Corpus(file, offsets, first)


def _packet(name: bytes, packet_id: int, payload: bytes) -> bytes:
    size = 4 + len(name) + len(payload)
    length = bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            break
    return b"\x32%b%b%b%b%b" % (bytes(length), len(name).to_bytes(2), name, packet_id.to_bytes(2), payload)


def _sample(rng: random.Random) -> Sample:
    return Sample(
        temperature=rng.randrange(180, 380) / 10,
        humidity=rng.randrange(90, 200) / 2,
        pressure=rng.randrange(9900, 10200) / 10,
        light=rng.randrange(60_000),
        soil_temperature=rng.randrange(180, 320) / 10,
        soil_moisture=rng.randrange(20, 160) / 2,
    )


def _device_info(device: int) -> dict[str, Any]:
    return {
        "tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242",
        "tenantName": "Thái Bình",
        "applicationId": _APPLICATION,
        "applicationName": "Thời tiết",
        "deviceProfileId": "14855bf7-d10d-4aee-b618-ebfcb64dc7ad",
        "deviceProfileName": "LPP node",
        "deviceName": f"weather-{device:04d}",
        "devEui": dev_eui(device),
        "deviceClassEnabled": "CLASS_A",
    }


def _uuid(rng: random.Random) -> bytes:
    text = b"%032x" % rng.getrandbits(128)
    return b"%b-%b-4%b-a%b-%b" % (text[:8], text[8:12], text[13:16], text[17:20], text[20:])


def _text(at_ns: int) -> bytes:
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC)
    return b"%b.%09d+00:00" % (whole.strftime("%Y-%m-%dT%H:%M:%S").encode(), nanoseconds)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
